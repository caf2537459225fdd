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

	"github.com/go-jose/go-jose/v4/json" // tells apart names by case, refuses a name given twice

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

// goodInStore is how long the document of a client that people use is good when
// no newer one can be had.
const goodInStore = 30 * 24 * time.Hour

// Documents finds the metadata of clients whose client_id is the URL of it
// (draft-ietf-oauth-client-id-metadata-document). Make it with NewDocuments.
type Documents struct {
	db     *store.DB
	issuer string
	policy Policy
	pinned map[string]*oauth.Metadata // by client_id
	cache  *fetch.Cache[*oauth.Metadata]
	again  *limit.Limiter // by client_id

	fetcher *fetch.Client
	log     *slog.Logger
	reached atomic.Bool    // a document was fetched since the start
	hints   *limit.Limiter // to the operator
}

// hintEvery is how often an operator is told what to do when no document can be
// fetched.
const hintEvery = time.Hour

// Policy says whose metadata documents count.
type Policy struct {
	// Listed leaves only the hosts of Allow; else any public host will do but
	// those of Deny.
	Listed        bool
	Allow, Deny   HostList
	AllowLoopback bool               // http and https URLs of loopback hosts too
	Fetches       *strangers.Fetches // nil: without limit
}

// NewDocuments returns the documents that fetcher fetches, on a server with the
// given issuer; log, unless nil, has why one is not there. Those in the folder pinnedDir, "" for none, are not fetched but
// taken as they are; an error names the file among them that is no metadata
// document.
func NewDocuments(db *store.DB, issuer string, policy Policy, pinnedDir string, fetcher *fetch.Client, log *slog.Logger) (*Documents, error) {
	d := &Documents{db: db, issuer: issuer, policy: policy, pinned: make(map[string]*oauth.Metadata), again: assertion.NewRefetches(db.Now)}
	d.fetcher = fetcher
	d.hints, d.log = limit.New(limit.Rate{Every: hintEvery, Burst: 1}, 1, db.Now), log
	if log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	d.cache = fetch.NewCache(fetcher, fetch.Metadata, maxDocuments, func(url string, doc *fetch.Document) (*oauth.Metadata, error) {
		d.reached.Store(true)
		return d.parse(url, doc.Body)
	})
	if pinnedDir == "" {
		return d, nil
	}
	entries, err := os.ReadDir(pinnedDir)
	if err != nil {
		return nil, fmt.Errorf("registration.cimd_pinned_dir: %w", err)
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

// pin takes over one document of the folder of pinned ones.
func (d *Documents) pin(file string) error {
	text, err := os.ReadFile(file) // #nosec G304 -- the operator names the folder
	if err != nil {
		return err
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
	if refusal, ok := oauth.AsRefusal(err); ok { // which would be printed without the name of the file
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

// WarnOfNoWay logs a warning if this machine has no way to the internet, so that no
// document can be fetched that is not pinned.
func (d *Documents) WarnOfNoWay(ctx context.Context) {
	if d.policy.AllowLoopback || d.fetcher.Routed(ctx) {
		return
	}
	d.log.WarnContext(ctx, "this machine has no route to the internet: no client metadata document can be fetched, and clients that rely on one cannot connect. "+noWayOut)
}

// noWayOut is what an operator can do about it.
const noWayOut = "If this server cannot reach the internet, set registration.cimd to off, so that clients register instead, " +
	"or put their documents into registration.cimd_pinned_dir"

// IsDocumentURL reports whether a client_id can only be that of a client with a
// metadata document: no client_id that is made here looks like it.
func IsDocumentURL(id string) bool {
	return strings.HasPrefix(id, "https://") || strings.HasPrefix(id, "http://")
}

// check refuses a client_id whose document does not count here, by its text
// alone.
func (d *Documents) check(id string) error {
	if err := fetch.CheckURL(id, d.policy.AllowLoopback); err != nil {
		return oauth.Refuse(oauth.InvalidRequest, "client_id cannot be that of a client metadata document: %v", err)
	}
	switch {
	case d.policy.Deny.coversAnyPort(id), d.policy.Listed && !d.policy.Allow.Covers(id) && d.pinned[id] == nil:
		return oauth.Refuse(oauth.UnauthorizedClient, "the operator of this server does not accept applications from the host of this client_id")
	}
	return nil
}

// errNoDocument is the one answer whatever kept the document away: a stranger must
// not learn from it what listens where. It blames nobody, for it may be this server
// that has no way to the internet.
var errNoDocument = oauth.Refuse(oauth.InvalidRequest, "This server could not fetch the metadata document of the application, or what came is not one. "+
	"The application may be in order: the administrator of this server finds the cause in its log.")

// unfetched logs why the document at the URL id is not there. While none could be
// fetched since the start, it also says what an operator can do about a server that
// has no way to the internet.
func (d *Documents) unfetched(r *http.Request, id string, cause error) {
	level, message := slog.LevelInfo, "a client metadata document could not be fetched"
	if ok, _ := d.hints.Allow(""); ok && !d.reached.Load() {
		level = slog.LevelWarn
		message += ", nor any other since the start: clients that rely on one cannot connect. " + noWayOut
	}
	d.log.Log(r.Context(), level, message, "client_id", id, "cause", cause, "request_id", audit.RequestFrom(r.Context()).ID)
}

// find returns the metadata of the client with the given id, and when its document
// was read: not before newerThan, if a newer one can be had. known is the client
// as it is stored, nil if nobody has used it yet. person is who is signed in, ""
// for nobody.
func (d *Documents) find(r *http.Request, id, person string, known *oauth.Client, newerThan time.Time) (*oauth.Metadata, time.Time, error) {
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
		if !newerThan.IsZero() { // before its time
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
		return oauth.Refuse(oauth.InvalidClientMetadata, "The metadata document at this client_id is not valid: "+format, args...)
	}
	m, err := Read(text)
	if refusal, ok := oauth.AsRefusal(err); ok {
		return nil, bad("%s", refusal.Description)
	}
	if err != nil {
		return nil, err
	}
	var said members // more than a registration says, and what a document must not say
	if err := json.Unmarshal(text, &said); err != nil {
		return nil, ErrNotObject
	}
	_, secret := said["client_secret"]
	_, expires := said["client_secret_expires_at"]
	switch {
	case assertion.HasTwin(text, "client_id", "redirect_uris", "token_endpoint_auth_method", "token_endpoint_auth_methods_supported", "jwks", "jwks_uri"):
		return nil, bad("a member is there in another case: names are compared byte for byte")
	case said.text("client_id") != id:
		return nil, bad("its client_id is not its own URL, byte for byte")
	case secret || expires:
		return nil, bad("it must not have a client_secret: everybody can read it")
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

// chooseMethods leaves of the methods that a document names those that are served
// here: the one it prefers, and those it could use as well
// (token_endpoint_auth_methods_supported). One that names none is public.
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
				return fmt.Errorf("token_endpoint_auth_method %s needs a secret, which a public document cannot keep", method)
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
		return errors.New("it names no token_endpoint_auth_method that is served here: use none, or private_key_jwt with jwks or jwks_uri")
	case len(m.Methods) == 1:
		m.Methods = nil
	}
	return nil
}
