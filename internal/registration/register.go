// Package registration implements dynamic client registration: /oauth2/register (RFC 7591), and the paths below it with
// which clients manage their registration (RFC 7592).
package registration

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

	"github.com/go-jose/go-jose/v4/json" // distinguishes names by case and refuses duplicate names

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/client"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/strangers"
	"github.com/cardea-auth/cardea/internal/web"
)

// maxRegistration is the maximum length of the body of a registration request, in bytes.
const maxRegistration = 64 << 10

// maxBearer is the maximum length of a token in the Authorization header, in bytes.
const maxBearer = 4096

// Endpoint implements POST /oauth2/register (RFC 7591), and the paths below it with which clients manage their own
// registration (RFC 7592).
type Endpoint struct {
	DB        *store.DB
	Issuer    string
	Strangers *strangers.Recorder
	// InitialTokens says whether a registration needs an initial access token (RFC 7591 §3). If it is false, a token in
	// the request is ignored.
	InitialTokens bool
	AllowLoopback bool              // accept a jwks_uri on a loopback host
	Admission     *strangers.Shares // of new clients; nil: unlimited
	Updates       *strangers.Shares // of updates; nil: unlimited

	seen    seen
	room    room
	waiting waiting
}

// Information is the client information response (RFC 7591 §3.2.1, RFC 7592 §3).
type Information struct {
	ClientID string `json:"client_id"`
	IssuedAt int64  `json:"client_id_issued_at"`
	oauth.Metadata
	Secret          string `json:"client_secret,omitempty"`            // only if it is new, or was sent by the client
	SecretExpiresAt *int64 `json:"client_secret_expires_at,omitempty"` // 0: never; only with a secret
	// RegistrationURI is where the client manages its registration, and RegistrationToken the token for it. Both are ""
	// for a client that cannot.
	RegistrationURI   string `json:"registration_client_uri,omitempty"`
	RegistrationToken string `json:"registration_access_token,omitempty"`
}

// registration is a registration in progress: the request and its outcome.
type registration struct {
	*oauth.Metadata
	request     *http.Request
	fingerprint string // of the metadata of a public client that does not manage itself; otherwise ""
	initial     string // hash of the initial access token, "" if none is needed
	secret      string // of the new client; "" if it has none
	token       string // registration access token of the new client; "" if it has none

	client    *oauth.Client
	known     bool   // whether the client was registered before
	initialID string // of the initial access token that was spent
	err       error  // a refusal, a fault, or store.ErrConflict if a client has the fingerprint
}

// Register answers POST /oauth2/register. If a public client with the same metadata is already registered, Register
// returns that client instead of a second one; therefore public clients have no registration access token, because
// anybody could get it. A confidential client is always new and has such a token, and so is a public one that asks for
// it (Prefer: registration-management). All are unapproved until an operator approves them.
func (e *Endpoint) Register(r *http.Request) (web.Reply, error) {
	g := &registration{request: r}
	var err error
	if g.initial, err = e.initialToken(r); err == nil {
		g.Metadata, err = e.read(r)
	}
	if err != nil {
		return web.Reply{}, e.Strangers.Refuse(r, audit.Registration("", "", false), err)
	}
	blocks, err := e.DB.Blocks(r.Context())
	if err == nil {
		err = blocked(blocks, g.candidate())
	}
	if err != nil {
		return web.Reply{}, e.Strangers.Refuse(r, audit.Registration("", g.Name, false), err)
	}
	g.name()
	if e.seen.has(g.fingerprint) { // most are known, and need no write
		if known, err := e.known(g); err != nil || known {
			return e.created(g), err
		}
	}
	admitted, after := e.Admission.Admit(r)
	if admitted {
		var stored func()
		if stored, err = e.makeRoom(r.Context()); err == nil {
			defer stored()
		}
	}
	if !admitted || err != nil {
		if known, err := e.known(g); err != nil || known { // it needs neither
			return e.created(g), err
		}
	}
	switch {
	case !admitted:
		return web.Reply{}, e.Strangers.TurnAway(r, "client.register", after, "too many registrations: try again later")
	case err != nil:
		return web.Reply{}, e.Strangers.Refuse(r, audit.Registration("", g.Name, false), err)
	}
	for range 2 { // again if a client with the same metadata was forgotten meanwhile
		if err = e.store(g); !errors.Is(err, store.ErrConflict) {
			break
		}
		if known, err := e.known(g); err != nil || known {
			return e.created(g), err
		}
	}
	if err != nil {
		return web.Reply{}, err
	}
	e.seen.add(g.fingerprint)
	return e.created(g), nil
}

