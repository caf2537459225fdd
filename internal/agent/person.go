package agent

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
)

// Person acts as a person with a browser: it keeps cookies, follows redirects and submits forms. It stops when a
// redirect leaves the authorization server.
type Person struct {
	email, password string

	browser *http.Client
	says    *Transcript
}

// NewPerson returns a person who can sign in at issuer.
func NewPerson(email, password, issuer string, says *Transcript) (*Person, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	return &Person{email, password,
		&http.Client{Jar: jar, CheckRedirect: func(next *http.Request, _ []*http.Request) error {
			if !strings.HasPrefix(next.URL.String(), issuer+"/") {
				return http.ErrUseLastResponse
			}
			says.redirect(next.URL)
			return nil
		}}, says}, nil
}

// Page is the page that the browser shows, or the address outside the server to which it was redirected.
type Page struct {
	URL   *url.URL
	Title string
	forms []*Form
}

// Form is an HTML form: its action, the names of its fields, and the values of its hidden inputs and ticked boxes.
type Form struct {
	Values url.Values
	action string
	fields []string
}

// Open opens an address in the browser.
func (p *Person) Open(ctx context.Context, address string) (*Page, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	return p.load(req)
}

// SignIn submits the page's sign-in form.
func (p *Person) SignIn(ctx context.Context, on *Page) (*Page, error) {
	form, err := on.Form("password")
	if err != nil {
		return nil, err
	}
	form.Values.Set("email", p.email)
	form.Values.Set("password", p.password)
	return p.Submit(ctx, form)
}

// Allow submits the page's consent form with all ticked boxes.
func (p *Person) Allow(ctx context.Context, on *Page) (page *Page, allowed []string, err error) {
	form, err := on.Form("decision")
	if err != nil {
		return nil, nil, err
	}
	form.Values.Set("decision", "allow")
	page, err = p.Submit(ctx, form)
	return page, form.Values["scope"], err
}

// Submit sends a form.
func (p *Person) Submit(ctx context.Context, f *Form) (*Page, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.action, strings.NewReader(f.Values.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return p.load(req)
}

func (p *Person) load(req *http.Request) (*Page, error) {
	p.says.request(req)
	resp, err := p.browser.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if away, err := resp.Location(); err == nil {
		p.says.redirect(away)
		return &Page{URL: away}, nil
	}
	shown, err := parse(resp.Request.URL, io.LimitReader(resp.Body, 1<<20))
	switch {
	case err != nil:
		return nil, fmt.Errorf("the page at %s is not readable: %w", resp.Request.URL.Path, err)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("the browser shows an error: %s %q", resp.Status, shown.Title)
	}
	return shown, nil
}

// Form returns the form of the page that has the field with the given name.
func (p *Page) Form(field string) (*Form, error) {
	for _, f := range p.forms {
		if slices.Contains(f.fields, field) {
			return f, nil
		}
	}
	return nil, fmt.Errorf("the page %q at %s has no form with the field %s", p.Title, p.URL.Path, field)
}

// parse reads the title and the forms from the HTML of the page at address.
func parse(address *url.URL, text io.Reader) (*Page, error) {
	p := &Page{URL: address}
	d := xml.NewDecoder(text)
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	var f *Form
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return p, nil
		}
		if err != nil {
			return nil, err
		}
		element, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		attributes := map[string]string{}
		for _, a := range element.Attr {
			attributes[a.Name.Local] = a.Value
		}
		switch element.Name.Local {
		case "title":
			if text, err := d.Token(); err == nil {
				characters, _ := text.(xml.CharData)
				p.Title = string(characters)
			}
		case "form":
			action, err := address.Parse(attributes["action"])
			if err != nil {
				return nil, err
			}
			f = &Form{action: action.String(), Values: url.Values{}}
			p.forms = append(p.forms, f)
		case "input", "button":
			if f == nil {
				continue
			}
			f.fields = append(f.fields, attributes["name"])
			_, checked := attributes["checked"]
			if kind := attributes["type"]; kind == "hidden" || kind == "checkbox" && checked {
				f.Values.Add(attributes["name"], attributes["value"])
			}
		}
	}
}
