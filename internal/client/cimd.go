package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4/json" // distinguishes names by case and refuses duplicate names

	"github.com/cardea-auth/cardea/internal/assertion"
	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/fetch"
	"github.com/cardea-auth/cardea/internal/limit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/strangers"
)

// maxDocuments bounds the metadata documents in memory.
const maxDocuments = 1000

// goodInStore is how long the stored document of a client in use serves if no newer one can be fetched.
const goodInStore = 30 * 24 * time.Hour

// Documents finds the metadata of clients whose client_id is the URL of their metadata document
// (draft-ietf-oauth-client-id-metadata-document). Use NewDocuments to make one.
type Documents struct {
	db     *store.DB
	issuer string
	policy Policy
	pinned map[string]*oauth.Metadata // by client_id
	cache  *fetch.Cache[*oauth.Metadata]
	again  *limit.Limiter // by client_id: fetches before the cached document is stale

	fetcher *fetch.Client
	log     *slog.Logger
	reached atomic.Bool    // whether a document was fetched since the start
	hints   *limit.Limiter // of unfetched, to the operator
}

// hintEvery is how often the log tells an operator what to do if no document can be fetched.
const hintEvery = time.Hour

// Policy says which metadata documents are accepted.
type Policy struct {
	// Listed accepts only documents on the hosts of Allow. If it is false, every public host is accepted. The hosts of
	// Deny are refused in both cases.
	Listed        bool
	Allow, Deny   HostList
	AllowLoopback bool               // also accept http and https URLs of loopback hosts
	Fetches       *strangers.Fetches // nil: unlimited
}

// NewDocuments returns Documents that uses fetcher, for a server with the given issuer. If log is not nil, it receives
// the reasons for which documents could not be fetched. The documents in the folder pinnedDir, unless it is "", are
// used as they are and never fetched. NewDocuments returns an error that names the file if one of them is not a valid
// metadata document.
func NewDocuments(db *store.DB, issuer string, policy Policy, pinnedDir string, fetcher *fetch.Client,
	log *slog.Logger) (*Documents, error) {
	d := &Documents{db: db, issuer: issuer, policy: policy, pinned: make(map[string]*oauth.Metadata),
		again: assertion.NewRefetches(db.Now)}
	d.fetcher = fetcher
	d.hints, d.log = limit.New(limit.Rate{Every: hintEvery, Burst: 1}, 1, db.Now), log
	if log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	d.cache = fetch.NewCache(fetcher, fetch.Metadata, maxDocuments,
		func(url string, doc *fetch.Document) (*oauth.Metadata, error) {
			d.reached.Store(true)
			return d.parse(url, doc.Body)
		})
	if pinnedDir == "" {
		return d, nil
	}
	entries, err := os.ReadDir(pinnedDir)
	if err != nil {
		return nil, fmt.Errorf("registration.cimd_pinned_dir: the folder cannot be read: %w; check the path and "+
			"its permissions", err)
	}
	for _, entry := range entries {
		if filepath.Ext(entry.Name()) != ".json" {
			continue
		}
		file := filepath.Join(pinnedDir, entry.Name())
		if err := d.pin(file); err != nil {
			return nil, fmt.Errorf("registration.cimd_pinned_dir: %s: %w", file, err)
		}
	}
	return d, nil
}

// pin reads one document from the folder of pinned documents.
func (d *Documents) pin(file string) error {
	text, err := os.ReadFile(file) // #nosec G304 -- the operator names the folder
	if err != nil {
		return fmt.Errorf("it cannot be read: %w; check its permissions", err)
	}
	var named struct {
		ClientID string `json:"client_id"`
	}
	if err := json.Unmarshal(text, &named); err != nil {
		return errors.New("it is not a JSON object with a client_id")
	}
	if err := fetch.CheckURL(named.ClientID, d.policy.AllowLoopback); err != nil {
		return fmt.Errorf("its client_id cannot be the URL of a metadata document: %w", err)
	}
	m, err := d.parse(named.ClientID, text)
	if refusal, ok := oauth.AsRefusal(err); ok { // a refusal would be printed without the name of the file
		return errors.New(refusal.Description)
	}
	if err != nil {
		return err
	}
	if d.pinned[named.ClientID] != nil {
		return fmt.Errorf("another file has the client_id %s too", named.ClientID)
	}
	d.pinned[named.ClientID] = m
	return nil
}

