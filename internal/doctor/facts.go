package doctor

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// facts are what the probes saw. The rules judge them and send nothing.
type facts struct {
	options  Options
	line     *line
	typed    *url.URL // what the person typed
	endpoint *url.URL // where that leads

	addresses   []netip.Addr
	lookupError error
	certificate error // what is wrong with it

	first      answer   // initialize of 2025-11-25, without a token, at typed
	moves      []answer // redirects of the endpoint, from typed on
	initialize answer   // the same as first, at endpoint
	discover   answer   // server/discover of 2026-07-28
	nameless   answer   // the same, without the header Mcp-Method
	tools      answer   // tools/list, without a token
	bogus      answer   // initialize with a token that nobody issued
	get        answer
	oldSession answer // a request with a session that does not exist
	preflight  answer
	fromPage   answer // initialize as a web page sends it
	agents     []agentAnswer
	elsewhere  []string // where an MCP server answers, if not at endpoint

	refused   answer    // the first of them that is a 401; initialize, if none is
	challenge challenge // of refused
	linked    document  // what resource_metadata names
	path      document  // the metadata of the resource, at its own well-known path
	root      document  // the same at the root of the host
	servers   []server  // of authorization_servers; or the host of the MCP server, if there are none
	atServer  document  // metadata of an authorization server, at the host of the MCP server
	keys      document
	authorize answer     // the authorization endpoint without parameters
	crossSite []crossing // preflights of the authorization server

	at    time.Time // when the first response came
	skews []skew

	registered registered
	login      login

	// use is what the token of a login is for, in place of the checks that come after it. It may be nil.
	use func(ctx context.Context, token string)
}

type agentAnswer struct {
	client, agent string
	answer
}

type skew struct {
	whose string
	by    time.Duration // how much its clock is ahead of this computer's
}

type crossing struct {
	what string
	answer
}

// document is a JSON document of discovery.
type document struct {
	name string
	answer
	hops    []answer // redirects before it
	members map[string]any
}

func (d document) ok() bool { return d.status == http.StatusOK && d.members != nil }

func (d document) text(member string) string    { return text(d.members[member]) }
func (d document) texts(member string) []string { return texts(d.members[member]) }

// server is an authorization server.
type server struct {
	issuer string
	forms  []document // RFC 8414; OpenID, inserted; OpenID, appended
}

// metadata returns the first form that is a document.
func (s server) metadata() document {
	for _, d := range s.forms {
		if d.ok() {
			return d
		}
	}
	return document{}
}

// challenge is a WWW-Authenticate header (RFC 6750 §3).
type challenge struct {
	given      bool // there is a header
	bearer     bool
	parameters map[string]string
}

var parameter = regexp.MustCompile(`([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))`)