// name sets the fingerprint of a public client that does not ask to manage its registration, and the new secret and
// registration access token of any other.
func (g *registration) name() {
	switch g.Method {
	case oauth.MethodNone:
		if !prefersManagement(g.request) {
			g.fingerprint = fingerprintOf(g.Metadata)
			return
		}
	case oauth.MethodBasic, oauth.MethodPost:
		g.secret = oauth.NewSecret(oauth.SecretPrefix)
	case oauth.MethodPrivateKeyJWT: // it has a key
	}
	g.token = oauth.NewSecret(oauth.RegistrationTokenPrefix)
}

// errInitialToken refuses a registration without a valid initial access token. It does not say what is wrong with the
// token.
var errInitialToken = oauth.Refuse(oauth.InvalidToken, "registration needs an initial access token: send one as "+
	"Authorization: Bearer; an operator can create one with cardea initial-access-token create")

// initialToken returns the hash of the initial access token of r, or "" if none is needed (RFC 7591 §3). It checks the
// token but does not spend it.
func (e *Endpoint) initialToken(r *http.Request) (string, error) {
	if !e.InitialTokens {
		return "", nil
	}
	token := bearer(r)
	if token == "" {
		return "", oauth.Because(errInitialToken, errors.New("none was sent"))
	}
	hash := oauth.Hash(token)
	err := e.DB.View(r.Context(), func(tx *store.Tx) error {
		_, err := tx.LiveInitialToken(hash)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		err = oauth.Because(errInitialToken, errors.New("it is unknown, used up, expired or revoked"))
	}
	return hash, err
}

// bearer returns the token of the Authorization header, or "" if the request has no bearer token (RFC 6750 §2.1).
func bearer(r *http.Request) string {
	header := r.Header.Values("Authorization")
	if len(header) != 1 {
		return ""
	}
	scheme, token, _ := strings.Cut(header[0], " ")
	if !strings.EqualFold(scheme, "Bearer") || len(token) > maxBearer {
		return ""
	}
	return strings.TrimLeft(token, " ")
}

// prefersManagement reports whether the client asks to manage its registration (RFC 7240 §2).
func prefersManagement(r *http.Request) bool {
	for _, value := range r.Header.Values("Prefer") {
		for preference := range strings.SplitSeq(value, ",") {
			name, _, _ := strings.Cut(preference, ";")
			if strings.EqualFold(strings.TrimSpace(name), "registration-management") {
				return true
			}
		}
	}
	return false
}

// candidate returns the client of the request with what blocks look at.
func (g *registration) candidate() *oauth.Client {
	return &oauth.Client{Metadata: *g.Metadata, Origin: oauth.ByRegistration}
}

// errBlocked refuses a client that an operator has blocked, or that resembles one.
var errBlocked = oauth.RefuseStatus(http.StatusForbidden, oauth.AccessDenied,
	"an administrator of this server has blocked this application, or another one on the same site: ask them if that "+
		"is a mistake")

// blocked returns errBlocked if one of blocks keeps c out.
func blocked(blocks []*oauth.Block, c *oauth.Client) error {
	if client.BlockOf(blocks, c) != nil {
		return errBlocked
	}
	return nil
}

// read parses and checks the request (RFC 7591 §3.1). Members that this server does not use are ignored. The response
// contains the members that were registered.
func (e *Endpoint) read(r *http.Request) (*oauth.Metadata, error) {
	body, err := readObject(r)
	if err != nil {
		return nil, err
	}
	return e.parse(body)
}

// readObject returns the body of a request with the type application/json. It does not parse it.
func readObject(r *http.Request) ([]byte, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, oauth.RefuseStatus(http.StatusUnsupportedMediaType, oauth.InvalidClientMetadata,
			"send the registration as application/json")
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxRegistration))
	if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
		return nil, oauth.RefuseStatus(http.StatusRequestEntityTooLarge, oauth.InvalidClientMetadata,
			"the registration is longer than %d bytes", maxRegistration)
	}
	if err != nil {
		return nil, oauth.Refuse(oauth.InvalidClientMetadata, "the body could not be read")
	}
	return body, nil
}

