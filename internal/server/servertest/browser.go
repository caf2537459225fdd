package servertest

import (
	"encoding/xml"
	"errors"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Browser is a person's browser. It keeps cookies and sends Origin and Sec-Fetch-Site as browsers do.
type Browser struct {
	// Header is sent with every request and overrides the browser's own header.
	Header http.Header

	jar *cookiejar.Jar
	s   *Server
	t   testing.TB
}

// Browser returns a new browser without cookies.
func (s *Server) Browser(t testing.TB) *Browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatalf("servertest: %v", err)
	}
	return &Browser{Header: http.Header{}, jar: jar, s: s, t: t}
}

// Cookies returns the cookies that the browser would send to the server, by name.
func (b *Browser) Cookies() map[string]string {
	cookies := map[string]string{}
	for _, c := range b.jar.Cookies(b.base()) {
		cookies[c.Name] = c.Value
	}
	return cookies
}

// SetCookie sets a cookie, as an attacker with access to the browser could. An empty value removes it.
func (b *Browser) SetCookie(name, value string) {
	c := &http.Cookie{Name: name, Value: value, Path: "/", Secure: b.base().Scheme == "https", HttpOnly: true,
		SameSite: http.SameSiteLaxMode}
	if value == "" {
		c.MaxAge = -1
	}
	b.jar.SetCookies(b.base(), []*http.Cookie{c})
}

// origin returns the origin of the server's pages.
func (b *Browser) origin() string {
	u := b.base()
	return u.Scheme + "://" + u.Host
}

func (b *Browser) base() *url.URL {
	u, err := url.Parse(b.s.URL)
	if err != nil {
		b.t.Fatalf("servertest: %v", err)
	}
	return u
}

// Authorize opens an authorization request, as if an application on the person's computer had started the browser.
func (b *Browser) Authorize(params url.Values, tweaks ...Tweak) *Page {
	b.t.Helper()
	return b.open(params, newRequest(http.MethodGet, b.s.URL+"/oauth2/authorize", params, tweaks))
}

// Get opens ref, a path of the server with or without a query, or a URL of the server.
func (b *Browser) Get(ref string, tweaks ...Tweak) *Page {
	b.t.Helper()
	return b.open(nil, newRequest(http.MethodGet, b.resolve(ref), nil, tweaks))
}

// Post posts params to a path of the server, like a form of one of its own pages.
func (b *Browser) Post(ref string, params url.Values, tweaks ...Tweak) *Page {
	b.t.Helper()
	return b.open(nil, newRequest(http.MethodPost, b.resolve(ref), params, tweaks))
}

func (b *Browser) resolve(ref string) string {
	// The server's own links have the issuer's path.
	if path := b.base().Path; path != "" && strings.HasPrefix(ref, path+"/") {
		return b.origin() + ref
	}
	if strings.HasPrefix(ref, "/") {
		return b.s.URL + ref
	}
	return ref
}

// open sends a request and follows redirects within the server.
func (b *Browser) open(asked url.Values, r *Request) *Page {
	b.t.Helper()
	client := b.s.client(b.jar)
	b.address(r)
	for range 10 {
		reply := b.s.send(b.t, client, r)
		page := &Page{Status: reply.Status, Header: reply.Header, URL: r.URL, Body: string(reply.Body), Browser: b,
			asked: asked}
		location := reply.Header.Get("Location")
		switch {
		case reply.Status < 300 || reply.Status > 399 || location == "":
			return page
		case !strings.HasPrefix(b.resolve(location), b.s.URL+"/"):
			page.Location = location
			return page
		}
		site := r.Header["Sec-Fetch-Site"]
		r = newRequest(http.MethodGet, b.resolve(location), nil, nil)
		r.Header["Sec-Fetch-Site"] = site // a redirect keeps the value of the first request
		b.address(r)
	}
	b.t.Fatalf("more than 10 redirects; the last one to %s", r.URL)
	return nil
}