func readChallenge(header http.Header) challenge {
	c := challenge{parameters: map[string]string{}}
	for _, value := range header.Values("WWW-Authenticate") {
		c.given = true
		if at := strings.Index(strings.ToLower(value), "bearer"); at >= 0 {
			c.bearer = true
			for _, m := range parameter.FindAllStringSubmatch(value[at+len("bearer"):], -1) {
				c.parameters[strings.ToLower(m[1])] = strings.ReplaceAll(m[2]+m[3], `\`, "")
			}
		}
	}
	return c
}

// The requests of the probes. They must be valid, because a server may answer others with 400 before it looks for a
// token.
const (
	protocol  = "2025-11-25"
	stateless = "2026-07-28"
)

var (
	initializeBody = rpc("initialize", map[string]any{"protocolVersion": protocol, "capabilities": map[string]any{},
		"clientInfo": map[string]any{"name": "cardea-doctor", "version": "1"}})
	toolsBody = rpc("tools/list", map[string]any{})
)

func rpc(method string, params map[string]any) []byte {
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		panic(err) // strings marshal
	}
	return body
}

// meta is what a request of MCP 2026-07-28 says of its client.
func meta(params map[string]any) map[string]any {
	params["_meta"] = map[string]any{
		"io.modelcontextprotocol/protocolVersion":    stateless,
		"io.modelcontextprotocol/clientCapabilities": map[string]any{},
		"io.modelcontextprotocol/clientInfo":         map[string]any{"name": "cardea-doctor", "version": "1"},
	}
	return params
}

// headers returns the headers of an MCP request and the pairs given.
func headers(pairs ...string) http.Header {
	h := http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}}
	for pair := range slices.Chunk(pairs, 2) {
		h.Set(pair[0], pair[1])
	}
	return h
}

// bogusToken is a JWT that nobody signed.
var bogusToken = base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","typ":"at+jwt","kid":"cardea-doctor"}`)) +
	"." +
	base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"cardea-doctor","exp":4102444800}`)) + ".bm90LWEtc2lnbmF0dXJl"

const pageOrigin = "https://inspector.example" // of a client that is a web page

// probe looks at everything, once.
func (f *facts) probe(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, allProbes)
	defer cancel()
	f.options.Progress("asking " + f.typed.String() + " without a token")
	f.knock(bounded)
	if f.initialize.came() {
		f.probeEndpoint(bounded)
		f.options.Progress("looking for its metadata")
		f.probeResource(bounded)
		f.options.Progress("asking as other clients do")
		f.probeAgents(bounded)
		for _, s := range f.servers {
			f.options.Progress("looking at the authorization server " + s.issuer)
		}
		f.probeServers(bounded)
	}
	if f.registered.skipped, f.login.skipped = notAsked("--register"), notAsked("--login"); f.options.Register ||
		f.options.Login {
		f.registered.skipped, f.login.skipped = "", ""
		f.probeClient(ctx)
	}
}

// reached reports whether the MCP server answers.
func (f *facts) reached() bool { return f.initialize.came() }

// open reports whether the server answers without a token.
func (f *facts) open() bool { return f.initialize.result() != nil || f.discover.result() != nil }

// asks reports whether something at the server speaks of OAuth.
func (f *facts) asks() bool {
	return f.initialize.status == http.StatusUnauthorized || f.discover.status == http.StatusUnauthorized ||
		f.tools.status == http.StatusUnauthorized || f.challenge.bearer || f.prm().ok() ||
		f.initialize.status == http.StatusForbidden
}

// isServer reports whether there is an MCP server at the endpoint, as far as one sees without a token.
func (f *facts) isServer() bool {
	if f.open() || f.initialize.problem() != 0 {
		return true
	}
	switch f.initialize.status {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusGone:
		return f.discover.status == http.StatusUnauthorized
	}
	if f.initialize.page() {
		return f.initialize.status == http.StatusUnauthorized || f.initialize.status == http.StatusForbidden
	}
	return f.asks() || f.initialize.elseStands() || f.initialize.err != nil // it breaks off
}

// mute reports whether there is an MCP server that neither answers initialize nor asks for a token.
func (f *facts) mute() bool {
	switch f.initialize.status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return false
	}
	return f.isServer() && !f.open() && !f.initialize.elseStands() && f.discover.status != http.StatusUnauthorized
}

// prm returns the metadata of the resource that clients use.
func (f *facts) prm() document {
	for _, d := range []document{f.linked, f.path, f.root} {
		if d.ok() {
			return d
		}
	}
	return document{}
}

// server returns the authorization server that clients use: the first.
func (f *facts) server() server {
	if len(f.servers) == 0 {
		return server{}
	}
	return f.servers[0]
}

// as returns the metadata of that server.
func (f *facts) as() document { return f.server().metadata() }

// knock sends the first request, and follows its redirects as clients do.
func (f *facts) knock(ctx context.Context) {
	host := f.typed.Hostname()
	if ip, err := netip.ParseAddr(host); err == nil {
		f.addresses = []netip.Addr{ip}
	} else if !isLoopbackHost(host) {
		f.addresses, f.lookupError = f.options.Lookup(ctx, host)
	}
	f.first = f.line.ask(ctx, http.MethodPost, f.typed.String(), initializeBody, headers())
	if f.certificate = certificateError(f.first.err); f.certificate != nil {
		f.line.trust()
		f.first = f.line.ask(ctx, http.MethodPost, f.typed.String(), initializeBody, headers())
	}
	f.at = f.options.Now()
	f.initialize = f.first
	for to := f.initialize.moved(); to != nil && len(f.moves) < 3; to = f.initialize.moved() {
		f.moves = append(f.moves, f.initialize)
		if to.Hostname() != f.endpoint.Hostname() || f.isLogin(f.initialize) {
			break
		}
		f.endpoint = to
		f.initialize = f.line.ask(ctx, http.MethodPost, to.String(), initializeBody, headers())
	}
	f.clock("the MCP server", f.initialize)
}

// clock compares the Date of a response with this computer's clock.
func (f *facts) clock(whose string, a answer) {
	date, err := http.ParseTime(a.header.Get("Date"))
	if err == nil {
		f.skews = append(f.skews, skew{whose, date.Sub(f.options.Now()).Round(time.Second)})
	}
}

func (f *facts) probeEndpoint(ctx context.Context) {
	at := f.endpoint.String()
	post := func(body []byte, pairs ...string) answer {
		return f.line.ask(ctx, http.MethodPost, at, body, headers(pairs...))
	}
	discover := rpc("server/discover", meta(map[string]any{}))
	f.discover = post(discover, "MCP-Protocol-Version", stateless, "Mcp-Method", "server/discover")
	bearer := "Bearer " + bogusToken
	if f.bogus = post(initializeBody, "Authorization", bearer); f.initialize.status != http.StatusUnauthorized &&
		f.discover.status == http.StatusUnauthorized { // the server knows MCP 2026-07-28 only
		f.bogus = post(discover, "MCP-Protocol-Version", stateless, "Mcp-Method", "server/discover",
			"Authorization", bearer)
	}
	f.get = f.line.ask(ctx, http.MethodGet, at, nil, http.Header{"Accept": {"text/event-stream"}})
	f.preflight = f.line.ask(ctx, http.MethodOptions, at, nil, preflightOf("POST",
		"authorization, content-type, mcp-protocol-version, mcp-session-id, mcp-method, mcp-name"))
	f.fromPage = post(initializeBody, "Origin", pageOrigin)
	if f.discover.result() != nil {
		f.nameless = post(discover, "MCP-Protocol-Version", stateless)
	}
	if session := f.initialize.header.Get("Mcp-Session-Id"); f.initialize.result() != nil {
		post([]byte(`{"jsonrpc":"2.0","method":"notifications/initialized"}`), present("Mcp-Session-Id", session,
			"MCP-Protocol-Version", protocol)...)
		f.tools = post(toolsBody, present("Mcp-Session-Id", session, "MCP-Protocol-Version", protocol)...)
		if session != "" {
			f.oldSession = post(toolsBody, "Mcp-Session-Id", "cardea-doctor-no-such-session",
				"MCP-Protocol-Version", protocol)
			f.line.ask(ctx, http.MethodDelete, at, nil, headers("Mcp-Session-Id", session)) // the one it began
		}
	} else if f.discover.result() != nil {
		f.tools = post(rpc("tools/list", meta(map[string]any{})), "MCP-Protocol-Version", stateless, "Mcp-Method",
			"tools/list")
	}
	f.refused = f.initialize
	for _, a := range []answer{f.initialize, f.discover, f.tools} {
		if a.status == http.StatusUnauthorized {
			f.refused = a
			break
		}
	}
	f.challenge = readChallenge(f.refused.header)
	if !f.isServer() {
		f.searchElsewhere(ctx)
	}
}

// present returns pairs without those whose value is "".
func present(pairs ...string) (kept []string) {
	for pair := range slices.Chunk(pairs, 2) {
		if pair[1] != "" {
			kept = append(kept, pair...)
		}
	}
	return kept
}

func preflightOf(method, fields string) http.Header {
	return http.Header{"Origin": {pageOrigin}, "Access-Control-Request-Method": {method},
		"Access-Control-Request-Headers": {fields}}
}

// searchElsewhere looks where MCP servers usually are, because people forget the path.
func (f *facts) searchElsewhere(ctx context.Context) {
	path := strings.TrimSuffix(f.endpoint.EscapedPath(), "/")
	var tried []string
	for _, try := range []string{path + "/mcp", "/mcp", path + "/sse", "/sse", "/api/mcp", "/mcp/", "/v1/mcp", "/"} {
		address := origin(f.endpoint) + try
		if address == f.endpoint.String() || slices.Contains(tried, address) {
			continue
		}
		tried = append(tried, address)
		a := f.line.ask(ctx, http.MethodPost, address, initializeBody, headers())
		if a.result() != nil || a.status == http.StatusUnauthorized && readChallenge(a.header).bearer {
			f.elsewhere = append(f.elsewhere, address)
			continue
		}
		if strings.HasSuffix(try, "/sse") {
			a = f.line.ask(ctx, http.MethodGet, address, nil, http.Header{"Accept": {"text/event-stream"}})
			if a.media() == "text/event-stream" {
				f.elsewhere = append(f.elsewhere, address)
			}
		}
	}
}

// document reads a JSON document, through at most two redirects, which some clients follow.
func (f *facts) document(ctx context.Context, name, address string) document {
	d := document{name: name}
	h := http.Header{"Accept": {"application/json"}, "Mcp-Protocol-Version": {protocol}, "Origin": {pageOrigin}}
	for range 3 {
		if d.answer = f.line.ask(ctx, http.MethodGet, address, nil, h); d.status == http.StatusForbidden &&
			h.Get("Origin") != "" {
			h.Del("Origin") // a server may refuse foreign pages
			d.answer = f.line.ask(ctx, http.MethodGet, address, nil, h)
		}
		to := d.moved()
		if to == nil {
			break
		}
		d.hops = append(d.hops, d.answer)
		address = to.String()
	}
	if d.members = d.object(); d.status != http.StatusOK {
		d.members = nil
	}
	return d
}

func (f *facts) probeResource(ctx context.Context) {
	const name = "oauth-protected-resource"
	own, root := wellKnown(f.endpoint, name), origin(f.endpoint)+"/.well-known/"+name
	f.path = f.document(ctx, "path", own)
	f.root = f.path
	if own != root {
		f.root = f.document(ctx, "root", root)
	}
	f.root.name = "root"
	switch link := f.challenge.parameters["resource_metadata"]; {
	case link == "":
	case link == own:
		f.linked = f.path
	case link == root:
		f.linked = f.root
	case secure(parse(link)):
		f.linked = f.document(ctx, "linked", link)
	default:
		f.linked = document{answer: answer{url: link, err: fmt.Errorf("it is not an https URL")}}
	}
	f.linked.name = "linked"
	issuers := f.prm().texts("authorization_servers")
	if len(issuers) == 0 && f.asks() {
		issuers = []string{origin(f.endpoint)} // where clients of MCP 2025-03-26 look
	}
	for _, issuer := range issuers[:min(len(issuers), 3)] {
		f.servers = append(f.servers, server{issuer: issuer})
	}
}

// probeAgents sends the first request under the names of other programs.
func (f *facts) probeAgents(ctx context.Context) {
	for _, c := range clients {
		if c.agent != "" {
			f.agents = append(f.agents, agentAnswer{c.name, c.agent,
				f.line.ask(ctx, http.MethodPost, f.endpoint.String(), initializeBody, headers("User-Agent", c.agent))})
		}
	}
	f.agents = append(f.agents,
		agentAnswer{"", "", f.line.ask(ctx, http.MethodPost, f.endpoint.String(), initializeBody,
			http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"},
				"User-Agent": {""}})})
}

func (f *facts) probeServers(ctx context.Context) {
	for i := range f.servers {
		s := &f.servers[i]
		issuer := parse(s.issuer)
		if issuer == nil || issuer.Scheme != "https" && issuer.Scheme != "http" {
			continue
		}
		s.forms = append(s.forms,
			f.document(ctx, "oauth-authorization-server", wellKnown(issuer, "oauth-authorization-server")),
			f.document(ctx, "openid-configuration", wellKnown(issuer, "openid-configuration")))
		if appended := strings.TrimSuffix(issuer.String(), "/") + "/.well-known/openid-configuration"; appended !=
			wellKnown(issuer, "openid-configuration") {
			s.forms = append(s.forms, f.document(ctx, "openid-configuration, appended", appended))
		}
	}
	first := f.server()
	if issuer := parse(first.issuer); issuer != nil && !sameServer(issuer, f.endpoint) {
		f.atServer = f.document(ctx, "", origin(f.endpoint)+"/.well-known/oauth-authorization-server")
	}
	as := f.as()
	if !as.ok() {
		return
	}
	f.clock("the authorization server", as.answer)
	if address := parse(as.text("jwks_uri")); address != nil {
		f.keys = f.document(ctx, "jwks", address.String())
	}
	if address := parse(as.text("authorization_endpoint")); address != nil {
		f.authorize = f.line.ask(ctx, http.MethodGet, address.String(), nil, nil)
	}
	for _, endpoint := range []string{"token_endpoint", "registration_endpoint"} {
		if address := parse(as.text(endpoint)); address != nil {
			f.crossSite = append(f.crossSite, crossing{endpoint,
				f.line.ask(ctx, http.MethodOptions, address.String(), nil, preflightOf("POST", "content-type"))})
		}
	}
}

// host returns the URL of the endpoint without its path.
func (f *facts) host() string { return origin(f.endpoint) }

// scopes returns what clients ask for, and where they found it.
func (f *facts) scopes() (list []string, where string) {
	if list := strings.Fields(f.challenge.parameters["scope"]); len(list) > 0 {
		return list, "the challenge"
	}
	if list := f.prm().texts("scopes_supported"); len(list) > 0 {
		return list, "the MCP server's metadata"
	}
	return nil, ""
}

// short returns a text from a server, cut and quoted, without what a terminal would obey.
func short(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 160 {
		s = strings.ToValidUTF8(s[:160], "") + "…"
	}
	return strconv.Quote(s)
}

// tell describes an answer: its status, its type, or the error.
func tell(a answer) string {
	switch {
	case a.err != nil && !a.came():
		return plainError(a.err)
	case a.err != nil:
		return fmt.Sprintf("%d, and the rest of the answer does not come: %s", a.status, plainError(a.err))
	case a.moved() != nil:
		return fmt.Sprintf("%d to %s", a.status, place(a.moved()))
	case a.page():
		return fmt.Sprintf("%d, an HTML page", a.status)
	case a.media() != "":
		return fmt.Sprintf("%d, %s", a.status, a.media())
	}
	return strconv.Itoa(a.status)
}

// plainError returns an error without the request that it is about.
func plainError(err error) string {
	if u, ok := err.(*url.Error); ok { //nolint:errorlint // only what the client itself wraps
		if u.Timeout() {
			return "no answer in time"
		}
		err = u.Err
	}
	if timeout, ok := err.(interface{ Timeout() bool }); ok && timeout.Timeout() { //nolint:errorlint // as above
		return "no answer in time"
	}
	return err.Error()
}
