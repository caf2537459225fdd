package web

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
)

// Page is what a person's browser is answered with: made by the Page method of a
// view, or by Redirect. The zero Page is none, and a fault.
type Page struct {
	Status  int            // 0: 200, or 303 if it is a redirect
	Header  http.Header    // added to the headers of every page
	Cookies []*http.Cookie // set along with it

	location string
	template string
	view     any
	within   bool // a form on it may end in a redirect to a client
}

// Redirect sends the browser to location with 303, so that it never posts what
// it posted here to somebody else (RFC 9700 §4.12).
func Redirect(location string, cookies ...*http.Cookie) Page {
	return Page{Status: http.StatusSeeOther, location: location, Cookies: cookies}
}

// HTML adapts an endpoint that people's browsers call. An error becomes an HTML
// page with the status of the refusal, or a 500 that tells nothing; it links
// nowhere.
func HTML(handle func(*http.Request) (Page, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page, err := call(r, handle)
		if err == nil {
			err = page.write(w)
		}
		if err != nil {
			failHTML(w, r, err)
		}
	})
}

// write sends the page. If it returns an error, it has sent nothing.
func (p Page) write(w http.ResponseWriter) error {
	var body bytes.Buffer
	switch {
	case p.location != "":
		if !printable(p.location) {
			return errors.New("web: redirect to something that is no URI")
		}
	case p.template != "":
		if err := pages.ExecuteTemplate(&body, p.template, p.view); err != nil {
			return fmt.Errorf("web: page: %w", err)
		}
	default:
		return errors.New("web: the endpoint answered with no page")
	}
	h := w.Header()
	for name, values := range p.Header {
		h[name] = values
	}
	for _, cookie := range p.Cookies {
		http.SetCookie(w, cookie)
	}
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(body.Len()))
	if p.location != "" {
		h.Set("Location", p.location)
		w.WriteHeader(http.StatusSeeOther)
		return nil
	}
	p.protect(h)
	h.Set("Content-Type", "text/html; charset=utf-8")
	status := p.Status
	if status == 0 {
		status = http.StatusOK
	}
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // who went away needs no answer
	return nil
}

// protect sets the headers under which a browser shows a page: it loads nothing
// from elsewhere, runs nothing, and is shown in no frame.
func (p Page) protect(h http.Header) {
	policy := "default-src 'none'; style-src 'self'; img-src 'self'; frame-ancestors 'none'; base-uri 'none'"
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

// printable tells whether s is printable ASCII without spaces, as a URI is.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// failHTML answers with the error page.
func failHTML(w http.ResponseWriter, r *http.Request, err error) {
	refusal := verdict(r, err)
	view := failureOf(refusal)
	view.RequestID = audit.RequestFrom(r.Context()).ID
	page := view.Page()
	page.Header = refusalHeader(refusal)
	if err := page.write(w); err != nil {
		failJSON(w, r, err) // a page of our own that does not render
	}
}

// failureOf says a refusal in a person's words.
func failureOf(refusal *oauth.Refusal) Failure {
	f := Failure{Status: refusal.Status(), Code: string(refusal.Code), Message: sentence(refusal.Description)}
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
		f.Title, f.Hint = "This request cannot be answered", "Go back to the application that sent you here and start again. If it happens again, its developers can mend it with what this page says."
	}
	return f
}

// sentence makes a refusal's description a sentence. It leaves the name of a
// parameter at its front as it is.
func sentence(text string) string {
	first, _, _ := strings.Cut(text, " ")
	if text == "" || strings.ContainsAny(first, "_=") {
		return text
	}
	return strings.ToUpper(text[:1]) + text[1:] + "."
}
