package adminapi

import (
	"bytes"
	"context"
	stdjson "encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/cardea-auth/cardea/guard"
	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/declare"
	"github.com/cardea-auth/cardea/internal/web"
	"github.com/cardea-auth/cardea/scope"
)

const instructions = "Each tool does what the command of the same name does: resource_create is cardea resource " +
	"create. A resource is an MCP server that is protected here. To find out why a call was refused or failed, list " +
	"events with the outcome wrong, " +
	"and those of the same grant. Ask the person before a tool that is annotated as destructive."

// served are the methods of MCP that are answered, beside notifications and answers.
var served = []string{"initialize", "server/discover", "ping", "tools/list", "tools/call"}

// agentCall is a request to the MCP server, in its context.
type agentCall struct {
	by admin.Caller
	// refused is why the role of by does not let it call the tool, or nil.
	refused error
	// failed is what is answered instead of what the MCP server answers, or nil.
	failed error
}

type agentCallKey struct{}

// eachScope returns the scopes without those that cover others. An agent asks for all it finds in the metadata, and the
// person takes from them one by one.
func eachScope() (names scope.Set) {
	for _, name := range admin.Scopes() {
		if !strings.HasSuffix(name, "*") {
			names = append(names, name)
		}
	}
	return names
}

// agents returns the handler of the MCP server that offers the operations as tools (MCP 2025-06-18, Streamable HTTP,
// without sessions). Four stand in a row, and each sees the bytes that the one before has judged: the check of the
// access token; the guard, which refuses what two programs could read differently; the check of the right to call the
// tool, whose refusal as 403 insufficient_scope lets a client step up; and the MCP server.
func (e *Endpoint) agents() http.Handler {
	resource := e.Issuer + admin.MCPPath
	tools := guard.ToolScopes{}
	// The list of tools shows only what a token allows, so an agent that asks for less would never see what to ask for.
	wanted := eachScope()
	for _, op := range entries {
		tools[op.spec().Name()] = nil // the rights are Cardea's own matter, below
	}
	// It is made for the first request, because the schemas of all tools are most of what the start would cost.
	server := sync.OnceValue(func() *mcp.Server {
		server := mcp.NewServer(&mcp.Implementation{Name: "cardea", Title: "Cardea administration"}, &mcp.ServerOptions{
			Instructions: instructions, Capabilities: &mcp.ServerCapabilities{Tools: &mcp.ToolCapabilities{}},
		})
		for _, op := range entries {
			server.AddTool(tool(op.spec()), e.runner(op))
		}
		server.AddReceivingMiddleware(e.showAllowed)
		return server
	})
	form, err := guard.New(guard.Config{Issuer: e.Issuer, Resource: resource})
	if err != nil {
		panic("adminapi: " + err.Error()) // the configuration has checked the issuer
	}
	chain := form.RequireToolScopes(tools)(e.permitted(mcp.NewStreamableHTTPHandler(
		func(*http.Request) *mcp.Server { return server() },
		// A page of another site cannot have the access token that every request needs, so any name of the host will
		// do.
		&mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true, DisableLocalhostProtection: true},
	)))
	return web.Problems(func(r *http.Request) (web.Reply, error) {
		by, _, err := e.caller(r, admin.MCPPath, "admin.request", wanted)
		if err != nil {
			return web.Reply{}, err
		}
		call := &agentCall{by: by}
		ctx := guard.NewContext(r.Context(), guard.Caller{Token: &guard.Token{Audience: resource}})
		answer := &answer{header: http.Header{}}
		chain.ServeHTTP(answer, r.WithContext(context.WithValue(ctx, agentCallKey{}, call)))
		if call.failed != nil {
			return web.Reply{}, call.failed
		}
		return web.Reply{Status: answer.status, Header: answer.header,
			Body: stdjson.RawMessage(answer.body.Bytes())}, nil
	})
}

// answer keeps what a handler answers.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

// permitted lets a request through to next if it calls no tool, or a tool for which the access token has the scope.
func (e *Endpoint) permitted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		call, _ := r.Context().Value(agentCallKey{}).(*agentCall)
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = e.permitMessage(r.Context(), call, body)
		}
		if err != nil {
			call.failed = err
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	})
}

