package interaction

import (
	"net/url"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/web"
)

// Reply is what the client hears in the end, and where (OAuth 2.1 §4.1.2, RFC 9207).
// Client and redirect URI are proven.
type Reply struct {
	RedirectURI string
	State       string // byte for byte; "" is none
	Issuer      string
	// Automatic tells that a refusal may be sent without a person's doing: an operator
	// vouches for the client, or the answer stays on the person's own computer. Any
	// other client may have registered to have people sent where it likes (RFC 9700
	// §4.11.2).
	Automatic bool
}

// Code returns the redirect that sends a code.
func (b *Reply) Code(code string) string { return b.to(url.Values{"code": {code}}) }

// Refusal returns the redirect that sends a refusal (OAuth 2.1 §4.1.2.1).
func (b *Reply) Refusal(refusal *oauth.Refusal) string {
	return b.to(url.Values{"error": {string(refusal.Code)}, "error_description": {web.ErrorDescription(refusal.Description)}})
}

// to returns the redirect URI with the parameters of the response, each exactly
// once, after any that it was registered with.
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

// Answerable is a refusal that the client may hear, for client and redirect URI are
// proven.
type Answerable struct {
	ClientID string
	Reply    Reply
	Err      error
}

func (a *Answerable) Error() string { return a.Err.Error() }

// Unwrap returns Err.
func (a *Answerable) Unwrap() error { return a.Err }

// holdPurpose is what redirects are sealed for.
const holdPurpose = "return to the client"

// Hold seals the redirect of a refusal until a person sends it, for the browser of v.
func (d *Desk) Hold(v Visitor, location string) (string, error) {
	w := new(writer)
	w.number(uint64(d.DB.Now().UnixMicro()))
	w.packed(v.Browser.Hash())
	w.packed(location)
	return d.Sealer.Seal(holdPurpose, w.b)
}

// Held returns what Hold sealed. It is refused if it was altered, is too old, or is that
// of another browser.
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