// address sets the header fields that say where the request comes from, unless a tweak set them.
func (b *Browser) address(r *Request) {
	if r.Header["Sec-Fetch-Site"] == nil {
		r.Header.Set("Sec-Fetch-Site", "none")
		if r.Method == http.MethodPost {
			r.Header.Set("Sec-Fetch-Site", "same-origin")
		}
	}
	if r.Method == http.MethodPost && r.Header["Origin"] == nil {
		r.Header.Set("Origin", b.origin())
	}
	if r.Header["Accept"] == nil {
		r.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	}
	for name, values := range b.Header {
		r.Header[name] = values
	}
}

// Page is the page that the browser shows, or the redirect to a client at which it stopped.
type Page struct {
	Status   int
	Header   http.Header
	URL      string // of the page, or of the response that redirected
	Body     string
	Location string // of a redirect that leaves the server, unchanged; "" for a page
	Browser  *Browser

	asked url.Values // the authorization request that led here
}

// Form is a form on a page.
type Form struct {
	Action string
	Method string
	Inputs []Input
}

// Input is a control of a form, including buttons.
type Input struct {
	Type, Name, Value string
	Checked           bool
}

// Has reports whether the form has a control with that name.
func (f *Form) Has(name string) bool {
	return slices.ContainsFunc(f.Inputs, func(i Input) bool { return i.Name == name })
}

// Values returns what a browser would send: every control except buttons and unticked checkboxes.
func (f *Form) Values() url.Values {
	values := url.Values{}
	for _, i := range f.Inputs {
		if i.Name != "" && i.Type != "submit" && i.Type != "button" && (i.Type != "checkbox" || i.Checked) {
			values.Add(i.Name, i.Value)
		}
	}
	return values
}

// Options returns the values of the controls named name, ticked or not.
func (f *Form) Options(name string) []string {
	var values []string
	for _, i := range f.Inputs {
		if i.Name == name {
			values = append(values, i.Value)
		}
	}
	return values
}

// Forms returns the forms on the page.
func (p *Page) Forms() []*Form {
	p.Browser.t.Helper()
	var forms []*Form
	var form *Form
	p.elements(func(name string, attr map[string]string) {
		switch name {
		case "form":
			form = &Form{Action: attr["action"], Method: strings.ToUpper(attr["method"])}
			forms = append(forms, form)
		case "/form":
			form = nil
		case "input", "button", "select", "textarea":
			kind := attr["type"]
			if name == "button" && kind == "" {
				kind = "submit"
			}
			if form != nil {
				_, checked := attr["checked"]
				value, given := attr["value"]
				switch {
				case kind == "checkbox" && !given:
					value = "on"
				case name == "textarea":
					value = p.text(attr["name"])
				}
				form.Inputs = append(form.Inputs, Input{Type: kind, Name: attr["name"], Value: value, Checked: checked})
			}
		case "option":
			if _, selected := attr["selected"]; selected && form != nil && len(form.Inputs) > 0 {
				form.Inputs[len(form.Inputs)-1].Value = attr["value"]
			}
		}
	})
	return forms
}

// text returns what is in the textarea with that name.
func (p *Page) text(name string) string {
	area := regexp.MustCompile(`(?s)<textarea[^>]* name="` + regexp.QuoteMeta(name) + `"[^>]*>\n?(.*?)</textarea>`)
	if m := area.FindStringSubmatch(p.Body); m != nil {
		return html.UnescapeString(m[1])
	}
	return ""
}

// Links returns the targets of the page's elements: href, src, action, formaction, and the content of a meta refresh.
func (p *Page) Links() []string {
	p.Browser.t.Helper()
	var links []string
	p.elements(func(name string, attr map[string]string) {
		for _, a := range []string{"href", "src", "action", "formaction", "srcset", "poster", "data"} {
			if v, ok := attr[a]; ok {
				links = append(links, v)
			}
		}
		if name == "meta" && strings.EqualFold(attr["http-equiv"], "refresh") {
			links = append(links, attr["content"])
		}
	})
	return links
}

