package clients_test

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// A person acts as somebody with a browser who signs in, gives consent, and follows every redirect. It keeps cookies
// and submits forms but runs no scripts.
type person struct {
	email, password string
	browser         *http.Client
	cancels         bool // the sign-in
	signedIn, asked int  // how often the person gave the password, and was asked for consent
}

func newPerson(t *testing.T, email, password string) *person {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &person{email: email, password: password, browser: &http.Client{
		Jar:           jar,
		Timeout:       time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Visit opens an authorization URL, signs in and gives consent. It returns the URL of the client to which the
// authorization server redirects the browser, without opening it.
func (p *person) Visit(authorizationURL string) (string, error) {
	start, err := url.Parse(authorizationURL)
	if err != nil {
		return "", err
	}
	client, err := url.Parse(start.Query().Get("redirect_uri"))
	if err != nil {
		return "", err
	}
	page, err := load(p.browser.Get(authorizationURL))
	for range 30 {
		switch {
		case err != nil:
			return "", err
		case page.next != nil && page.next.Scheme == client.Scheme && page.next.Host == client.Host:
			return page.next.String(), nil
		case page.next != nil:
			page, err = load(p.browser.Get(page.next.String()))
			continue
		case page.status != http.StatusOK:
			return "", fmt.Errorf("%s answers %d:\n%s", page.url.Path, page.status, page.body)
		}
		f, err2 := p.fill(page.body)
		if err2 != nil {
			return "", fmt.Errorf("%s: %w in\n%s", page.url.Path, err2, page.body)
		}
		target, err2 := page.url.Parse(f.action)
		if err2 != nil {
			return "", err2
		}
		page, err = load(p.browser.PostForm(target.String(), f.values))
	}
	return "", errors.New("still no redirect to the client after thirty pages")
}

// A page is the response that a browser received.
type page struct {
	url    *url.URL
	status int
	next   *url.URL // target of a redirect, or nil
	body   string
}

// load reads and closes a response.
func load(resp *http.Response, err error) (*page, error) {
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	next, err := resp.Location()
	if err != nil && !errors.Is(err, http.ErrNoLocation) {
		return nil, err
	}
	return &page{resp.Request.URL, resp.StatusCode, next, string(body)}, nil
}

// A form is a filled-in form.
type form struct {
	action string
	values url.Values
	names  []string // of all inputs and buttons
}

// fill finds the page's sign-in or consent form and fills it in.
func (p *person) fill(page string) (*form, error) {
	forms, err := read(page)
	if err != nil {
		return nil, err
	}
	for _, f := range forms {
		switch {
		case slices.Contains(f.names, "email") && slices.Contains(f.names, "password"):
			if p.cancels {
				f.values.Set("cancel", "1")
				return f, nil
			}
			p.signedIn++
			f.values.Set("email", p.email)
			f.values.Set("password", p.password)
			return f, nil
		case slices.Contains(f.names, "login") && slices.Contains(f.names, "password"): // of oidc-provider
			name, _, _ := strings.Cut(p.email, "@")
			f.values.Set("login", name)
			f.values.Set("password", p.password)
			return f, nil
		case f.values.Get("prompt") == "consent": // of oidc-provider
			return f, nil
		case slices.Contains(f.names, "decision"):
			p.asked++
			f.values.Set("decision", "allow")
			return f, nil
		}
	}
	return nil, errors.New("neither a sign-in nor a consent form")
}

// read returns the forms of a page with the values that a browser would send: hidden inputs and ticked checkboxes.
func read(page string) (forms []*form, err error) {
	dec := xml.NewDecoder(strings.NewReader(page))
	dec.Strict, dec.AutoClose, dec.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	var current *form
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return forms, nil
		}
		if err != nil {
			return nil, err
		}
		if end, ok := token.(xml.EndElement); ok && end.Name.Local == "form" {
			current = nil
		}
		element, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		attr := map[string]string{}
		for _, a := range element.Attr {
			attr[a.Name.Local] = a.Value
		}
		_, checked := attr["checked"]
		switch name := attr["name"]; element.Name.Local {
		case "form":
			current = &form{action: attr["action"], values: url.Values{}}
			forms = append(forms, current)
		case "input", "button":
			if current == nil || name == "" {
				continue
			}
			current.names = append(current.names, name)
			if attr["type"] == "hidden" || attr["type"] == "checkbox" && checked {
				current.values.Add(name, attr["value"])
			}
		}
	}
}
