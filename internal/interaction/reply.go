package interaction

import (
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/web"
)

// Reply builds the answer to the client (OAuth 2.1 §4.1.2, RFC 9207). Its client and redirect URI are verified.
type Reply struct {
	ClientID    string
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
	Reply Reply
	Err   error
}

func (a *Answerable) Error() string { return a.Err.Error() }

// Unwrap returns Err.
func (a *Answerable) Unwrap() error { return a.Err }

// holdPurpose is the purpose for which redirects are sealed.
const holdPurpose = "return to the client"

// TooOld is the refusal of an authentic request that is too old to be answered. Reply.Automatic does not apply to it:
// the client may have stopped waiting long ago, and then only the person can tell how to go on.
type TooOld struct {
	// Again is the query with which /oauth2/authorize takes the same request again. It is "" if the client may no
	// longer make it.
	Again string
	// Waited reports whether the client had to wait for an operator.
	Waited bool
}

func (t *TooOld) Error() string { return t.Unwrap().Error() }

// Unwrap returns the refusal.
func (t *TooOld) Unwrap() error {
	if t.Waited {
		return errWaitedTooLong
	}
	return errTooOld
}

var errTooOld = oauth.RefuseStatus(http.StatusBadRequest, oauth.AccessDenied,
	"this request is too old, because it was not answered within %d minutes: start again from the application",
	int(Lifetime.Minutes()))

var errWaitedTooLong = oauth.RefuseStatus(http.StatusBadRequest, oauth.AccessDenied,
	"this request is too old, because it was not answered within %d hours: start again from the application",
	int(WaitingLifetime.Hours()))

// Hold returns a refusal and where it goes, sealed for the browser of v. A form keeps it until the person submits it.
func (d *Desk) Hold(v Visitor, reply Reply, refusal *oauth.Refusal) (string, error) {
	w := new(writer)
	w.number(uint64(d.DB.Now().UnixMicro()))
	w.packed(v.Browser.Hash())
	for _, s := range []string{reply.ClientID, reply.RedirectURI, reply.State, string(refusal.Code),
		refusal.Description} {
		w.packed(s)
	}
	return d.Sealer.Seal(holdPurpose, w.b)
}

// Held returns the redirect that sends the refusal that Hold sealed. It verifies client and redirect URI again, because
// they may have changed since, and refuses a value that was altered or belongs to another browser. If the value is too
// old, the refusal is an Answerable.
func (d *Desk) Held(r *http.Request, sealed string) (location string, err error) {
	plain, err := d.Sealer.Open(holdPurpose, sealed)
	if err != nil {
		return "", err
	}
	b := &reader{b: plain}
	heldAt := time.UnixMicro(int64(b.number()))
	hash, clientID, redirectURI, state := b.packed(), b.packed(), b.packed(), b.packed()
	refusal := &oauth.Refusal{Code: oauth.ErrorCode(b.packed()), Description: b.packed()}
	if b.broken {
		return "", errSealed
	}
	v, err := d.Visitor(r)
	if err != nil {
		return "", err
	}
	if err := mine(v.Browser, hash); err != nil {
		return "", err
	}
	_, reply, err := d.Find(r, v, clientID, redirectURI, state)
	switch {
	case errors.Is(err, ErrBlocked) && reply.RedirectURI != "":
		return reply.Refusal(refusal), nil // the client is told that it is blocked, or why it was refused before
	case err != nil:
		return "", err
	case d.DB.Now().Sub(heldAt) >= Lifetime:
		return "", &Answerable{reply, &TooOld{}}
	}
	return reply.Refusal(refusal), nil
}