// elements visits the tags of the page in order. The name of an end tag begins with a slash.
func (p *Page) elements(visit func(name string, attr map[string]string)) {
	p.Browser.t.Helper()
	d := xml.NewDecoder(strings.NewReader(p.Body))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			p.Browser.t.Errorf("the page is not well formed: %v\n%s", err, p.Body)
			return
		}
		switch element := token.(type) {
		case xml.StartElement:
			attr := map[string]string{}
			for _, a := range element.Attr {
				attr[strings.ToLower(a.Name.Local)] = a.Value
			}
			visit(strings.ToLower(element.Name.Local), attr)
		case xml.EndElement:
			visit("/"+strings.ToLower(element.Name.Local), nil)
		}
	}
}

// Form returns the form that has a control with that name. The test fails if there is none.
func (p *Page) Form(control string) *Form {
	p.Browser.t.Helper()
	for _, f := range p.Forms() {
		if f.Has(control) {
			return f
		}
	}
	p.Browser.t.Fatalf("no form with %q on %s (status %d, Location %q):\n%s", control, p.URL, p.Status, p.Location,
		p.Body)
	return nil
}

// Has reports whether the page has a form with a control of that name.
func (p *Page) Has(control string) bool {
	p.Browser.t.Helper()
	return slices.ContainsFunc(p.Forms(), func(f *Form) bool { return f.Has(control) })
}

// Submit posts a form of the page with its current values, changed by tweaks.
func (p *Page) Submit(f *Form, tweaks ...Tweak) *Page {
	p.Browser.t.Helper()
	if f.Method != http.MethodPost {
		p.Browser.t.Errorf("the form to %s has the method %q, want post", f.Action, f.Method)
	}
	target := f.Action
	if target == "" {
		target = p.URL
	}
	return p.Browser.open(p.asked, newRequest(http.MethodPost, p.Browser.resolve(target), f.Values(), tweaks))
}

// Follow opens a link of the page.
func (p *Page) Follow(href string) *Page {
	p.Browser.t.Helper()
	return p.Browser.open(p.asked, newRequest(http.MethodGet, p.Browser.resolve(href), nil, nil))
}

// SignIn fills in and submits the sign-in form.
func (p *Page) SignIn(who *Person, tweaks ...Tweak) *Page {
	p.Browser.t.Helper()
	return p.Submit(p.Form("password"), append([]Tweak{With("email", who.Email), With("password", who.Password)},
		tweaks...)...)
}

// Allow consents. If scopes are given, only those are ticked; otherwise the form is sent as it is.
func (p *Page) Allow(scopes ...string) *Page {
	p.Browser.t.Helper()
	form := p.Form("decision")
	if len(scopes) == 0 {
		scopes = form.Values()["scope"]
	}
	return p.Submit(form, With("decision", "allow"), With("scope", scopes...))
}

// Deny refuses consent.
func (p *Page) Deny() *Page {
	p.Browser.t.Helper()
	return p.Submit(p.Form("decision"), With("decision", "deny"))
}

// Through signs in as who and allows everything, if a page asks for it.
func (p *Page) Through(who *Person) *Page {
	p.Browser.t.Helper()
	if p.Location == "" && p.Has("password") {
		p = p.SignIn(who)
	}
	if p.Location == "" && p.Has("decision") {
		p = p.Allow()
	}
	return p
}

// IsSignIn reports whether the page is the sign-in form.
func (p *Page) IsSignIn() bool { return p.Location == "" && p.Has("password") }

// IsConsent reports whether the page asks for consent.
func (p *Page) IsConsent() bool { return p.Location == "" && p.Has("decision") }

