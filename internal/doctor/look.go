package doctor

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"time"
)

// The bounds of a look.
const (
	maxLooks    = 60 // requests
	maxPages    = 40 // of tools/list
	maxTools    = 1000
	maxListed   = 8 << 20 // bytes of all tools
	maxPageSize = 4 << 20
	allLooks    = 60 * time.Second
)

// LookOptions configure Look. Of Options it uses the URL, the Transport, and those that a Login needs.
type LookOptions struct {
	Options
	// Header is sent with each request: an access token, or what an upstream behind a gateway wants.
	Header http.Header
	// Ask sends a message to the MCP server in place of HTTP, and returns its answer; of a notification there is none.
	// It may be nil.
	Ask func(ctx context.Context, message []byte) ([]byte, error)
}

// Sight is what Look saw of an MCP server.
type Sight struct {
	Name  string            // that the server gives itself, "" if it gives none
	Tools []json.RawMessage // as it lists them, which may be anything
}

// ErrWantsToken says that the MCP server answers only to an access token, or not to the one it was sent.
var ErrWantsToken = errors.New("the MCP server wants an access token")

// Look lists the tools of an MCP server. It begins a session as clients of MCP 2025-11-25 do, or, with a server that
// knows none, asks as those of 2026-07-28 do, and ends what it began. Look sends at most 60 requests in a minute,
// besides those of a login, follows no redirect, and calls no tool. The error is an *AddressError, wraps ErrWantsToken,
// or says what the server did wrong.
func Look(ctx context.Context, o LookOptions) (*Sight, error) {
	l := &look{options: o, ask: o.Ask}
	if l.ask != nil {
		bounded, cancel := context.WithTimeout(ctx, allLooks)
		defer cancel()
		return l.list(bounded)
	}
	at, err := parseAddress(o.URL)
	if err != nil {
		return nil, err
	}
	l.header, l.at = o.Header, at
	if o.Login {
		return l.afterLogin(ctx)
	}
	bounded, cancel := context.WithTimeout(ctx, allLooks)
	defer cancel()
	defer l.open()()
	return l.list(bounded)
}

// look is a client that only lists tools.
type look struct {
	options LookOptions
	at      *url.URL
	header  http.Header
	line    *line
	session string
	modern  bool // it speaks MCP 2026-07-28

	ask func(ctx context.Context, message []byte) ([]byte, error) // nil: over HTTP
}

// open makes the line, and returns what closes it.
func (l *look) open() func() {
	l.line = newLine(l.options.Options)
	l.line.left, l.line.most = maxLooks, maxPageSize
	return l.line.close
}

// afterLogin lets a person sign in, and lists with the token, which is given back.
func (l *look) afterLogin(ctx context.Context) (seen *Sight, err error) {
	o := l.options.Options
	o.Register = o.ClientID == ""
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	if o.Lookup == nil {
		o.Lookup = func(context.Context, string) ([]netip.Addr, error) { return nil, nil }
	}
	f := &facts{typed: l.at, endpoint: l.at, options: o}
	f.line = newLine(o)
	defer f.line.close()
	used := false
	f.use = func(ctx context.Context, token string) {
		used = true
		l.header = l.header.Clone()
		if l.header == nil {
			l.header = http.Header{}
		}
		l.header.Set("Authorization", "Bearer "+token)
		defer l.open()()
		seen, err = l.list(ctx)
	}
	bounded, cancel := context.WithTimeout(ctx, allProbes)
	defer cancel()
	if f.knock(bounded); f.initialize.came() {
		f.probeEndpoint(bounded)
		f.probeResource(bounded)
		f.probeServers(bounded)
	}
	f.probeClient(ctx)
	for _, stays := range f.leftBehind() {
		o.Progress(stays[0] + "; " + stays[1])
	}
	if !used {
		err = fmt.Errorf("nobody signed in: %s", cmp.Or(f.login.problem, f.login.skipped, f.registered.skipped,
			"the authorization server refuses"))
	}
	return seen, err
}