// parse returns the metadata in body, checked and with its defaults filled in.
func (e *Endpoint) parse(body []byte) (*oauth.Metadata, error) {
	m, err := client.Read(body)
	if errors.Is(err, client.ErrNotObject) {
		err = oauth.Refuse(oauth.InvalidClientMetadata,
			"the body must be one JSON object without duplicate names (RFC 7591 section 2)")
	}
	if err != nil {
		return nil, err
	}
	m.Methods = nil // only metadata documents may name several
	if err := client.Check(m, e.Issuer); err != nil {
		return nil, err
	}
	if m.JWKSURI != "" {
		if err := client.CheckKeySetURI(m.JWKSURI, e.AllowLoopback); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// renewEvery is how often a repeated registration of the same client is stored.
const renewEvery = 5 * time.Minute

// known reports whether a public client is registered with the same metadata, which then is g.client, and records the
// registration. If the client has not been used yet, known keeps it for another day. If an initial access token is
// needed, known spends it in the transaction that keeps the client; the error is a refusal if it is no longer valid.
func (e *Endpoint) known(g *registration) (bool, error) {
	if g.fingerprint == "" {
		return false, nil
	}
	var c *oauth.Client
	due := false
	err := e.DB.View(g.request.Context(), func(tx *store.Tx) (err error) {
		if c, err = tx.ClientByFingerprint(g.fingerprint); err != nil || !c.UsedAt.IsZero() {
			return err
		}
		due, err = tx.RenewalDue(c.ID, e.DB.Now().Add(-renewEvery))
		return err
	})
	g.client, g.known = c, true
	switch {
	case err != nil:
	case e.InitialTokens:
		err = e.storeAlone(g)
	default:
		if due {
			err = e.DB.Update(g.request.Context(), func(tx *store.Tx) error { return tx.RenewClient(c.ID) })
		}
		if err == nil {
			err = e.Strangers.Note(g.request, audit.Registration(c.ID, c.Name, true))
		}
	}
	if err != nil {
		g.client, g.known = nil, false
	}
	if errors.Is(err, store.ErrNotFound) { // also if it was forgotten meanwhile
		return false, nil
	}
	if err == nil {
		e.seen.add(g.fingerprint)
	}
	return err == nil, err
}

// created returns the response to a registration. Only that of a new client has the secret and the registration access
// token.
func (e *Endpoint) created(g *registration) web.Reply {
	if g.client == nil {
		return web.Reply{}
	}
	secret, token := g.secret, g.token
	if g.known {
		secret, token = "", ""
	}
	info := e.information(g.client, secret, token)
	info.JWKS = nil // the Go SDK of MCP expects a string here and fails on an object
	return web.Reply{Status: http.StatusCreated, Body: info}
}

// information returns the client information response for c. Members that are not set are left out.
func (e *Endpoint) information(c *oauth.Client, secret, token string) Information {
	info := Information{ClientID: c.ID, IssuedAt: c.CreatedAt.Unix(), Metadata: c.Metadata, Secret: secret,
		RegistrationToken: token}
	if secret != "" {
		info.SecretExpiresAt = new(int64)
	}
	if token != "" {
		info.RegistrationURI = e.Issuer + "/oauth2/register/" + c.ID
	}
	return info
}

// fingerprintOf returns a hash of the metadata. It is the same for metadata that differs only in the order of its
// lists.
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
