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
	"sync/atomic"
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

// Bounds of registrations that were never used. At most maxUnused are kept, plus up to lot for each node, because a
// node counts them only once per lot of registrations. A new one may replace one that is older than settleTime.
// store.DB.Sweep deletes them after a day.
const (
	maxUnused  = 10_000
	lot        = 100
	settleTime = 10 * time.Minute
)

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

	seen   seen
	room   atomic.Int64 // registrations until the unused clients are counted again
	fullAt atomic.Int64 // when there was no room, in microseconds since 1970; 0 if there was room
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
	fingerprint string // of the metadata of a public client that does not manage itself; otherwise ""
	looked      bool   // no client had the fingerprint before the transaction; CreateClient fails if one has it by now
	initial     string // hash of the initial access token, "" if none is needed
	secret      string // of the new client; "" if it has none
	token       string // registration access token of the new client; "" if it has none

	client    *oauth.Client
	known     bool   // whether the client was registered before
	initialID string // of the initial access token that was spent
}

// Register answers POST /oauth2/register. If a public client with the same metadata is already registered, Register
// returns that client instead of a second one; therefore public clients have no registration access token, because
// anybody could get it. A confidential client is always new and has such a token, and so is a public one that asks for
// it (Prefer: registration-management). All are unapproved until an operator approves them.
func (e *Endpoint) Register(r *http.Request) (web.Reply, error) {
	g := new(registration)
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
	switch g.Method {
	case oauth.MethodNone:
		if prefersManagement(r) {
			g.token = oauth.NewSecret(oauth.RegistrationTokenPrefix)
			break
		}
		g.fingerprint = fingerprintOf(g.Metadata)
	case oauth.MethodBasic, oauth.MethodPost:
		g.secret = oauth.NewSecret(oauth.SecretPrefix)
		g.token = oauth.NewSecret(oauth.RegistrationTokenPrefix)
	case oauth.MethodPrivateKeyJWT:
		g.token = oauth.NewSecret(oauth.RegistrationTokenPrefix)
	}
	if e.mayBeKnown(g) && e.seen.has(g.fingerprint) { // most are known, and need no write
		known, err := e.known(r, g.fingerprint)
		if err != nil || known != nil {
			return e.created(known, "", ""), err
		}
		g.looked = true
	}
	if ok, after := e.Admission.Admit(r); !ok {
		if e.mayBeKnown(g) && !g.looked { // then it needs no admission
			known, err := e.known(r, g.fingerprint)
			if err != nil || known != nil {
				return e.created(known, "", ""), err
			}
		}
		return web.Reply{}, e.Strangers.TurnAway(r, "client.register", after, "too many registrations: try again later")
	}
	for range 2 { // again if the same registration was made at the same time
		err = e.DB.Update(r.Context(), func(tx *store.Tx) error {
			event := audit.Registration("", g.Name, false)
			err := e.enter(tx, g)
			if err == nil {
				event = audit.Registration(g.client.ID, g.Name, g.known).With("initial_access_token", g.initialID)
			}
			return e.Strangers.Conclude(tx, r, event, err)
		})
		if !errors.Is(err, store.ErrConflict) {
			break
		}
		g.looked = false
	}
	if err == nil && g.fingerprint != "" {
		e.seen.add(g.fingerprint)
	}
	switch {
	case err != nil:
		return web.Reply{}, err
	case g.known:
		return e.created(g.client, "", ""), nil
	}
	return e.created(g.client, g.secret, g.token), nil
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

// candidate returns the client that is to be registered, as far as blocks look at it.
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

// enter finds or stores the client, and spends the initial access token. It spends the token after all other checks, so
// that a refused registration does not use it up.
func (e *Endpoint) enter(tx *store.Tx, g *registration) error {
	if g.fingerprint != "" && !g.looked {
		known, err := tx.ClientByFingerprint(g.fingerprint)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		g.client, g.known = known, known != nil
	}
	blocks, err := tx.BlocksNow()
	if err == nil {
		err = blocked(blocks, g.candidate())
	}
	if err != nil {
		return err
	}
	if !g.known {
		if err := e.makeRoom(tx); err != nil {
			return err
		}
	}
	if e.InitialTokens {
		id, err := tx.SpendInitialToken(g.initial)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return errInitialToken
		case err != nil:
			return err
		}
		g.initialID = id
	}
	if g.known {
		return tx.RenewClient(g.client.ID)
	}
	c := &oauth.Client{ID: oauth.NewTimedID("mcp_", tx.Now()), Metadata: *g.Metadata, Origin: oauth.ByRegistration,
		CreatedAt: tx.Now()}
	if g.secret != "" {
		c.Secrets = []oauth.Secret{{Hash: oauth.Hash(g.secret), CreatedAt: tx.Now()}}
	}
	if g.token != "" {
		c.RegistrationToken = oauth.Hash(g.token)
	}
	g.client = c
	return tx.CreateClient(c, g.fingerprint)
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

// mayBeKnown reports whether g is answered with the client that is already registered with the same metadata, if there
// is one. An initial access token is spent even then, which needs a write.
func (e *Endpoint) mayBeKnown(g *registration) bool { return g.fingerprint != "" && !e.InitialTokens }

// renewEvery is how often a repeated registration of the same client is stored.
const renewEvery = 5 * time.Minute

// known returns the public client that is registered with the same metadata, or nil if there is none. If the client has
// not been used yet, known keeps it for another day.
func (e *Endpoint) known(r *http.Request, fingerprint string) (*oauth.Client, error) {
	var c *oauth.Client
	due := false
	err := e.DB.View(r.Context(), func(tx *store.Tx) (err error) {
		if c, err = tx.ClientByFingerprint(fingerprint); err != nil || !c.UsedAt.IsZero() {
			return err
		}
		due, err = tx.RenewalDue(c.ID, e.DB.Now().Add(-renewEvery))
		return err
	})
	if err == nil && due { // does nothing if the client was deleted meanwhile
		err = e.DB.Update(r.Context(), func(tx *store.Tx) error { return tx.RenewClient(c.ID) })
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return c, e.Strangers.Note(r, audit.Registration(c.ID, c.Name, true))
}

// fullFor is how long registrations are refused without counting the unused clients again, because counting is
// expensive.
const fullFor = time.Second

var errFull = oauth.RefuseForNow(settleTime, "too many registered clients have never been used: try again later")

// makeRoom bounds the number of clients that never completed a flow. If there are too many, it deletes the oldest, or
// returns errFull if all of them are younger than settleTime. It counts them only once per lot of registrations,
// because counting takes longer than the rest of a registration.
func (e *Endpoint) makeRoom(tx *store.Tx) error {
	if e.room.Add(-1) >= 0 {
		return nil
	}
	if full := e.fullAt.Load(); full != 0 && tx.Now().UnixMicro()-full < fullFor.Microseconds() &&
		tx.Now().UnixMicro() >= full {
		return errFull
	}
	unused, err := tx.UnusedClients()
	if err != nil {
		return err
	}
	if unused >= maxUnused {
		forgotten, err := tx.ForgetUnusedClients(tx.Now().Add(-settleTime), unused-maxUnused+lot)
		if err != nil {
			return err
		}
		unused -= forgotten
	}
	if unused >= maxUnused {
		e.fullAt.Store(tx.Now().UnixMicro())
		return errFull
	}
	e.fullAt.Store(0)
	e.room.Store(int64(min(lot, maxUnused-unused)) - 1)
	return nil
}

// created returns the response to a registration, with the new secret and the new registration access token.
func (e *Endpoint) created(c *oauth.Client, secret, token string) web.Reply {
	if c == nil {
		return web.Reply{}
	}
	info := e.information(c, secret, token)
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