// WarnIfOffline logs a warning if this machine has no route to the internet, because then only pinned documents can be
// used.
func (d *Documents) WarnIfOffline(ctx context.Context) {
	if d.policy.AllowLoopback || d.fetcher.Routed(ctx) {
		return
	}
	d.log.WarnContext(ctx, "this machine has no route to the internet: no client metadata document can be fetched, "+
		"and clients that rely on one cannot connect. "+offlineAdvice)
}

// offlineAdvice tells an operator what to do on a machine without a route to the internet.
const offlineAdvice = "If this server cannot reach the internet, set registration.cimd to off, so that clients " +
	"register instead, or put their documents into registration.cimd_pinned_dir"

// IsDocumentURL reports whether id has the form of a metadata document's URL. No client_id that this server generates
// has that form.
func IsDocumentURL(id string) bool {
	return strings.HasPrefix(id, "https://") || strings.HasPrefix(id, "http://")
}

// check refuses a client_id whose document is not accepted here. It looks at the URL only and fetches nothing.
func (d *Documents) check(id string) error {
	if err := fetch.CheckURL(id, d.policy.AllowLoopback); err != nil {
		return oauth.Refuse(oauth.InvalidRequest, "client_id cannot be the URL of a client metadata document: %v", err)
	}
	switch {
	case d.policy.Deny.coversAnyPort(id), d.policy.Listed && !d.policy.Allow.Covers(id) && d.pinned[id] == nil:
		return oauth.Refuse(oauth.UnauthorizedClient,
			"the operator of this server does not accept applications from the host of this client_id")
	}
	return nil
}

// errNoDocument is the refusal for every cause, because different answers would tell a stranger which addresses are
// reachable from this server. It does not blame the document, because this server may be the one that has no route to
// the internet.
var errNoDocument = oauth.Refuse(oauth.InvalidRequest,
	"This server could not fetch the metadata document of the application, or the response was not a valid one. The "+
		"application itself may be fine. The administrator of this server can find the cause in its log.")

// unfetched logs why the document at the URL id could not be fetched. If no document could be fetched since the start,
// it also logs what an operator can do if this server has no route to the internet.
func (d *Documents) unfetched(r *http.Request, id string, cause error) {
	level, message := slog.LevelInfo, "a client metadata document could not be fetched"
	if ok, _ := d.hints.Allow(""); ok && !d.reached.Load() {
		level = slog.LevelWarn
		message += ", nor any other since the start: clients that rely on one cannot connect. " + offlineAdvice
	}
	d.log.Log(r.Context(), level, message, "client_id", id, "cause", cause, "request_id",
		audit.RequestFrom(r.Context()).ID)
}

// find returns the metadata of the client with the given id and the time when its document was fetched. If the document
// was fetched before newerThan, find fetches it again and falls back on the old one if that fails. known is the client
// as it is stored, or nil if it is not stored yet. person is the ID of the signed-in person, or "".
func (d *Documents) find(r *http.Request, id, person string, known *oauth.Client,
	newerThan time.Time) (*oauth.Metadata, time.Time, error) {
	if err := d.check(id); err != nil {
		return nil, time.Time{}, err
	}
	if m := d.pinned[id]; m != nil {
		return m, d.db.Now(), nil
	}
	if known != nil {
		d.cache.Seed(id, &known.Metadata, known.FetchedAt, known.FetchedAt.Add(goodInStore))
	}
	m, fetchedAt, err := d.cache.Load(r.Context(), id, newerThan, func() (func(), error) {
		if !newerThan.IsZero() { // a fetch before the document is stale
			if ok, after := d.again.Allow(id); !ok {
				return nil, oauth.RefuseForNow(after, "the metadata document was fetched too often: try again later")
			}
		}
		return d.policy.Fetches.Take(r, person)
	})
	if err == nil || oauth.IsRefusal(err) || r.Context().Err() != nil {
		return m, fetchedAt, err
	}
	d.unfetched(r, id, err)
	return nil, time.Time{}, oauth.Because(errNoDocument, err)
}

