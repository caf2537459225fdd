package web

import (
	"bytes"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
)

// Pages has what all pages of a server need. All fields except Base and Brand must be set.
type Pages struct {
	Base    string // path of the issuer, or "" if it has none; a prefix of every path of this server
	Secure  bool   // whether the issuer's scheme is https
	CSRFKey []byte // 32 bytes
	Brand   *Brand // nil: that of Cardea
	// Refuse records a refusal and returns the error to send (strangers.Recorder.Refuse).
	Refuse func(r *http.Request, event audit.Event, err error) error
}

// Refused records the refusal err as event and returns it, for a page that says why it is shown again. It returns an
// error for a fault, and for a sender that has been refused too often.
func (p *Pages) Refused(r *http.Request, event audit.Event, err error) (*oauth.Refusal, error) {
	refusal, ok := oauth.AsRefusal(err)
	if !ok {
		return nil, err
	}
	if err := p.Refuse(r, event, err); !errors.Is(err, refusal) {
		return nil, err
	}
	return refusal, nil
}

// Answer is a response to a person's browser: a Page from Templates.Page, a Failure, a Picture, a Download, a Stream,
// or the result of SeeOther.
type Answer interface {
	Page() Page
}

// Page is a response with its headers and cookies. The zero Page is a fault.
type Page struct {
	status   int         // 0: 200
	header   http.Header // in addition to those of every page
	cookies  []*http.Cookie
	location string // of a redirect
	template *template.Template
	view     any    // data of the template
	picture  []byte // PNG, instead of a page
	file     []byte // that the browser saves, instead of a page
	stream   *Stream
	within   bool // whether a form on it may lead to a redirect to a client
	scripted bool // whether it runs the scripts of this server to which it links
	whole    bool // whether a script is told location, so that the browser loads the page there
}

// Page returns p, so that a Page is an Answer.
func (p Page) Page() Page { return p }

// AnswersClient returns p for a page with a form that may lead to a redirect to a client. Its Content-Security-Policy
// has no form-action, which would block the redirect.
func (p Page) AnswersClient() Page {
	p.within = true
	return p
}

// Scripted returns p for a page that runs scripts from /assets/, which may call this server. No other scripts run on
// it, neither inline nor from elsewhere.
func (p Page) Scripted() Page {
	p.scripted = true
	return p
}

// LoadsAgain returns p for a page that the browser loads again after the given time, in whole seconds.
func (p Page) LoadsAgain(after time.Duration) Page {
	header := p.header.Clone()
	if header == nil {
		header = make(http.Header)
	}
	header.Set("Refresh", strconv.Itoa(int(after.Seconds())))
	p.header = header
	return p
}

// WithStatus returns p with a status other than 200.
func (p Page) WithStatus(status int) Page {
	p.status = status
	return p
}

// Away is SeeOther for the answer to a script that asked for a part of a page: the browser loads the whole page that it
// is sent to.
func Away(r *http.Request, location string) Answer {
	if r.Header.Get("HX-Request") == "" {
		return SeeOther(location)
	}
	return Page{location: location, whole: true}
}

// SeeOther redirects the browser to a path of this server or to another URI. The status is 303, so that the browser
// does not post the form again to the target (RFC 9700 §4.12).
func SeeOther(location string) Answer { return Page{location: location} }

// Picture is a PNG image for a page.
type Picture []byte

// Page returns the picture, with status 200. An empty picture is a fault.
func (v Picture) Page() Page { return Page{picture: v} }

// Download is a JSON document that the browser saves as a file.
type Download struct {
	Name string // of the file, in letters, digits, hyphens and dots
	Body []byte
}

// Page returns the file, with status 200. An empty file is a fault.
func (v Download) Page() Page {
	return Page{file: v.Body, header: http.Header{"Content-Disposition": {`attachment; filename="` + v.Name + `"`}}}
}

// Stream is a file that the browser saves, and that is written piece by piece because it may be long.
type Stream struct {
	Name string // of the file, in letters, digits, hyphens and dots
	Kind string // media type
	// Write writes the file, within streamTime. If it fails, the connection is closed, so that what was sent until then
	// does not look complete.
	Write func(io.Writer) error
}

// Page returns the file, with status 200.
func (v Stream) Page() Page { return Page{stream: &v} }

// streamTime is how long a Stream may take, because the server's limit for other responses is shorter.
const streamTime = 10 * time.Minute

// errTorn says that a response had begun when its error occurred.
var errTorn = errors.New("web: the file was not finished")

// WithCookie returns the answer with one more cookie, or unchanged if cookie is nil.
func WithCookie(a Answer, cookie *http.Cookie) Answer {
	page := a.Page()
	if cookie != nil {
		page.cookies = append(slices.Clip(page.cookies), cookie) // because a may be used again
	}
	return page
}

