package doctor

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// login is what became of a person's sign-in.
type login struct {
	done    bool   // there is a token
	skipped string // why it was not tried, or did not end
	problem string // the error of the authorization response
	came    url.Values
	token   answer // of the token endpoint
	access  string
	header  map[string]any // of the token, if it is a JWT
	claims  map[string]any
	hello   answer // initialize, with the token
	list    answer // tools/list
	stepUp  answer // a 403
	call    answer
	called  string // the tool
	tools   int
	refresh string
	left    string // why its tokens were not given back, "" if they were
	log     string // what the log of the authorization server says of the token, or of what it refused
	good    bool   // that says that the token is good
	foreign answer // the answer of the MCP server to a token for another
	refreshed,
	refreshedPlain answer // with and without resource
}

// describe says what the token is.
func (l login) describe() string {
	switch {
	case l.claims != nil:
		return "for " + short(fmt.Sprint(l.claims["aud"])) + ", from " + short(text(l.claims["iss"]))
	case l.access != "":
		return "opaque: only the MCP server can say for whom it is"
	}
	return "missing"
}

func (l login) toolsSeen() string {
	switch {
	case l.called != "":
		return fmt.Sprintf("%s; %s was called, and answered", count(l.tools, "tool"), l.called)
	case l.list.result() != nil:
		return count(l.tools, "tool") + "; none is read-only and needs no arguments, so none was called"
	}
	return "tools/list is answered with " + tell(l.list)
}

// logIn lets a person sign in, and uses the token.
func (f *facts) logIn(ctx context.Context) {
	l := &f.login
	verifier, challenge := pkce()
	state, _ := pkce()
	address := f.authorizationURL("state", state, "code_challenge", challenge)
	patience := f.options.Patience
	if patience == 0 {
		patience = 5 * time.Minute
	}
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	f.options.Progress("waiting for you to sign in: " + address)
	back, err := waitForCode(waiting, f.registered.listener, func() error { return f.options.Open(waiting, address) })
	if err != nil {
		l.skipped = "the person did not come back: " + err.Error()
		return
	}
	l.came = back
	bounded, cancel := context.WithTimeout(ctx, allProbes)
	defer cancel()
	switch {
	case back.Get("state") != state:
		l.problem = "another state than the request had"
		return
	case back.Get("error") != "":
		l.problem = back.Get("error")
		return
	}
	f.options.Progress("asking for a token")
	l.token = f.tokenRequest(bounded, url.Values{"grant_type": {"authorization_code"}, "code": {back.Get("code")},
		"redirect_uri": {f.registered.redirect}, "code_verifier": {verifier}, "resource": {f.resource()}})
	members := l.token.object()
	l.access, l.refresh = text(members["access_token"]), text(members["refresh_token"])
	if l.token.status != http.StatusOK || l.access == "" {
		l.problem = cmp.Or(text(members["error"]), "the token endpoint answers with "+tell(l.token))
		f.explain(bounded, "")
		return
	}
	l.done = true
	if f.use != nil {
		f.use(bounded, l.access)
		return
	}
	l.header, l.claims = decode(l.access)
	f.options.Progress("calling the MCP server with the token")
	f.useToken(bounded)
	f.options.Progress("refreshing the token")
	f.tryRefresh(bounded)
}

// waitForCode opens the page and returns the parameters of the response.
func waitForCode(ctx context.Context, listener net.Listener, open func() error) (url.Values, error) {
	came := make(chan url.Values, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /callback", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintln(w, "cardea doctor has the response. You can close this page.")
		select {
		case came <- r.URL.Query():
		default: // only the first counts
		}
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }()
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second) // so that the browser gets its page
		defer cancel()
		_ = server.Shutdown(end)
	}()
	if err := open(); err != nil {
		return nil, err
	}
	select {
	case values := <-came:
		return values, nil
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return nil, errors.New("nothing came for too long")
		}
		return nil, errors.New("it was interrupted")
	}
}

// decode returns the header and the claims of a JWT, or nil.
func decode(token string) (header, claims map[string]any) {
	parts := strings.Split(token, ".")
	for i, into := range []*map[string]any{&header, &claims} {
		if len(parts) < 3 {
			return nil, nil
		}
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil || json.Unmarshal(raw, into) != nil {
			return header, nil
		}
	}
	return header, claims
}

// useToken calls the MCP server: initialize or server/discover, tools/list, and one tool that only reads.
func (f *facts) useToken(ctx context.Context) {
	l := &f.login
	var session string
	modern := false
	call := func(method string, params map[string]any, name string) answer {
		pairs := []string{"Authorization", "Bearer " + l.access}
		if modern {
			params = meta(params)
			pairs = append(pairs, present("MCP-Protocol-Version", stateless, "Mcp-Method", method, "Mcp-Name", name)...)
		} else if method != "initialize" {
			pairs = append(pairs, present("MCP-Protocol-Version", protocol, "Mcp-Session-Id", session)...)
		}
		a := f.line.ask(ctx, http.MethodPost, f.endpoint.String(), rpc(method, params), headers(pairs...))
		if a.status == http.StatusForbidden && !l.stepUp.came() {
			l.stepUp = a
		}
		return a
	}
	l.hello = call("initialize", map[string]any{"protocolVersion": protocol, "capabilities": map[string]any{},
		"clientInfo": map[string]any{"name": "cardea-doctor", "version": "1"}}, "")
	if l.hello.result() == nil && l.hello.status != http.StatusUnauthorized {
		modern = true
		if a := call("server/discover", map[string]any{}, ""); a.result() != nil {
			l.hello = a
		} else {
			modern = false
		}
	}
	if l.hello.status == http.StatusUnauthorized || l.hello.status == http.StatusForbidden {
		l.list = l.hello
		f.explain(ctx, l.access)
		return
	}
	if session = l.hello.header.Get("Mcp-Session-Id"); !modern {
		f.line.ask(ctx, http.MethodPost, f.endpoint.String(),
			[]byte(`{"jsonrpc":"2.0","method":"notifications/initialized"}`),
			headers(append([]string{"Authorization", "Bearer " + l.access}, present("Mcp-Session-Id", session,
				"MCP-Protocol-Version", protocol)...)...))
	}
	if session != "" {
		f.oldSession = f.line.ask(ctx, http.MethodPost, f.endpoint.String(), toolsBody,
			headers("Authorization", "Bearer "+l.access,
				"Mcp-Session-Id", "cardea-doctor-no-such-session", "MCP-Protocol-Version", protocol))
	}
	l.list = call("tools/list", map[string]any{}, "")
	tools, _ := l.list.result()["tools"].([]any)
	l.tools = len(tools)
	for _, t := range tools {
		if name := harmless(t); name != "" {
			if l.call = call("tools/call", map[string]any{"name": name, "arguments": map[string]any{}},
				name); l.call.result() != nil {
				l.called = name
			}
			if l.call.status != http.StatusForbidden {
				break
			}
		}
	}
}

