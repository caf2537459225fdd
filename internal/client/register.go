package client

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json" // tells apart names by case, refuses a name given twice

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/limit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// maxRegistration bounds the body of a registration request, in bytes.
const maxRegistration = 64 << 10

// Never-used registrations: how many are kept at most, how old the oldest must
// be before a newer one may push it out, and how long they are kept at all.
const (
	maxUnused    = 10_000
	settleTime   = 10 * time.Minute
	ForgetUnused = 24 * time.Hour
)

// Registration is the endpoint POST /oauth2/register (RFC 7591).
type Registration struct {
	DB        *store.DB
	Issuer    string
	Strangers *Strangers
	Share     *limit.Limiter // new clients by network address; nil: without limit
	Everyone  *limit.Limiter // new clients of all addresses together; nil: without limit
}

// Information is the client information response (RFC 7591 §3.2.1).
type Information struct {
	ClientID string `json:"client_id"`
	IssuedAt int64  `json:"client_id_issued_at"`
	oauth.Metadata
	Secret          string `json:"client_secret,omitempty"`
	SecretExpiresAt *int64 `json:"client_secret_expires_at,omitempty"` // 0: never; only with a secret
}

// Register answers POST /oauth2/register. A public client that says the same of
// itself as another did is that client, and no second one; a confidential one is
// always new. Nobody vouches for either until an operator approves it.
func (e *Registration) Register(r *http.Request) (web.Reply, error) {
	m, err := e.read(r)
	if err != nil {
		return web.Reply{}, e.Strangers.Refuse(r, audit.Registration("", "", false), err)
	}
	fingerprint := ""
	if m.Method == oauth.MethodNone {
		fingerprint = fingerprintOf(m)
		known, err := e.known(r, fingerprint)
		if err != nil || known != nil {
			return created(known, ""), err
		}
	}
	if err := e.admit(r); err != nil {
		return web.Reply{}, err
	}
	secret := ""
	if m.Method != oauth.MethodNone {
		secret = oauth.NewSecret(oauth.SecretPrefix)
	}
	var c *oauth.Client
	err = e.DB.Update(r.Context(), func(tx *store.Tx) error {
		if c, err = e.create(tx, m, fingerprint, secret); err != nil {
			return tx.Conclude(audit.Registration("", m.Name, false), err)
		}
		return tx.Conclude(audit.Registration(c.ID, m.Name, false), nil)
	})
	if errors.Is(err, store.ErrConflict) { // the same registration came in at the same time
		if known, err := e.known(r, fingerprint); err != nil || known != nil {
			return created(known, ""), err
		}
	}
	if err != nil {
		return web.Reply{}, err
	}
	return created(c, secret), nil
}

// request is a registration request: the metadata, and the key material that is
// looked at only to refuse what must never be sent.
type request struct {
	oauth.Metadata
	JWKS       json.RawMessage `json:"jwks"`
	JWKSURI    string          `json:"jwks_uri"`
	PostLogout []string        `json:"post_logout_redirect_uris"`
}

// read parses and checks the request (RFC 7591 §3.1). Members it does not know
// are ignored, whatever privilege they ask for.
func (e *Registration) read(r *http.Request) (*oauth.Metadata, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, oauth.RefuseStatus(http.StatusUnsupportedMediaType, oauth.InvalidClientMetadata, "send the registration as application/json")
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxRegistration))
	if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
		return nil, oauth.RefuseStatus(http.StatusRequestEntityTooLarge, oauth.InvalidClientMetadata, "the registration is longer than %d bytes", maxRegistration)
	}
	if err != nil {
		return nil, oauth.Refuse(oauth.InvalidClientMetadata, "the body could not be read")
	}
	var req request
	switch err := json.Unmarshal(body, &req); {
	case err != nil:
		return nil, oauth.Refuse(oauth.InvalidClientMetadata, "the body must be one JSON object as in RFC 7591 section 2, each name once and each value of its type")
	case slices.Contains(req.GrantTypes, oauth.ClientCredentials):
		return nil, oauth.Refuse(oauth.InvalidClientMetadata, "client_credentials is for clients an operator made: cardea client create --grant client_credentials")
	case slices.ContainsFunc(req.GrantTypes, forbidden):
		return nil, oauth.Refuse(oauth.InvalidClientMetadata, "grant_types names a grant that cannot be registered here: use authorization_code and refresh_token")
	case len(req.JWKS) > 0 && string(req.JWKS) != "null" && req.JWKSURI != "":
		return nil, oauth.Refuse(oauth.InvalidClientMetadata, "jwks and jwks_uri must not both be there (RFC 7591 section 2)")
	}
	if err := checkPublicKeys(req.JWKS); err != nil {
		return nil, err
	}
	if err := checkWebURI("jwks_uri", req.JWKSURI); err != nil {
		return nil, err
	}
	for _, uri := range req.PostLogout {
		if err := oauth.CheckRedirectURI(uri); err != nil {
			return nil, err
		}
	}
	if err := Check(&req.Metadata, e.Issuer); err != nil {
		return nil, err
	}
	return &req.Metadata, nil
}

