package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/guard"
	"github.com/cardea-auth/cardea/scope"
)

// Revisions of MCP that differ in what this package does.
const (
	withoutBatches = "2025-06-18"
	stateless      = "2026-07-28"
)

// revisions are those that the gateway knows.
var revisions = []string{"2026-07-28", "2025-11-25", withoutBatches, "2025-03-26", "2024-11-05"}

// gone are the methods that MCP 2026-07-28 has removed.
var gone = []string{"initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe",
	"tasks/list", "tasks/result"}

// Codes of JSON-RPC errors.
const (
	invalidRequest     = -32600
	methodNotFound     = -32601
	invalidParams      = -32602
	unsupportedVersion = -32022 // MCP 2026-07-28
)

// usualPatience is Options.Patience if that is zero.
const usualPatience = 30 * time.Second

// route handles the requests for one server.
type route struct {
	*Server
	gateway  *Gateway
	table    *table
	guard    *guard.Guard
	handler  http.Handler // Protect and serve
	children *children    // of a server that is a command
	limit    func(http.Handler) http.Handler
	looks    looks
}

// now returns the route of the same server by the rules of now, or nil if it is gone.
func (rt *route) now() *route {
	for _, current := range rt.gateway.table.Load().routes {
		if current.Name == rt.Name && current.Resource == rt.Resource {
			return current
		}
	}
	return nil
}

// call is a request that the rules allow, on its way to the server.
type call struct {
	*http.Request // has the bytes that were judged
	messages      []guard.Message
	version       string // of MCP, that the request names; "" if it names none
	token         *guard.Token
	started       time.Time
	record        func(outcome, reason string) // writes the audit line, once
}

// has reports whether a message of the call has one of the methods.
func (c *call) has(methods ...string) bool {
	return slices.ContainsFunc(c.messages, func(m guard.Message) bool { return slices.Contains(methods, m.Method) })
}

// isLong reports whether the answer is a stream that lasts until somebody ends it.
func (c *call) isLong() bool { return c.Method == http.MethodGet || c.has("subscriptions/listen") }

// serve judges a request that has a good token, and passes it on.
func (rt *route) serve(w http.ResponseWriter, r *http.Request) {
	clock := http.NewResponseController(w)
	_ = clock.SetReadDeadline(time.Now().Add(rt.gateway.patience)) // fails only if there is no connection, in tests
	version := r.Header.Get("MCP-Protocol-Version")
	known := version == "" || slices.Contains(revisions, version)
	if !known {
		r = r.Clone(r.Context())
		r.Header.Del("MCP-Protocol-Version") // its rules are not known
	}
	judged, messages, err := rt.guard.Messages(w, r, guard.Reading{Limit: rt.Body, Older: rt.SSE})
	_ = clock.SetReadDeadline(time.Time{})
	if err != nil {
		rt.refuse(w, r, err)
		return
	}
	c := &call{Request: judged, messages: messages, token: guard.FromContext(r.Context()), started: time.Now()}
	c.record = rt.recorder(c)
	c.trace(rt)
	if c.version = version; c.version == "" && len(messages) == 1 && !rt.SSE {
		c.version = messages[0].Version
	}
	if c.version != "" && !slices.Contains(revisions, c.version) {
		var id []byte
		if len(messages) == 1 {
			id = messages[0].ID
		}
		failWith(w, http.StatusBadRequest, id, unsupportedVersion, "Unsupported protocol version",
			map[string]any{"supported": revisions, "requested": c.version})
		return
	}
	if c.version >= stateless && r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST, OPTIONS")
		fail(w, http.StatusMethodNotAllowed, nil, http.StatusMethodNotAllowed,
			"MCP "+stateless+" has POST requests only.")
		return
	}
	if len(r.Header.Values("Mcp-Session-Id")) > 1 || len(r.Header.Values("Last-Event-Id")) > 1 {
		fail(w, http.StatusBadRequest, nil, invalidRequest, "A header is there more than once.")
		return
	}
	if err := rt.allow(c); err != nil {
		c.record("refused", err.Error())
		rt.refuse(w, r, err)
		return
	}
	for range rt.cost(c) {
		allowed := false
		rt.limit(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { allowed = true })).ServeHTTP(w, r)
		if !allowed {
			c.record("refused", "too many calls")
			return
		}
	}
	if rt.Command != nil {
		rt.children.serve(w, c, rt)
		return
	}
	rt.forward(w, c)
}

// cost returns how many calls c is.
func (rt *route) cost(c *call) (n int) {
	for _, m := range c.messages {
		if _, _, named, _ := names(m); named {
			n++
		}
	}
	return n
}

// refusal is an answer in JSON-RPC to a call that the rules do not allow.
type refusal struct {
	status int
	id     []byte
	code   int
	text   string
}

func (e *refusal) Error() string { return e.text }

// refuse answers r with err.
func (rt *route) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var no *refusal
	if errors.As(err, &no) {
		fail(w, no.status, no.id, no.code, no.text)
		return
	}
	var e *guard.Error
	if errors.As(err, &e) {
		_, _, isRPC := e.RPC()
		switch e.Status {
		case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType:
			if !isRPC { // clients look for an error of JSON-RPC, to tell what kind of server refuses
				fail(w, e.Status, nil, invalidRequest, e.Description)
				return
			}
		}
	}
	rt.guard.WriteError(w, r, err)
}