// response returns the parameters of the redirect to the client. It checks what holds for every response: status 302 or
// 303, the redirect URI of the request, no parameter twice, state as it was sent, and iss (OAuth 2.1 §4.1.2, RFC 9207).
func (p *Page) response() url.Values {
	p.Browser.t.Helper()
	t := p.Browser.t
	if p.Location == "" {
		t.Fatalf("got %s (status %d), want a redirect to the client:\n%s", p.URL, p.Status, p.Body)
	}
	if p.Status != http.StatusFound && p.Status != http.StatusSeeOther {
		t.Errorf("the redirect to the client has the status %d", p.Status)
	}
	if want := p.asked.Get("redirect_uri"); want != "" && !strings.HasPrefix(p.Location, want) {
		t.Errorf("the response goes to %s, want %s", p.Location, want)
	}
	u, err := url.Parse(p.Location)
	if err != nil {
		t.Fatalf("the redirect to the client is not a URI: %v", err)
	}
	params, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		t.Fatalf("the response has a broken query: %v", err)
	}
	for _, name := range []string{"code", "state", "iss", "error", "error_description"} {
		if len(params[name]) > 1 {
			t.Errorf("the response has %s more than once: %s", name, p.Location)
		}
	}
	p.Browser.s.secret("code", params.Get("code"))
	if got := params.Get("iss"); got != p.Browser.s.URL {
		t.Errorf("iss is %q, want %q", got, p.Browser.s.URL)
	}
	if len(p.asked["state"]) < 2 && params.Get("state") != p.asked.Get("state") {
		t.Errorf("state is %q, want %q", params.Get("state"), p.asked.Get("state"))
	}
	return params
}

// Code returns the code of the redirect to the client.
func (p *Page) Code() string {
	p.Browser.t.Helper()
	params := p.response()
	if params.Get("code") == "" || params.Has("error") {
		p.Browser.t.Fatalf("got %s, want a code", p.Location)
	}
	return params.Get("code")
}

// Refused checks that the redirect to the client has the error and no code (OAuth 2.1 §4.1.2.1).
func (p *Page) Refused(code string) {
	p.Browser.t.Helper()
	params := p.response()
	if params.Get("error") != code || params.Has("code") {
		p.Browser.t.Errorf("the response is %s, want the error %s", p.Location, code)
	}
	if params.Get("error_description") == "" {
		p.Browser.t.Errorf("the error has no description: %s", p.Location)
	}
}

// ReturnPage checks that the page names the error and the host that its form returns to (RFC 9700 §4.11.2), and that it
// does not redirect there by itself. It submits the form and returns the redirect with the error.
func (p *Page) ReturnPage(status int, code, host string) *Page {
	p.Browser.t.Helper()
	p.ErrorPage(status)
	if !strings.Contains(p.Body, code) || !strings.Contains(p.Body, host) {
		p.Browser.t.Errorf("the page does not name %s and %s:\n%s", code, host, p.Body)
	}
	returned := p.Submit(p.Form("return"))
	returned.Refused(code)
	return returned
}

// ErrorPage checks that the page is an error page with that status (OAuth 2.1 §4.1.2.1). It must have a content
// security policy, but neither a redirect, a link that leaves the server, nor a script.
func (p *Page) ErrorPage(status int) {
	p.Browser.t.Helper()
	t := p.Browser.t
	if p.Status != status || p.Header.Get("Location") != "" {
		t.Errorf("status %d, Location %q, want an error page of status %d:\n%s", p.Status, p.Location, status, p.Body)
		return
	}
	if got := p.Header.Get("Content-Type"); !strings.HasPrefix(got, "text/html") {
		t.Errorf("Content-Type of the error page is %q: %.200s", got, p.Body)
		return
	}
	if policy := p.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") ||
		strings.Contains(policy, "unsafe") {
		t.Errorf("Content-Security-Policy is %q", policy)
	}
	for _, link := range p.Links() {
		if !strings.HasPrefix(link, "/") || strings.HasPrefix(link, "//") {
			t.Errorf("the error page links to %q", link)
		}
	}
	p.elements(func(name string, _ map[string]string) {
		if name == "script" || name == "iframe" || name == "object" || name == "embed" {
			t.Errorf("the error page has the element %s", name)
		}
	})
}
