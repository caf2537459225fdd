package main

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

// person sits at a browser: it keeps cookies, follows redirects, and submits the
// forms it is shown. It stops where the browser leaves the authorization server.
type person struct {
	email, password string

	browser *http.Client
	says    *transcript
}

func newPerson(email, password, issuer string, says *transcript) (person, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return person{}, err
	}
	return person{email, password, &http.Client{Jar: jar, CheckRedirect: func(next *http.Request, _ []*http.Request) error {
		if !strings.HasPrefix(next.URL.String(), issuer+"/") {
			return http.ErrUseLastResponse
		}
		says.redirect(next.URL)
		return nil
	}}, says}, nil
}

// page is what the browser shows, or the address it was sent away to.
type page struct {
	url   *url.URL
	title string
	forms []*form
}

// form is an HTML form: where it goes, the names of its fields, and the values
// of its hidden inputs and ticked boxes.
type form struct {
	action string
	fields []string
	values url.Values
}

func (p *person) open(ctx context.Context, address string) (*page, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	return p.load(req)
}

func (p *person) submit(ctx context.Context, f *form) (*page, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.action, strings.NewReader(f.values.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return p.load(req)
}

func (p *person) load(req *http.Request) (*page, error) {
	p.says.request(req)
	resp, err := p.browser.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if away, err := resp.Location(); err == nil {
		p.says.redirect(away)
		return &page{url: away}, nil
	}
	shown, err := parse(resp.Request.URL, io.LimitReader(resp.Body, 1<<20))
	switch {
	case err != nil:
		return nil, fmt.Errorf("the page at %s is not readable: %w", resp.Request.URL.Path, err)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("the browser shows an error: %s %q", resp.Status, shown.title)
	}
	return shown, nil
}

// form returns the page's form that has a field of that name.
func (p *page) form(field string) (*form, error) {
	for _, f := range p.forms {
		if slices.Contains(f.fields, field) {
			return f, nil
		}
	}
	return nil, fmt.Errorf("the page %q at %s has no form with the field %s", p.title, p.url.Path, field)
}

// parse takes title and forms out of the HTML of the page at address.
func parse(address *url.URL, text io.Reader) (*page, error) {
	p := &page{url: address}
	d := xml.NewDecoder(text)
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	var f *form
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
				p.title = string(characters)
			}
		case "form":
			action, err := address.Parse(attributes["action"])
			if err != nil {
				return nil, err
			}
			f = &form{action: action.String(), values: url.Values{}}
			p.forms = append(p.forms, f)
		case "input", "button":
			if f == nil {
				continue
			}
			f.fields = append(f.fields, attributes["name"])
			_, checked := attributes["checked"]
			if kind := attributes["type"]; kind == "hidden" || kind == "checkbox" && checked {
				f.values.Add(attributes["name"], attributes["value"])
			}
		}
	}
}