// permitMessage returns nil if the message may go to the MCP server. The guard has judged its form.
func (e *Endpoint) permitMessage(ctx context.Context, call *agentCall, body []byte) error {
	var message struct {
		Method string         `json:"method"`
		Params jsontext.Value `json:"params"`
	}
	if err := json.Unmarshal(body, &message); err != nil { // a batch, the only other form
		return refusal(http.StatusBadRequest, "", "send one message in each request; this server takes no batches")
	}
	if message.Method != "tools/call" {
		return nil
	}
	var params struct {
		Name string `json:"name"`
	}
	if err := json.Unmarshal(message.Params, &params); err != nil {
		return err
	}
	for _, op := range entries {
		s := op.spec()
		if s.Name() != params.Name {
			continue
		}
		err := e.Admin.Permit(ctx, call.by, s.access(), s.action(), s.nouns()...)
		refused := (*admin.Error)(nil)
		if errors.As(err, &refused) && refused.Scope == "" {
			call.refused = refused // and no other access token would help
			return nil
		}
		return e.problem(admin.MCPPath, s, err)
	}
	return nil
}

// showAllowed is the middleware that leaves out of the list of tools what the caller may not use, and refuses the
// methods that are not served.
func (e *Endpoint) showAllowed(next mcp.MethodHandler) mcp.MethodHandler {
	return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
		if !slices.Contains(served, method) && !strings.HasPrefix(method, "notifications/") {
			return nil, &jsonrpc.Error{Code: jsonrpc.CodeMethodNotFound, Message: "this server only has tools"}
		}
		result, err := next(ctx, method, req)
		list, ok := result.(*mcp.ListToolsResult)
		if err != nil || !ok {
			return result, err
		}
		call, _ := ctx.Value(agentCallKey{}).(*agentCall)
		allows, err := e.Admin.Allows(ctx, call.by)
		if err != nil {
			call.failed = e.problem(admin.MCPPath, &Spec{}, err)
			return nil, err
		}
		shown := *list
		shown.Tools = nil
		for _, op := range entries {
			for _, t := range list.Tools {
				s := op.spec()
				allowed := func(n admin.Noun) bool { return allows(n, s.access()) }
				if t.Name == s.Name() && slices.ContainsFunc(s.nouns(), allowed) {
					shown.Tools = append(shown.Tools, t)
				}
			}
		}
		return &shown, nil
	}
}

// tool returns the tool that does an operation.
func tool(s *Spec) *mcp.Tool {
	yes, no := true, false
	of := &mcp.ToolAnnotations{Title: s.Verb, ReadOnlyHint: !s.Writes, IdempotentHint: !s.Writes || s.repeats(),
		OpenWorldHint: &no}
	if s.Writes {
		// MCP calls everything but an addition destructive.
		of.DestructiveHint = &no
		if s.Destroys || s.Method == http.MethodPatch {
			of.DestructiveHint = &yes
		}
	}
	return &mcp.Tool{Name: s.Name(), Title: s.Verb, Description: s.Summary, Annotations: of,
		InputSchema: InputSchema(s), OutputSchema: OutputSchema(s)}
}

// repeats reports whether doing the operation again with the same input changes nothing.
func (s *Spec) repeats() bool {
	switch s.Method {
	case http.MethodPut, http.MethodDelete:
		return true
	case http.MethodPatch:
		field, _ := body(s.In)
		_, counts := fields(field.Type)["expires_in"] // from now on
		return !counts
	}
	words := strings.Fields(s.Verb)
	return slices.Contains([]string{"apply", "approve", "unapprove", "disable", "enable", "revoke", "retire"},
		words[len(words)-1])
}