// explain asks the authorization server's own log, if it is at hand.
func (f *facts) explain(ctx context.Context, token string) {
	if f.options.Explain == nil {
		return
	}
	f.login.log, f.login.good = f.options.Explain(ctx, f.as().text("issuer"), f.registered.id, token)
}

// logSays returns what the log of the authorization server says, to stand at the end of a sentence.
func (l login) logSays() string {
	if l.log == "" {
		return ""
	}
	return "; the log of the authorization server says: " + l.log
}

// harmless returns the name of a tool that says that it only reads and that needs no arguments, or "".
func harmless(tool any) string {
	t, _ := tool.(map[string]any)
	annotations, _ := t["annotations"].(map[string]any)
	schema, _ := t["inputSchema"].(map[string]any)
	required, _ := schema["required"].([]any)
	if annotations["readOnlyHint"] != true || len(required) > 0 {
		return ""
	}
	return text(t["name"])
}

// otherResource is an MCP server that the token must not open.
const otherResource = "https://another-server.example/mcp"

// tryRefresh refreshes as clients do, with resource, and then asks for a token for another server, which must not open
// this one.
func (f *facts) tryRefresh(ctx context.Context) {
	l := &f.login
	if l.refresh == "" {
		return
	}
	form := func(pairs ...string) url.Values {
		v := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {l.refresh}}
		for pair := range slices.Chunk(pairs, 2) {
			v.Set(pair[0], pair[1])
		}
		return v
	}
	keep := func(a answer) {
		if next := text(a.object()["refresh_token"]); next != "" {
			l.refresh = next
		}
	}
	l.refreshed = f.tokenRequest(ctx, form("resource", f.resource()))
	if keep(l.refreshed); l.refreshed.status != http.StatusOK {
		l.refreshedPlain = f.tokenRequest(ctx, form())
		keep(l.refreshedPlain)
		return
	}
	other := f.tokenRequest(ctx, form("resource", otherResource))
	keep(other)
	foreign := text(other.object()["access_token"])
	if _, claims := decode(foreign); claims == nil || audience(claims, f.resource()) {
		return // it is for this server, or nobody can say
	}
	l.foreign = f.line.ask(ctx, http.MethodPost, f.endpoint.String(), initializeBody,
		headers("Authorization", "Bearer "+foreign))
}

// audience reports whether the claims are for resource.
func audience(claims map[string]any, resource string) bool {
	return text(claims["aud"]) == resource || slices.Contains(texts(claims["aud"]), resource)
}

// revoke gives the tokens back, if there are any and the authorization server takes them (RFC 7009).
func (f *facts) revoke(ctx context.Context) {
	l, address := &f.login, f.as().text("revocation_endpoint")
	token := cmp.Or(l.refresh, l.access)
	switch {
	case token == "":
		return
	case !secure(parse(address)):
		l.left = "the server has no revocation endpoint with https (RFC 7009)"
		return
	}
	if a := f.authenticated(ctx, address, url.Values{"token": {token}}); a.status != http.StatusOK {
		l.left = "revoking them is answered with " + tell(a)
	}
}

// notes returns what a reader must know beside the checks.
func (f *facts) notes() (notes []string) {
	if f.reached() && !isLoopbackHost(f.endpoint.Hostname()) {
		notes = append(notes,
			"Not visible from here: what a firewall blocks by source address. Claude connects from 160.79.104.0/21.")
	}
	return notes
}

// leftBehind returns what stays at the authorization server after the diagnosis, each with what removes it.
func (f *facts) leftBehind() (pairs [][2]string) {
	issuer := f.server().issuer
	if why := f.registered.left; why != "" {
		pairs = append(pairs, [2]string{
			fmt.Sprintf("the test client %s stays registered at %s, because %s", short(f.registered.id), issuer, why),
			fmt.Sprintf("ask an operator of %s to delete the client %s, which is named %q; at a Cardea that is: "+
				"cardea client delete %s", issuer, short(f.registered.id), testName, f.registered.id)})
	}
	if why := f.login.left; why != "" {
		pairs = append(pairs, [2]string{
			fmt.Sprintf("the tokens of this sign-in stay valid at %s until they expire, because %s", issuer, why),
			fmt.Sprintf("end the access of %q where %s lists the applications that have access to your account",
				testName, issuer)})
	}
	return pairs
}
