package interaction

import (
	"net/url"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/web"
)

// Reply builds the answer to the client (OAuth 2.1 §4.1.2, RFC 9207). Its client and redirect URI are verified.
type Reply struct {
	RedirectURI string
	State       string // as the client sent it, byte for byte; "": none
	Issuer      string
	// Automatic reports whether a refusal may be sent without an action of the person: an operator vouches for the
	// client, or the answer stays on the person's own computer. Any other client may have registered only to redirect
	// people to an address of its choice (RFC 9700 §4.11.2).
	Automatic bool
}

// Code returns the redirect that sends a code.
func (b *Reply) Code(code string) string { return b.to(url.Values{"code": {code}}) }

// Refusal returns the redirect that sends a refusal (OAuth 2.1 §4.1.2.1).
func (b *Reply) Refusal(refusal *oauth.Refusal) string {
	return b.to(url.Values{"error": {string(refusal.Code)},
		"error_description": {web.ErrorDescription(refusal.Description)}})
}

// to returns the redirect URI with the parameters of the response appended to those that it was registered with. Each
// appears exactly once.
func (b *Reply) to(params url.Values) string {
	if b.State != "" {
		params.Set("state", b.State)
	}
	params.Set("iss", b.Issuer)
	separator := "?"
	if u, err := url.Parse(b.RedirectURI); err == nil && (u.RawQuery != "" || u.ForceQuery) {
		separator = "&"
	}
	return b.RedirectURI + separator + web.EncodeQuery(params)
}

// Answerable is a refusal that may be sent to the client, because client and redirect URI are verified.
type Answerable struct {
	ClientID string
	Reply    Reply
	Err      error
}

func (a *Answerable) Error() string { return a.Err.Error() }

// Unwrap returns Err.
func (a *Answerable) Unwrap() error { return a.Err }

// holdPurpose is the purpose for which redirects are sealed.
const holdPurpose = "return to the client"

// Hold returns the redirect of a refusal sealed for the browser of v. A form keeps it until the person submits it.
func (d *Desk) Hold(v Visitor, location string) (string, error) {
	w := new(writer)
	w.number(uint64(d.DB.Now().UnixMicro()))
	w.packed(v.Browser.Hash())
	w.packed(location)
	return d.Sealer.Seal(holdPurpose, w.b)
}

// Held returns the redirect that Hold sealed. It refuses one that was altered, is too old, or belongs to another
// browser.
func (d *Desk) Held(browser web.Browser, sealed string) (location string, err error) {
	plain, err := d.Sealer.Open(holdPurpose, sealed)
	if err != nil {
		return "", err
	}
	r := &reader{b: plain}
	heldAt := time.UnixMicro(int64(r.number()))
	hash, location := r.packed(), r.packed()
	switch {
	case r.broken:
		return "", errSealed
	case d.DB.Now().Sub(heldAt) >= Lifetime:
		return "", errTooOld
	}
	return location, mine(browser, hash)
}