// list lists all tools.
func (l *look) list(ctx context.Context) (*Sight, error) {
	defer l.end(ctx)
	hello, err := l.greet(ctx)
	if err != nil {
		return nil, err
	}
	seen := &Sight{Name: hello.ServerInfo.Name, Tools: []json.RawMessage{}}
	var cursor *string
	total := 0
	for range maxPages {
		params := map[string]any{}
		if cursor != nil {
			params["cursor"] = *cursor
		}
		var page struct {
			Tools      []json.RawMessage `json:"tools"`
			NextCursor *string           `json:"nextCursor"`
		}
		if err := l.call(ctx, "tools/list", params, &page); err != nil {
			return nil, err
		}
		if seen.Tools = append(seen.Tools, page.Tools...); len(seen.Tools) > maxTools {
			return nil, fmt.Errorf("the MCP server lists more than %d tools", maxTools)
		}
		for _, item := range page.Tools {
			if total += len(item); total > maxListed {
				return nil, fmt.Errorf("the MCP server lists tools of more than %d MB", maxListed>>20)
			}
		}
		if page.NextCursor == nil {
			return seen, nil
		}
		if cursor != nil && *cursor == *page.NextCursor {
			return nil, errors.New("the MCP server gives the same cursor for the next page again and again")
		}
		cursor = page.NextCursor
	}
	return nil, fmt.Errorf("the MCP server lists its tools on more than %d pages", maxPages)
}

// greeting is the part of the answer to initialize, and to server/discover, that a look needs.
type greeting struct {
	ServerInfo struct {
		Name string `json:"name"`
	} `json:"serverInfo"`
}

// greet finds out what the server speaks, and begins a session if that has one.
func (l *look) greet(ctx context.Context) (hello greeting, err error) {
	err = l.call(ctx, "initialize", map[string]any{"protocolVersion": protocol, "capabilities": map[string]any{},
		"clientInfo": map[string]any{"name": "cardea", "version": "1"}}, &hello)
	if err == nil {
		return hello, l.tell(ctx, "notifications/initialized")
	}
	if errors.Is(err, ErrWantsToken) || ctx.Err() != nil {
		return hello, err
	}
	l.modern = true
	if l.call(ctx, "server/discover", map[string]any{}, &hello) == nil {
		return hello, nil
	}
	return hello, err
}

// call sends a request and reads its result into v.
func (l *look) call(ctx context.Context, method string, params map[string]any, v any) error {
	if l.modern {
		params = meta(params)
	}
	body, err := l.send(ctx, method, rpc(method, params))
	if err != nil {
		return err
	}
	var reply struct {
		Result json.RawMessage `json:"result"`
		Error  *struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	switch err := json.Unmarshal(body, &reply); {
	case err != nil:
		return fmt.Errorf("the answer to %s is not JSON-RPC", method)
	case reply.Error != nil:
		return fmt.Errorf("the MCP server refuses %s: %s (%d)", method, short(reply.Error.Message), reply.Error.Code)
	case reply.Result == nil || json.Unmarshal(reply.Result, v) != nil:
		return fmt.Errorf("the answer to %s is not what MCP says", method)
	}
	return nil
}

// tell sends a notification.
func (l *look) tell(ctx context.Context, method string) error {
	_, err := l.send(ctx, method, []byte(`{"jsonrpc":"2.0","method":"`+method+`"}`))
	return err
}

// send sends a message and returns the answer, which is empty if there is none.
func (l *look) send(ctx context.Context, method string, message []byte) ([]byte, error) {
	if l.ask != nil {
		return l.ask(ctx, message)
	}
	a := l.line.ask(ctx, http.MethodPost, l.at.String(), message, l.headers(method))
	switch {
	case a.err != nil:
		return nil, fmt.Errorf("the MCP server at %s does not answer: %s", place(l.at), plainError(a.err))
	case a.status == http.StatusUnauthorized, a.status == http.StatusForbidden:
		return nil, fmt.Errorf("%w: %s is answered with %d", ErrWantsToken, method, a.status)
	case a.moved() != nil:
		return nil, fmt.Errorf("the MCP server sends on to %s; give that URL", place(a.moved()))
	case a.page():
		return nil, fmt.Errorf("there is an HTML page at %s, and not an MCP server", place(l.at))
	}
	if method == "initialize" {
		l.session = a.header.Get("Mcp-Session-Id")
	}
	return a.body, nil
}

// headers returns the headers of a request.
func (l *look) headers(method string) http.Header {
	pairs := present("MCP-Protocol-Version", protocol, "Mcp-Session-Id", l.session)
	switch {
	case l.modern:
		pairs = []string{"MCP-Protocol-Version", stateless, "Mcp-Method", method}
	case method == "initialize":
		pairs = nil
	}
	h := headers(pairs...)
	for name, values := range l.header {
		h[name] = slices.Clone(values)
	}
	return h
}

// end ends the session.
func (l *look) end(ctx context.Context) {
	if l.ask != nil || l.session == "" || l.modern {
		return
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), perRequest)
	defer cancel()
	l.line.ask(last, http.MethodDelete, l.at.String(), nil, l.headers(""))
}