// WithCookiesOf returns the answer with the cookies of another.
func WithCookiesOf(a, other Answer) Answer {
	page := a.Page()
	page.cookies = append(slices.Clip(page.cookies), other.Page().cookies...)
	return page
}

// WithRefusal returns a with the status and the headers of the refusal.
func WithRefusal(a Answer, refusal *oauth.Refusal) Answer {
	page := a.Page()
	page.status, page.header = refusal.Status(), refusalHeader(refusal)
	return page
}

// HTML adapts an endpoint for people's browsers. It shows a refusal as a page with the refusal's status, and a fault as
// a page with status 500 and no details; neither page has links. It refuses a form from another site with 403 and
// records that.
func (p *Pages) HTML(handle func(*http.Request) (Answer, error)) http.Handler {
	return p.adapt(false, func(r *http.Request) (Answer, error) {
		if err := checkSite(r); err != nil {
			return nil, p.Refuse(r, audit.ForeignForm(r.URL.Path, r.Header.Get("Origin")), err)
		}
		return handle(r)
	})
}

// HTMLFromAnySite is HTML for an endpoint that other sites may post to.
func (p *Pages) HTMLFromAnySite(handle func(*http.Request) (Answer, error)) http.Handler {
	return p.adapt(true, handle)
}

// Reading is HTML for a page that is asked for by GET and changes nothing: HEAD is answered by the same handler, so
// that it says the same about who may see the page.
func (p *Pages) Reading(handle func(*http.Request) (Answer, error)) http.Handler {
	page := p.HTML(handle)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead { // net/http leaves the body out
			copied := *r
			copied.Method = http.MethodGet
			r = &copied
		}
		page.ServeHTTP(w, r)
	})
}

// page is an adapted endpoint. anySite says whether other sites may post to it.
type page struct {
	http.Handler
	anySite bool
}

func (p *Pages) adapt(anySite bool, handle func(*http.Request) (Answer, error)) http.Handler {
	return page{anySite: anySite, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			if err := checkRequest(r); err != nil {
				p.fail(w, r, err)
				return
			}
			head(w)
			return
		}
		answer, err := call(r, handle)
		if err == nil && answer == nil {
			err = errors.New("web: the endpoint gave no answer")
		}
		if err == nil {
			err = answer.Page().write(w, p)
		}
		if errors.Is(err, errTorn) {
			_ = verdict(r, err)         // logs the fault
			panic(http.ErrAbortHandler) // closes the connection
		}
		if err != nil {
			p.fail(w, r, err)
		}
	})}
}

// head responds to HEAD with status 200. It does not call the endpoint, because a GET may have an effect that HEAD must
// not have, such as issuing a code if consent is remembered (RFC 9110 §9.3.2).
func head(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Type", "text/html; charset=utf-8")
	Page{}.protect(h)
	w.WriteHeader(http.StatusOK)
}

// NotFound responds to every request with 404, with a page for browsers and JSON for programs.
func (p *Pages) NotFound() http.Handler {
	page := p.HTMLFromAnySite(func(*http.Request) (Answer, error) { return nil, errNothing })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.Header.Get("Accept"), "text/html") && r.Method != http.MethodHead {
			page.ServeHTTP(w, r)
			return
		}
		failJSON(w, r, errNothing)
	})
}

// shown is the data of a template.
type shown struct {
	Base  string
	Brand *Brand
	View  any
}

// brand returns the brand of the pages.
func (p *Pages) brand() *Brand {
	if p.Brand == nil {
		return ours
	}
	return p.Brand
}

