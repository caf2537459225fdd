package guard

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/cardea-auth/cardea/scope"
	"github.com/go-jose/go-jose/v4/json"
)

// Token is a verified access token (RFC 9068 §2.2). Requests share it, so it must not be changed.
type Token struct {
	Issuer   string    // iss
	Subject  string    // sub: a person at Issuer, or the client itself; unique only together with Issuer
	ClientID string    // client_id
	Audience string    // aud: this server
	Scopes   scope.Set // scope
	ID       string    // jti
	IssuedAt time.Time // iat
	Expiry   time.Time // exp

	payload []byte
}

// Principal returns "iss|sub", which names the person or client that the token stands for. Use it as the key of a
// person's data, because the same subject may be another person at another issuer.
func (t *Token) Principal() string { return t.Issuer + "|" + t.Subject }

// Claims decodes all claims of the token into v, a pointer to a struct with json tags or to a map. It matches names
// byte for byte.
func (t *Token) Claims(v any) error { return json.Unmarshal(t.payload, v) }

// Caller is the sender of a request.
type Caller struct {
	Token     *Token
	Address   string // of the peer, without port; that of the proxy if there is one
	UserAgent string
}

// NewCaller returns the sender of r, which has the token.
func NewCaller(r *http.Request, token *Token) Caller {
	return Caller{Token: token, Address: address(r), UserAgent: r.UserAgent()}
}

func address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

type callerKey struct{}

// NewContext returns a context that carries c.
func NewContext(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerFromContext returns the sender of the request that [Guard.Protect] let through, or the zero Caller.
func CallerFromContext(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}

// FromContext returns the token of the request that [Guard.Protect] let through, or nil.
func FromContext(ctx context.Context) *Token { return CallerFromContext(ctx).Token }
