// Package adminapi serves the Admin API: the operations of package admin as JSON over HTTP, for programs with an access
// token of this server, and as tools of an MCP server, for agents. One table has every operation; its routes, its
// OpenAPI document and its tools are made from it.
package adminapi

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/keys"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/strangers"
	"github.com/cardea-auth/cardea/internal/web"
	"github.com/cardea-auth/cardea/scope"
)

// Prefix is the path below the issuer under which the operations are.
const Prefix = admin.APIPath + "/v1"

const maxKey = 255 // bytes of an Idempotency-Key

// Endpoint serves the API. All fields must be set.
type Endpoint struct {
	DB        *store.DB
	Keys      *keys.Ring
	Strangers *strangers.Recorder
	Issuer    string
	Admin     *admin.Operations // with its Directory
	// Key seals the cursors of lists, and what is kept of bodies.
	Key []byte
}

// metadata is the protected resource metadata (RFC 9728 §2).
type metadata struct {
	Resource             string    `json:"resource"`
	AuthorizationServers []string  `json:"authorization_servers"`
	ScopesSupported      scope.Set `json:"scopes_supported"`
	BearerMethods        []string  `json:"bearer_methods_supported"`
	Name                 string    `json:"resource_name"`
}

// door is one of the two resources of this server through which programs do operations.
type door struct {
	path   string // below the issuer
	name   string
	scopes scope.Set // that a client should ask for
}

// Routes returns the routes of the operations, of the document that describes them, of the MCP server that has them as
// tools, and of the metadata by which a client finds out where tokens come from.
func (e *Endpoint) Routes() []web.Route {
	document := sync.OnceValue(func() json.RawMessage { return Document(e.Issuer) }) // few ask for it
	routes := []web.Route{
		{
			Path: admin.APIPath + "/openapi.json", Caller: web.Anybody, Cache: "no-cache",
			Methods: web.Methods{"GET": web.Problems(func(*http.Request) (json.RawMessage, error) {
				return document(), nil
			})},
		},
		e.describe(door{path: admin.APIPath, name: "Cardea administration", scopes: admin.Scopes()}),
		e.describe(door{path: admin.MCPPath, name: "Cardea administration for agents", scopes: eachScope()}),
		{Path: admin.MCPPath, Methods: web.Methods{"POST": e.agents()}, Caller: web.Operators, CORS: true},
	}
	at := map[string]int{}
	for _, op := range entries {
		path := Prefix + op.spec().Path
		i, known := at[path]
		if !known {
			i = len(routes)
			at[path] = i
			route := web.Route{Path: path, Escapes: true, Methods: web.Methods{}, Caller: web.Operators}
			if snake := strings.ReplaceAll(path, "-", "_"); snake != path { // as tools and events spell the verb
				route.Also = []string{snake}
			}
			routes = append(routes, route)
		}
		routes[i].Methods[op.spec().Method] = web.Problems(func(r *http.Request) (web.Reply, error) {
			return e.serve(r, op)
		})
	}
	return routes
}

// base returns the path of the issuer, "" for none.
func (e *Endpoint) base() string {
	u, err := url.Parse(e.Issuer)
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(u.Path, "/")
}

// describe returns the route of the metadata of d (RFC 9728 §3.1).
func (e *Endpoint) describe(d door) web.Route {
	m := metadata{
		Resource: e.Issuer + d.path, AuthorizationServers: []string{e.Issuer}, ScopesSupported: d.scopes,
		BearerMethods: []string{"header"}, Name: d.name,
	}
	return web.Route{
		Path: "/.well-known/oauth-protected-resource" + e.base() + d.path, Place: web.AtRoot,
		Methods: web.Methods{"GET": web.JSON(func(*http.Request) (metadata, error) { return m, nil })},
		Caller:  web.Anybody, CORS: true, Cache: "no-cache",
	}
}

// metadataURL is where the metadata of the resource at path is.
func (e *Endpoint) metadataURL(path string) string {
	return strings.TrimSuffix(e.Issuer, e.base()) + "/.well-known/oauth-protected-resource" + e.base() + path
}

// serve answers a request for the operation op.
func (e *Endpoint) serve(r *http.Request, op entry) (web.Reply, error) {
	s := op.spec()
	by, client, err := e.caller(r, admin.APIPath, s.action(), s.needs())
	if err != nil {
		return web.Reply{}, err
	}
	if err := e.Admin.Permit(r.Context(), by, s.access(), s.action(), s.nouns()...); err != nil {
		return web.Reply{}, e.problem(admin.APIPath, s, err)
	}
	in, text, err := read(r, s)
	if err != nil {
		return web.Reply{}, err
	}
	seal, err := e.openCursor(r.URL.Path, r.URL.Query(), in)
	if err != nil {
		return web.Reply{}, err
	}
	request, err := e.conditions(r, s, by, client, text)
	if err != nil {
		return web.Reply{}, err
	}
	out, err := op.do(r.Context(), e.Admin.For(request), by, in)
	if replay := (*admin.Replay)(nil); errors.As(err, &replay) {
		return web.Reply{Status: replay.Status, Body: replay.Body,
			Header: http.Header{"Idempotency-Replayed": {"true"}}}, nil
	}
	if err != nil {
		return web.Reply{}, e.problem(admin.APIPath, s, err)
	}
	header := http.Header{}
	record := out
	if part, ok := out.(interface{ tagged() any }); ok {
		record = part.tagged()
	}
	if tag, ok := admin.ETag(record); ok {
		header.Set("ETag", tag)
	}
	return web.Reply{Status: s.Status, Body: sealed(out, seal), Header: header}, nil
}

