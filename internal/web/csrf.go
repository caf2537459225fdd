package web

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/url"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// CSRF makes and checks the hidden token of a form: proof that the form was
// shown by this server, to this browser, in this session and for this purpose.
type CSRF struct {
	key    []byte
	origin *http.CrossOriginProtection
}

// NewCSRF returns a CSRF under a 32-byte key for the pages of issuer, an absolute
// URL.
func NewCSRF(key []byte, issuer string) (*CSRF, error) {
	u, err := url.Parse(issuer)
	if err != nil {
		return nil, fmt.Errorf("web: issuer: %w", err)
	}
	// A proxy may rewrite Host, so that a browser's Origin no longer equals it.
	origin := http.NewCrossOriginProtection()
	if err := origin.AddTrustedOrigin(u.Scheme + "://" + u.Host); err != nil {
		return nil, fmt.Errorf("web: issuer: %w", err)
	}
	return &CSRF{key: key, origin: origin}, nil
}

// Token returns the token for a form with the given purpose, shown to a browser
// (the value of its Browser cookie) in a session (that of its Session cookie, ""
// if not signed in). A purpose names the form, and the interaction if the form
// belongs to one.
func (c *CSRF) Token(purpose, browser, session string) string {
	mac := hmac.New(sha256.New, c.key)
	for _, part := range []string{purpose, browser, session} {
		_ = binary.Write(mac, binary.BigEndian, uint64(len(part))) // a hash never fails
		mac.Write([]byte(part))
	}
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// Check refuses, with 403, a form that another site made the browser send, and
// one whose token is not that of the purpose, browser and session. It takes
// constant time. A browser without its cookie has no token.
func (c *CSRF) Check(r *http.Request, token, purpose, browser, session string) error {
	switch {
	case !nullOrigin(r) && c.origin.Check(r) != nil:
		return oauth.Refuse(oauth.AccessDenied, "this form was sent by another site")
	case browser == "":
		return oauth.Refuse(oauth.AccessDenied, "the browser did not send its cookie: allow cookies for this site, go back, reload the page and try again")
	case !hmac.Equal([]byte(token), []byte(c.Token(purpose, browser, session))):
		return oauth.Refuse(oauth.AccessDenied, "this page is no longer valid in this browser: go back, reload it and try again")
	}
	return nil
}

// nullOrigin tells whether r comes from a browser too old for Sec-Fetch-Site that
// hides its origin because our pages ask it to send no referrer (Fetch §3.2). The
// token alone must tell then.
func nullOrigin(r *http.Request) bool {
	return r.Header.Get("Sec-Fetch-Site") == "" && r.Header.Get("Origin") == "null"
}
