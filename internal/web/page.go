package web

import (
	"bytes"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
)

// Pages is what the pages of one server share. All fields but Base are set.
type Pages struct {
	Base    string // path of the issuer, "" if it has none: it stands before every path of ours
	Secure  bool   // the issuer's scheme is https
	CSRFKey []byte // 32 bytes
	// Refuse records a refusal and returns it, or turns away a sender that is refused
	// too often (strangers.Recorder.Refuse).
	Refuse func(r *http.Request, event audit.Event, err error) error
}

// Answer is what a person's browser is answered with: a view that its flow made a
// page of by Templates.Page, a Failure, a Picture, or SeeOther.
type Answer interface {
	Page() Page
}

// Page is an answer with all that goes along with it. The zero Page is none, and
// a fault.
type Page struct {
	status   int         // 0: 200
	header   http.Header // added to the headers of every page
	cookies  []*http.Cookie
	location string // of a redirect
	template *template.Template
	view     any    // what template shows
	picture  []byte // PNG, instead of a page
	within   bool   // a form on it may end in a redirect to a client
	scripted bool   // it runs the scripts of ours that it links to
}

// Page returns p, so that a Page is an Answer.
func (p Page) Page() Page { return p }

// AnswersClient returns p for a page with a form that may end in a redirect to a
// client: what a browser checks on the way there is left out of its policy.
func (p Page) AnswersClient() Page {
	p.within = true
	return p
}

// Scripted returns p for a page that runs scripts from /assets/, which may call this
// server. No other script runs on it: none inline, and none from elsewhere.
func (p Page) Scripted() Page {
	p.scripted = true
	return p
}

// WithStatus returns p with a status other than 200.
func (p Page) WithStatus(status int) Page {
	p.status = status
	return p
}

// SeeOther sends the browser to a path of ours, or to a URI elsewhere, with 303,
// so that it never posts what it posted here to somebody else (RFC 9700 §4.12).
func SeeOther(location string) Answer { return Page{location: location} }

// Picture is a PNG image that a page shows.
type Picture []byte

// Page returns the picture, with status 200. One without bytes is a fault.
func (v Picture) Page() Page { return Page{picture: v} }

// WithCookie returns the answer with one more cookie; nil adds none.
func WithCookie(a Answer, cookie *http.Cookie) Answer {
	page := a.Page()
	if cookie != nil {
		page.cookies = append(slices.Clip(page.cookies), cookie) // others may add to a too
	}
	return page
}

// WithRefusal returns a page that says why something was refused, with the status
// and the headers of the refusal.
func WithRefusal(a Answer, refusal *oauth.Refusal) Answer {
	page := a.Page()
	page.status, page.header = refusal.Status(), refusalHeader(refusal)
	return page
}

// HTML adapts an endpoint that people's browsers call. An error becomes an HTML
// page with the status of the refusal, or a 500 that tells nothing; it links
// nowhere. A form that another site made the browser post is refused with 403, and
// recorded.
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

// page is an adapted endpoint, and whether other sites may post to it.
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
			err = answer.Page().write(w, p.Base)
		}
		if err != nil {
			p.fail(w, r, err)
		}
	})}
}

// head answers HEAD: the page is there. The endpoint is not asked, because what a GET may do, such as sending a code where
// consent is remembered, HEAD must not (RFC 9110 §9.3.2).
func head(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Type", "text/html; charset=utf-8")
	Page{}.protect(h)
	w.WriteHeader(http.StatusOK)
}

// NotFound answers every request with 404: people with a page, programs with
// JSON.
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

// shown is what a template sees.
type shown struct {
	Base string
	View any
}