// conditions returns what the header of r says about the change that it asks for: whose request it is and by which
// client, for a key, and which state of the record it is about.
func (e *Endpoint) conditions(r *http.Request, s *Spec, by admin.Caller, client string,
	text []byte) (admin.Request, error) {
	request := admin.Request{Status: s.Status}
	if s.Method == http.MethodGet {
		return request, nil
	}
	for tag := range strings.SplitSeq(strings.Join(r.Header.Values("If-Match"), ","), ",") {
		if tag = strings.TrimSpace(tag); tag != "" {
			request.Match = append(request.Match, tag)
		}
	}
	if len(request.Match) == 0 && r.Header.Values("If-Match") != nil { // the sender relies on it
		return request, refusal(http.StatusBadRequest, "header.If-Match",
			"If-Match is empty: send the ETag with which you read the object, or leave it out")
	}
	sent := r.Header.Values("Idempotency-Key")
	if s.Method != http.MethodPost || sent == nil {
		return request, nil
	}
	key := strings.Join(sent, ",")
	plain := func(c rune) bool { return ' ' <= c && c <= '~' }
	if key == "" || len(key) > maxKey || strings.ContainsFunc(key, func(c rune) bool { return !plain(c) }) {
		return request, refusal(http.StatusBadRequest, "header.Idempotency-Key",
			"Idempotency-Key must be 1 to %d printable ASCII characters", maxKey)
	}
	request.Key, request.Route = key, r.Method+" "+r.URL.Path
	request.BodyHash = base64.RawURLEncoding.EncodeToString(e.mac("body", string(text)))
	request.Caller = string(by.Actor.Type) + " " + by.Actor.ID + " " + client
	return request, nil
}

// mac returns a MAC of text for a purpose. A body may have a password, which a person who can read the database could
// guess from a plain hash.
func (e *Endpoint) mac(purpose, text string) []byte {
	h := hmac.New(sha256.New, e.Key)
	h.Write([]byte(purpose + "\x00" + text))
	return h.Sum(nil)
}

// caller returns who sent r, by the access token in its header (RFC 6750 §2.1), which must be for the resource at path
// and still count. client identifies the client to which the token was issued: it differs for one that is made again
// under the same id. A refusal is recorded as action, and names the scopes that a token should have.
func (e *Endpoint) caller(r *http.Request, path, action string,
	scopes scope.Set) (by admin.Caller, client string, err error) {
	refuse := func(code, detail string) error { return e.unauthorized(r, path, action, scopes, code, detail) }
	header := r.Header.Values("Authorization")
	scheme, token, _ := strings.Cut(strings.Join(header, ","), " ")
	if len(header) != 1 || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return by, "", refuse("",
			"send an access token for this resource in the header Authorization: Bearer …")
	}
	claims, err := e.Keys.Verify(r.Context(), token)
	switch {
	case errors.Is(err, keys.ErrNotOurs):
		return by, "", refuse("invalid_token",
			"the access token was not issued here, or the key that signed it is gone")
	case err != nil:
		return by, "", err
	case claims.Issuer != e.Issuer, claims.Audience != e.Issuer+path:
		return by, "", refuse("invalid_token",
			"the access token is for another resource than "+e.Issuer+path)
	case claims.Expiry <= e.DB.Now().Unix():
		return by, "", refuse("invalid_token", "the access token has expired")
	}
	counts := func(tx *store.Tx) error {
		_, err := e.Admin.Directory.AccessToken(tx, claims)
		return err
	}
	err = e.DB.View(r.Context(), func(tx *store.Tx) error {
		standing, err := e.Admin.Directory.AccessToken(tx, claims)
		if err != nil {
			return err
		}
		client = standing.Client.ID + " " + standing.Client.Incarnation
		// Not nil, which would stand for a person at the console.
		scopes := append(scope.Set{}, standing.Scope...)
		if claims.GrantID() == "" {
			by = admin.Program(standing.Client.ID, standing.Client.Name, scopes).While(counts)
			return nil
		}
		u, err := tx.User(claims.Subject)
		switch {
		case errors.Is(err, store.ErrNotFound): // deleted since the token was looked up
			return oauth.Refuse(oauth.InvalidToken, "its account is deleted")
		case err != nil:
			return err
		}
		by = admin.Person(u, scopes).While(counts)
		return nil
	})
	if refusal, ok := oauth.AsRefusal(err); ok {
		return by, "", refuse("invalid_token",
			"the access token does not count any more: "+refusal.Description)
	}
	return by, client, err
}