// write sends the page. If it returns an error other than errTorn, nothing has been sent.
func (p Page) write(w http.ResponseWriter, pages *Pages) error {
	var body bytes.Buffer
	switch {
	case p.location != "":
		if !Printable(p.location) {
			return errors.New("web: the target of the redirect is not a URI")
		}
	case p.template != nil:
		if err := p.template.Execute(&body, shown{pages.Base, pages.brand(), p.view}); err != nil {
			return fmt.Errorf("web: page: %w", err)
		}
	case len(p.picture) > 0:
		body.Write(p.picture)
	case p.stream != nil:
	case len(p.file) > 0:
		body.Write(p.file)
	default:
		return errors.New("web: the endpoint answered with no page")
	}
	h := w.Header()
	for name, values := range p.header {
		h[name] = values
	}
	for _, cookie := range p.cookies {
		http.SetCookie(w, cookie)
	}
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	if p.stream != nil {
		return p.stream.send(w)
	}
	h.Set("Content-Length", strconv.Itoa(body.Len()))
	if p.location != "" {
		if strings.HasPrefix(p.location, "/") {
			p.location = pages.Base + p.location
		}
		if p.whole {
			h.Set("Hx-Redirect", p.location)
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		h.Set("Location", p.location)
		w.WriteHeader(http.StatusSeeOther)
		return nil
	}
	switch {
	case len(p.picture) > 0:
		h.Set("Content-Type", "image/png")
		h.Set("Content-Security-Policy", "default-src 'none'")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
	case len(p.file) > 0:
		h.Set("Content-Type", "application/json")
		h.Set("Content-Security-Policy", "default-src 'none'")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
	default:
		h.Set("Content-Type", "text/html; charset=utf-8")
		p.protect(h)
	}
	if p.status == 0 {
		p.status = http.StatusOK
	}
	w.WriteHeader(p.status)
	_, _ = w.Write(body.Bytes()) // an error means that the browser has disconnected
	return nil
}

// send sends the file.
func (v Stream) send(w http.ResponseWriter) error {
	h := w.Header()
	h.Set("Content-Type", v.Kind)
	h.Set("Content-Disposition", `attachment; filename="`+v.Name+`"`)
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("X-Frame-Options", "DENY")
	// Without a deadline of its own, the server's limit holds. The connection measures it by the machine's clock.
	deadline := time.Now().Add(streamTime) //nolint:forbidigo // as said above
	_ = http.NewResponseController(w).SetWriteDeadline(deadline)
	w.WriteHeader(http.StatusOK)
	if err := v.Write(w); err != nil {
		return fmt.Errorf("%w: %w", errTorn, err)
	}
	return nil
}

// protect sets the headers that keep a page from loading anything from other sites, running scripts other than those of
// a Scripted page, and being shown in a frame.
func (p Page) protect(h http.Header) {
	policy := "default-src 'none'; style-src 'self'; img-src 'self'; frame-ancestors 'none'; base-uri 'none'"
	if p.scripted {
		policy += "; script-src 'self'; connect-src 'self'"
	}
	opener := "same-origin"
	if p.within {
		// Chrome applies form-action to every redirect that follows a form, and would block the response to a client. A
		// client that opened this page in a popup waits for a message through window.opener, which same-origin would
		// remove permanently.
		opener = "unsafe-none"
	} else {
		policy += "; form-action 'self'"
	}
	h.Set("Content-Security-Policy", policy)
	h.Set("Cross-Origin-Opener-Policy", opener)
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), "+
		"hid=(), magnetometer=(), microphone=(), midi=(), payment=(), serial=(), usb=()")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Pragma", "no-cache")
}

// Printable reports whether s is printable ASCII without spaces, as URIs are.
func Printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// ForProgram reports whether r comes from a program rather than a browser: it accepts JSON and not HTML. Some clients
// request a page before they open a browser.
func ForProgram(r *http.Request) bool {
	accept := r.Header.Get("Accept")
	return strings.Contains(accept, "application/json") && !strings.Contains(accept, "text/html")
}

// fail responds with the error page, or with JSON for a program.
func (p *Pages) fail(w http.ResponseWriter, r *http.Request, err error) {
	if ForProgram(r) {
		failJSON(w, r, err)
		return
	}
	refusal := verdict(r, err)
	view := FailureOf(refusal)
	view.RequestID = audit.RequestFrom(r.Context()).ID
	if err := WithRefusal(view, refusal).Page().write(w, p); err != nil {
		failJSON(w, r, err) // the error page itself could not be rendered
	}
}

// FailureOf returns the page that explains a refusal to a person.
func FailureOf(refusal *oauth.Refusal) Failure {
	f := Failure{Status: refusal.Status(), Code: string(refusal.Code), Message: Sentence(refusal.Description)}
	switch f.Status {
	case http.StatusForbidden:
		f.Title, f.Hint = "This is not allowed", "If you did not expect this, close the page and start again from "+
			"the application you came from."
	case http.StatusNotFound:
		f.Title, f.Hint = "Nothing here", "Check the address, or go back to where you came from."
	case http.StatusTooManyRequests:
		f.Title, f.Hint = "Too many attempts", "Wait a moment, then try again."
	case http.StatusServiceUnavailable:
		f.Title, f.Hint = "Not available right now", "This usually passes quickly: try again in a moment."
	case http.StatusInternalServerError:
		f.Title, f.Message = "Something went wrong", "This is an error of the server, not yours. It has been recorded."
		f.Hint = "Try again. If it happens again, send the reference below to the administrator of this server."
	default:
		f.Title, f.Hint = "This request cannot be answered", "If going back to the application and starting again "+
			"does not help, send this page to its developers."
	}
	return f
}

// Sentence returns a refusal's description as a sentence, with a capital letter and a full stop. It does not change
// text that begins with the name of a parameter.
func Sentence(text string) string {
	first, _, _ := strings.Cut(text, " ")
	if text == "" || strings.ContainsAny(first, "_=/") {
		return text
	}
	_, size := utf8.DecodeRuneInString(text)
	return strings.ToUpper(text[:size]) + strings.TrimSuffix(text[size:], ".") + "."
}