// names returns what the message calls, and whether it calls something that rules name. The error says that it cannot
// be told.
func names(m guard.Message) (k kind, all []string, named bool, err error) {
	var name string
	switch m.Method {
	case "tools/call":
		return tools, []string{m.Name}, true, nil
	case "prompts/get":
		return prompts, []string{m.Name}, true, nil
	case "resources/read":
		return resources, []string{m.Name}, true, nil
	case "resources/subscribe", "resources/unsubscribe":
		name, err = m.Text("uri")
		return resources, []string{name}, true, err
	case "completion/complete":
		var about string
		if about, err = m.Text("ref", "type"); err != nil {
			return "", nil, true, err
		}
		switch about {
		case "ref/prompt":
			name, err = m.Text("ref", "name")
			return prompts, []string{name}, true, err
		case "ref/resource":
			name, err = m.Text("ref", "uri")
			return resources, []string{name}, true, err
		}
		return "", nil, true, errors.New("ref.type is neither ref/prompt nor ref/resource")
	case "subscriptions/listen":
		list, err := m.Param("notifications", "resourceSubscriptions")
		if err == nil && list != nil && json.Unmarshal(list, &all) != nil {
			err = errors.New("resourceSubscriptions is not a list of strings")
		}
		return resources, all, true, err
	}
	return "", nil, false, nil
}

// allow returns nil if all messages of c may be sent, and otherwise the answer: an error of JSON-RPC for what is closed
// to everybody, and 403 insufficient_scope with all scopes that the messages need.
func (rt *route) allow(c *call) error {
	var needed scope.Set
	var violated error
	for _, m := range c.messages {
		switch {
		case m.Batch && m.Method == "initialize":
			return &refusal{http.StatusBadRequest, nil, invalidRequest, "A batch must not have initialize."}
		case m.Method == "", m.IsNotification():
			continue
		case !m.IsKnown(), m.Method == "subscriptions/listen" && c.version < stateless,
			c.version >= stateless && slices.Contains(gone, m.Method):
			return closed(c, m, "There is no such method, or no client may call it.")
		}
		if m.Method != "tasks/list" && strings.HasPrefix(m.Method, "tasks/") && !rt.ownsTask(m.Name, c.token) {
			return wrong(c, m, "There is no such task.")
		}
		k, all, named, err := names(m)
		if err != nil {
			return wrong(c, m, err.Error())
		}
		if !named {
			continue
		}
		for _, name := range all {
			v := rt.judge(k, name)
			if !v.open {
				return closed(c, m, cmp.Or(v.why,
					fmt.Sprintf("There is no such %s, or no client may use it.", strings.TrimSuffix(string(k), "s"))))
			}
			needed = needed.Union(v.scopes)
			if v.rule == nil || m.Method == "completion/complete" || violated != nil {
				continue
			}
			if argument := v.rule.violated(m); argument != "" {
				violated = wrong(c, m,
					fmt.Sprintf("The argument %s is missing, or has a value that is not allowed.", argument))
			}
		}
	}
	if err := rt.guard.CheckScope(c.Context(), needed...); err != nil {
		return err
	}
	return violated
}

// closed returns the answer to a call of what nobody may call. Before MCP 2026-07-28 its status is 200, because clients
// take 404 for the end of their session.
func closed(c *call, m guard.Message, text string) error {
	return deny(c, m, methodNotFound, http.StatusNotFound, text)
}

// wrong returns the answer to a call with parameters that are not allowed.
func wrong(c *call, m guard.Message, text string) error {
	return deny(c, m, invalidParams, http.StatusBadRequest, text)
}

func deny(c *call, m guard.Message, code, status int, text string) error {
	if m.Batch || m.ID == nil {
		return &refusal{http.StatusBadRequest, nil, code, text}
	}
	if c.version < stateless {
		status = http.StatusOK
	}
	return &refusal{status, m.ID, code, text}
}

// recorder returns what writes the audit line of c. A request that calls nothing gets a line only if it is refused or
// fails. Arguments and results are not recorded, because they are private.
func (rt *route) recorder(c *call) func(outcome, reason string) {
	done := false
	return func(outcome, reason string) {
		if done {
			return
		}
		done = true
		caller := guard.CallerFromContext(c.Context())
		for _, m := range c.messages {
			k, all, named, _ := names(m)
			if !named && outcome == "allowed" {
				continue
			}
			rt.gateway.metrics.calls.WithLabelValues(rt.Name, outcome).Inc()
			level := slog.LevelInfo
			if outcome != "allowed" {
				level = slog.LevelWarn
			}
			attrs := []slog.Attr{
				slog.String("server", rt.Name),
				slog.String("outcome", outcome),
				slog.String("method", short(m.Method)),
				slog.String("name", short(strings.Join(all, " "))),
				slog.String("user_id", c.token.Subject),
				slog.String("issuer", c.token.Issuer),
				slog.String("client_id", c.token.ClientID),
				slog.String("token_id", c.token.ID),
				slog.String("ip_address", caller.Address),
				slog.Int64("duration_ms", time.Since(c.started).Milliseconds()),
			}
			if len(all) == 1 {
				if v := rt.judge(k, all[0]); v.rule != nil {
					attrs = append(attrs, slog.Int("rule_line", v.rule.line))
				}
			}
			if trace := c.Header.Get("Traceparent"); trace != "" {
				attrs = append(attrs, slog.String("traceparent", short(trace)))
			}
			if reason != "" {
				attrs = append(attrs, slog.String("reason", reason))
			}
			rt.gateway.log.LogAttrs(c.Context(), level, "mcp_call", attrs...)
			if k == tools && len(all) == 1 {
				call := guard.ToolCall{Tool: all[0], Outcome: outcome, Duration: time.Since(c.started)}
				if outcome == "refused" { // other reasons may tell of arguments and results
					call.Reason = reason
				}
				_ = rt.guard.RecordToolCall(context.WithoutCancel(c.Context()), call) // logs its error
			}
		}
	}
}

// short returns the beginning of what a client says, for the log.
func short(s string) string { return s[:min(len(s), 256)] }