// unauthorized records that r has no access token that counts, and returns the refusal, which names the scopes to ask
// for (RFC 6750 §3, RFC 9728 §5.1).
func (e *Endpoint) unauthorized(r *http.Request, path, action string, scopes scope.Set, code, detail string) error {
	err := e.Strangers.Refuse(r, audit.Event{Action: action},
		oauth.RefuseStatus(http.StatusUnauthorized, oauth.InvalidToken, "%s", detail))
	refused, ok := oauth.AsRefusal(err)
	if !ok || refused.Status() != http.StatusUnauthorized {
		return err
	}
	challenge := fmt.Sprintf(`Bearer realm="cardea", scope="%s", resource_metadata="%s"`, scopes, e.metadataURL(path))
	if code != "" {
		challenge += fmt.Sprintf(`, error="%s", error_description="%s"`, code, web.ErrorDescription(detail))
	}
	return &web.Problem{Status: http.StatusUnauthorized, Code: oauth.InvalidToken, Detail: detail, Challenge: challenge}
}

// statuses are the HTTP statuses of the kinds of refusal.
var statuses = map[admin.Kind]int{
	admin.Invalid: http.StatusUnprocessableEntity, admin.NotFound: http.StatusNotFound,
	admin.Conflict: http.StatusConflict, admin.Forbidden: http.StatusForbidden,
	admin.Stale: http.StatusPreconditionFailed,
}

// problem returns err, the error of an operation, as the problem that a client at path is told. A fault stays what it
// is.
func (e *Endpoint) problem(path string, s *Spec, err error) error {
	if p := faulty(err); p != nil {
		return p
	}
	refused := (*admin.Error)(nil)
	if !errors.As(err, &refused) {
		return err
	}
	p := &web.Problem{Status: statuses[refused.Kind], Code: oauth.InvalidRequest, Detail: refused.Error()}
	p.Noun, p.ID = string(refused.Noun), refused.ID
	if refused.Field != "" {
		place := "body."
		if s.Method == http.MethodGet {
			place = "query."
		}
		p.Errors = []web.Fault{{Location: place + refused.Field, Message: refused.Error()}}
	}
	switch {
	case refused.Scope != "":
		p.Code = "insufficient_scope"
		p.Challenge = fmt.Sprintf(`Bearer realm="cardea", error="insufficient_scope", scope="%s", `+
			`resource_metadata="%s", error_description="%s"`, s.needs(refused.Scope), e.metadataURL(path),
			web.ErrorDescription(p.Detail))
	case refused.Kind == admin.Forbidden:
		p.Code = oauth.AccessDenied
	case refused.Kind == admin.NotFound:
		p.Code = "not_found"
	case refused.Kind == admin.Conflict:
		p.Code = "conflict"
	case refused.Kind == admin.Stale:
		p.Code = "stale"
	}
	return p
}

// openCursor replaces the cursor of a list that in asks for by that of the store, bounds its limit, and returns what
// seals the next cursor. A cursor belongs to the list and the filters that it came with; filters may have the cursor
// and the limit too.
func (e *Endpoint) openCursor(place string, filters url.Values, in any) (seal func(string) string, err error) {
	list, ok := in.(interface{ listing() *Listing })
	if !ok {
		return nil, nil
	}
	l := list.listing()
	if l.Limit == 0 {
		l.Limit = usualLimit
	}
	l.Limit = min(l.Limit, maxLimit)
	filters.Del("cursor")
	filters.Del("limit")
	mac := func(inner string) []byte {
		return e.mac("cursor", strings.Trim(place, "/")+"\x00"+filters.Encode()+"\x00"+inner)[:16]
	}
	if l.Cursor != "" {
		text, err := base64.RawURLEncoding.DecodeString(l.Cursor)
		if err != nil || len(text) < 16 || !hmac.Equal(mac(string(text[16:])), text[:16]) {
			return nil, refusal(http.StatusBadRequest, "query.cursor",
				"cursor does not fit: use the one that came with the page before, with the same filters")
		}
		l.Cursor = string(text[16:])
	}
	return func(inner string) string {
		return base64.RawURLEncoding.EncodeToString(append(mac(inner), inner...))
	}, nil
}

// sealed returns out, if it is a page with its cursor sealed.
func sealed(out any, seal func(string) string) any {
	if page, ok := out.(interface {
		sealed(func(string) string) any
	}); ok {
		return page.sealed(seal)
	}
	return out
}