// parse reads the document at the URL id.
func (d *Documents) parse(id string, text []byte) (*oauth.Metadata, error) {
	bad := func(format string, args ...any) error {
		return oauth.Refuse(oauth.InvalidClientMetadata,
			"The metadata document at this client_id is not valid: "+format, args...)
	}
	m, err := Read(text)
	if refusal, ok := oauth.AsRefusal(err); ok {
		return nil, bad("%s", refusal.Description)
	}
	if err != nil {
		return nil, err
	}
	var said members // for the members that Read ignores
	if err := json.Unmarshal(text, &said); err != nil {
		return nil, ErrNotObject
	}
	_, secret := said["client_secret"]
	_, expires := said["client_secret_expires_at"]
	switch {
	case assertion.HasTwin(text, "client_id", "redirect_uris", "token_endpoint_auth_method",
		"token_endpoint_auth_methods_supported", "jwks", "jwks_uri"):
		return nil, bad("a member has a name in another case: names are compared byte for byte")
	case said.text("client_id") != id:
		return nil, bad("its client_id is not equal to its own URL, byte for byte")
	case secret || expires:
		return nil, bad("it must not contain client_secret or client_secret_expires_at, because the document is public")
	case strings.TrimSpace(m.Name) == "":
		return nil, bad("client_name is missing, or longer than %d bytes", maxText)
	case len(m.RedirectURIs) == 0:
		return nil, bad("redirect_uris is missing")
	}
	if err := chooseMethods(m); err != nil {
		return nil, bad("%s", err)
	}
	if err := Check(m, d.issuer); err != nil {
		refusal, ok := oauth.AsRefusal(err)
		if !ok {
			return nil, err
		}
		return nil, bad("%s", refusal.Description)
	}
	return m, nil
}

// chooseMethods sets Method to the first of the document's authentication methods that this server supports, and
// Methods to all that it supports (token_endpoint_auth_methods_supported) if there are several. A document that names
// none is that of a public client.
func chooseMethods(m *oauth.Metadata) error {
	offered := m.Methods
	if m.Method != "" {
		offered = append([]oauth.Method{m.Method}, offered...)
	}
	if len(offered) == 0 {
		offered = []oauth.Method{oauth.MethodNone}
	}
	m.Method, m.Methods = "", nil
	for _, method := range offered {
		switch method {
		case "client_secret_basic", "client_secret_post", "client_secret_jwt":
			if method == offered[0] {
				return fmt.Errorf("token_endpoint_auth_method %s needs a secret, which a public document cannot keep",
					method)
			}
			continue
		case oauth.MethodPrivateKeyJWT:
			if (len(m.JWKS) == 0 || string(m.JWKS) == "null") && m.JWKSURI == "" {
				continue
			}
		case oauth.MethodNone:
		default:
			continue
		}
		if m.Method == "" {
			m.Method = method
		}
		if !slices.Contains(m.Methods, method) {
			m.Methods = append(m.Methods, method)
		}
	}
	switch {
	case m.Method == "":
		return errors.New("it names no token_endpoint_auth_method that this server supports: use none, or " +
			"private_key_jwt with jwks or jwks_uri")
	case len(m.Methods) == 1:
		m.Methods = nil
	}
	return nil
}