// forbidden are grants that only an operator may give, or nobody.
func forbidden(g oauth.GrantType) bool {
	switch g {
	case "password", "implicit",
		"urn:ietf:params:oauth:grant-type:jwt-bearer",
		"urn:ietf:params:oauth:grant-type:saml2-bearer",
		"urn:ietf:params:oauth:grant-type:token-exchange":
		return true
	default:
		return false
	}
}

// checkPublicKeys refuses a key set that gives a secret away, or is none.
func checkPublicKeys(jwks json.RawMessage) error {
	if len(jwks) == 0 || string(jwks) == "null" {
		return nil
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(jwks, &set); err != nil {
		return oauth.Refuse(oauth.InvalidClientMetadata, "jwks is not a JSON Web Key Set (RFC 7517 section 5)")
	}
	for _, k := range set.Keys {
		if !k.IsPublic() || !k.Valid() {
			return oauth.Refuse(oauth.InvalidClientMetadata, "jwks must hold public keys alone: never send a private or symmetric key")
		}
	}
	return nil
}

// known returns the public client that registered the same metadata before, nil
// if there is none.
func (e *Registration) known(r *http.Request, fingerprint string) (*oauth.Client, error) {
	var c *oauth.Client
	err := e.DB.View(r.Context(), func(tx *store.Tx) (err error) {
		c, err = tx.ClientByFingerprint(fingerprint)
		return err
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return c, e.Strangers.Note(r, audit.Registration(c.ID, c.Name, true))
}

// admit turns away who registers too much: one address, or all together.
func (e *Registration) admit(r *http.Request) error {
	ok, after := e.Share.Allow(Address(r))
	if ok {
		ok, after = e.Everyone.Allow("")
	}
	if !ok {
		return e.Strangers.TurnAway(r, "client.register", after, "too many registrations: try again later")
	}
	return nil
}

// create stores a new client. Those that never completed a flow are bounded in
// number: the oldest make room, unless all of them are fresh.
func (e *Registration) create(tx *store.Tx, m *oauth.Metadata, fingerprint, secret string) (*oauth.Client, error) {
	unused, err := tx.UnusedClients()
	if err != nil {
		return nil, err
	}
	if unused >= maxUnused {
		forgotten, err := tx.ForgetUnusedClients(tx.Now().Add(-settleTime), 100)
		if err != nil {
			return nil, err
		}
		if forgotten == 0 {
			return nil, oauth.RefuseForNow(settleTime, "too many clients registered and never used: try again later")
		}
	}
	c := &oauth.Client{ID: oauth.NewID("mcp_"), Metadata: *m, Origin: oauth.ByRegistration, CreatedAt: tx.Now()}
	if secret != "" {
		c.Secrets = []oauth.Secret{{Hash: oauth.Hash(secret), CreatedAt: tx.Now()}}
	}
	return c, tx.CreateClient(c, fingerprint)
}

func created(c *oauth.Client, secret string) web.Reply {
	if c == nil {
		return web.Reply{}
	}
	info := Information{ClientID: c.ID, IssuedAt: c.CreatedAt.Unix(), Metadata: c.Metadata, Secret: secret}
	if secret != "" {
		info.SecretExpiresAt = new(int64)
	}
	return web.Reply{Status: http.StatusCreated, Body: info}
}

// fingerprintOf tells metadata apart: two are alike when they say the same.
func fingerprintOf(m *oauth.Metadata) string {
	same := *m
	same.RedirectURIs = slices.Sorted(slices.Values(m.RedirectURIs))
	same.GrantTypes = slices.Sorted(slices.Values(m.GrantTypes))
	same.Scope = strings.Join(slices.Sorted(strings.FieldsSeq(m.Scope)), " ")
	text, err := json.Marshal(same)
	if err != nil {
		return "" // a struct of strings always marshals
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