// write sends the page. If it returns an error, it has sent nothing.
func (p Page) write(w http.ResponseWriter, base string) error {
	var body bytes.Buffer
	switch {
	case p.location != "":
		if !printable(p.location) {
			return errors.New("web: redirect to something that is no URI")
		}
	case p.template != nil:
		if err := p.template.Execute(&body, shown{base, p.view}); err != nil {
			return fmt.Errorf("web: page: %w", err)
		}
	case len(p.picture) > 0:
		body.Write(p.picture)
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
	h.Set("Content-Length", strconv.Itoa(body.Len()))
	if p.location != "" {
		if strings.HasPrefix(p.location, "/") {
			p.location = base + p.location
		}
		h.Set("Location", p.location)
		w.WriteHeader(http.StatusSeeOther)
		return nil
	}
	if len(p.picture) > 0 {
		h.Set("Content-Type", "image/png")
		h.Set("Content-Security-Policy", "default-src 'none'")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
	} else {
		h.Set("Content-Type", "text/html; charset=utf-8")
		p.protect(h)
	}
	if p.status == 0 {
		p.status = http.StatusOK
	}
	w.WriteHeader(p.status)
	_, _ = w.Write(body.Bytes()) // a browser that went away needs no answer
	return nil
}

// protect sets the headers under which a browser shows a page: it loads nothing
// from elsewhere, runs nothing, and is shown in no frame.
func (p Page) protect(h http.Header) {
	policy := "default-src 'none'; style-src 'self'; img-src 'self'; frame-ancestors 'none'; base-uri 'none'"
	if p.scripted {
		policy += "; script-src 'self'; connect-src 'self'"
	}
	opener := "same-origin"
	if p.within {
		// Chrome holds form-action against every redirect that follows a form, so it
		// would stop the answer on its way to a client. And a client that opened
		// this page in a popup waits for word from it through window.opener, which
		// same-origin takes away for good.
		opener = "unsafe-none"
	} else {
		policy += "; form-action 'self'"
	}
	h.Set("Content-Security-Policy", policy)
	h.Set("Cross-Origin-Opener-Policy", opener)
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), hid=(), magnetometer=(), microphone=(), midi=(), payment=(), serial=(), usb=()")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Pragma", "no-cache")
}

// printable reports whether s is printable ASCII without spaces, as a URI is.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// ForProgram reports whether a program looks at a page before it opens a browser: it says
// that it wants JSON.
func ForProgram(r *http.Request) bool {
	accept := r.Header.Get("Accept")
	return strings.Contains(accept, "application/json") && !strings.Contains(accept, "text/html")
}

// fail answers with the error page.
func (p *Pages) fail(w http.ResponseWriter, r *http.Request, err error) {
	if ForProgram(r) {
		failJSON(w, r, err)
		return
	}
	refusal := verdict(r, err)
	view := FailureOf(refusal)
	view.RequestID = audit.RequestFrom(r.Context()).ID
	if err := WithRefusal(view, refusal).Page().write(w, p.Base); err != nil {
		failJSON(w, r, err) // a page of our own that does not render
	}
}

// FailureOf says a refusal in a person's words.
func FailureOf(refusal *oauth.Refusal) Failure {
	f := Failure{Status: refusal.Status(), Code: string(refusal.Code), Message: Sentence(refusal.Description)}
	switch f.Status {
	case http.StatusForbidden:
		f.Title, f.Hint = "This is not allowed", "If you did not expect this, close the page and start again from the application you came from."
	case http.StatusNotFound:
		f.Title, f.Hint = "Nothing here", "Check the address, or go back to where you came from."
	case http.StatusTooManyRequests:
		f.Title, f.Hint = "Too many attempts", "Wait a moment, then try again."
	case http.StatusServiceUnavailable:
		f.Title, f.Hint = "Not available right now", "This usually passes quickly: try again in a moment."
	case http.StatusInternalServerError:
		f.Title, f.Message = "Something went wrong", "The mistake is ours, not yours. It has been recorded."
		f.Hint = "Try again. If it happens again, tell whoever runs this server the reference below."
	default:
		f.Title, f.Hint = "This request cannot be answered", "If going back to the application and starting again does not help, its developers can mend it with what this page says."
	}
	return f
}

// Sentence makes a refusal's description a sentence. It leaves the name of a
// parameter at its front as it is.
func Sentence(text string) string {
	first, _, _ := strings.Cut(text, " ")
	if text == "" || strings.ContainsAny(first, "_=") {
		return text
	}
	_, size := utf8.DecodeRuneInString(text)
	return strings.ToUpper(text[:size]) + strings.TrimSuffix(text[size:], ".") + "."
}