// runner returns the function that does an operation as a tool. What the caller did wrong is the answer of the tool, in
// words; a fault is one of the server.
func (e *Endpoint) runner(op entry) mcp.ToolHandler {
	return func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		call, _ := ctx.Value(agentCallKey{}).(*agentCall)
		out, err := e.run(ctx, op, call, req.Params.Arguments)
		refused, p, faults := (*admin.Error)(nil), (*web.Problem)(nil), declare.Faults(nil)
		switch {
		case errors.As(err, &faults):
			return &mcp.CallToolResult{IsError: true,
				Content: []mcp.Content{&mcp.TextContent{Text: faulty(err).Detail + ":\n" + faults.Error()}}}, nil
		case errors.As(err, &refused) && refused.Scope != "":
			call.failed = e.problem(admin.MCPPath, op.spec(), err)
			return nil, err
		case errors.As(err, &refused):
			return &mcp.CallToolResult{IsError: true,
				Content: []mcp.Content{&mcp.TextContent{Text: refused.Error()}}}, nil
		case errors.As(err, &p):
			return &mcp.CallToolResult{IsError: true, Content: []mcp.Content{&mcp.TextContent{Text: p.Detail}}}, nil
		case err != nil:
			call.failed = err
			return nil, err
		}
		return &mcp.CallToolResult{StructuredContent: out,
			Content: []mcp.Content{&mcp.TextContent{Text: string(out)}}}, nil
	}
}

// run does an operation with the arguments of a tool, and returns what it answers as JSON.
func (e *Endpoint) run(ctx context.Context, op entry, call *agentCall, arguments []byte) (stdjson.RawMessage, error) {
	if call.refused != nil {
		return nil, call.refused
	}
	in, filters, err := readArguments(arguments, op.spec())
	if err != nil {
		return nil, err
	}
	seal, err := e.openCursor(op.spec().Name(), filters, in)
	if err != nil {
		return nil, err
	}
	out, err := op.do(ctx, e.Admin, call.by, in)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	encoder := stdjson.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	err = encoder.Encode(sealed(out, seal))
	return bytes.TrimSpace(text.Bytes()), err
}

// readArguments returns what the arguments of a tool say as a pointer to an In of the operation, as read does, and the
// parameters among them.
func readArguments(text []byte, s *Spec) (in any, parameters url.Values, err error) {
	switch kind := jsontext.Value(text).Kind(); {
	case len(text) == 0, kind == 'n':
		text = []byte("{}")
	case kind != '{':
		return nil, nil, refusal(http.StatusUnprocessableEntity, "", "the arguments must be a JSON object")
	}
	if err := scan(text); err != nil {
		return nil, nil, err
	}
	var object map[string]jsontext.Value
	if err := json.Unmarshal(text, &object); err != nil {
		return nil, nil, err
	}
	v := reflect.New(s.In)
	parameters = url.Values{}
	var names []string
	for _, p := range params(s.In) {
		names = append(names, p.name)
		value := object[p.name]
		delete(object, p.name)
		plain := string(value)
		switch {
		case value == nil || value.Kind() == 'n':
			plain = ""
		case value.Kind() == '"':
			err = json.Unmarshal(value, &plain)
		case value.Kind() == '{' || value.Kind() == '[':
			err = refusal(http.StatusUnprocessableEntity, p.name, "%s must not be an object or an array", p.name)
		}
		switch {
		case err != nil:
			return nil, nil, err
		case plain == "" && p.in == "path":
			return nil, nil, refusal(http.StatusUnprocessableEntity, p.name, "the argument %q is missing", p.name)
		case plain == "":
			continue
		}
		if err := set(v.Elem().FieldByIndex(p.field.Index), p, plain); err != nil {
			return nil, nil, err
		}
		parameters.Set(p.name, plain)
	}
	field, has := body(s.In)
	for name := range object {
		if !has {
			return nil, nil, refusal(http.StatusUnprocessableEntity, name, "the argument %q is unknown%s", name,
				hint(name, names))
		}
	}
	if !has || len(object) == 0 && field.Type.Kind() == reflect.Pointer {
		return v.Interface(), parameters, nil
	}
	rest, err := json.Marshal(object)
	if err == nil {
		err = decode(rest, v.Elem().FieldByIndex(field.Index), s.Method == http.MethodPatch, strings.Fields(s.Required))
	}
	return v.Interface(), parameters, err
}
