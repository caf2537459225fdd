package gateway

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cardea-auth/cardea/guard"
)

// onwards are the headers of a request that go on to the server. All others stay here: the client's token, cookies, and
// whatever says who the client is.
var onwards = []string{"Accept", "Accept-Language", "Content-Type", "Mcp-Protocol-Version", "Mcp-Method", "Mcp-Name",
	"Traceparent", "Tracestate", "User-Agent"}

// back are the headers of an answer that go back to the client.
var back = []string{"Content-Type", "Mcp-Protocol-Version", "Retry-After", "Allow"}

// maxAnswer is how long an answer in JSON may be, in bytes, as long as an event of a stream.
const maxAnswer = maxEvent

// listing are the methods whose results are filtered.
var listing = []string{"tools/list", "prompts/list", "resources/list", "resources/templates/list"}

// greeting are the methods whose results say what the server can do.
var greeting = []string{"initialize", "server/discover"}

// forward sends c to the server and its answer to the client.
func (rt *route) forward(w http.ResponseWriter, c *call) {
	out, err := rt.outgoing(c)
	if err != nil {
		c.record("refused", err.Error())
		rt.refuse(w, c.Request, err)
		return
	}
	asked := time.Now()
	response, err := rt.gateway.client.RoundTrip(out)
	if err != nil {
		rt.unreachable(w, c, err)
		return
	}
	defer response.Body.Close()
	if !c.isLong() {
		rt.gateway.metrics.answered(rt.Server, asked)
	}
	rt.reply(w, c, response)
}

// outgoing returns the request to the server.
func (rt *route) outgoing(c *call) (*http.Request, error) {
	out := (&http.Request{
		Method: c.Method, URL: rt.Upstream, Host: rt.Upstream.Host, Header: http.Header{},
		Body: c.Body, GetBody: c.GetBody, ContentLength: c.ContentLength,
	}).WithContext(c.Context())
	for name, values := range c.Header {
		if slices.Contains(onwards, name) || strings.HasPrefix(name, "Mcp-Param-") {
			out.Header[name] = values
		}
	}
	if out.Header.Get("User-Agent") == "" {
		out.Header["User-Agent"] = []string{"cardea-gateway"}
	}
	maps.Copy(out.Header, rt.Headers)
	c.tell(out.Header)
	if rt.Identity {
		statement, err := rt.table.identity.of(c.token, rt.Resource)
		if err != nil {
			return nil, err
		}
		out.Header.Set("Cardea-Identity", statement)
	}
	if rt.SSE {
		return out, rt.toEndpoint(out, c)
	}
	if c.version >= stateless {
		return out, nil // which has no sessions
	}
	session := c.Header.Get("Mcp-Session-Id")
	if session != "" {
		id, ok := rt.table.seal.open(session, rt.owner("session", c.token))
		if !ok {
			return nil, noSession(c)
		}
		out.Header.Set("Mcp-Session-Id", id)
	}
	if last := c.Header.Get("Last-Event-Id"); last != "" {
		id, ok := rt.table.seal.open(last, rt.owner("event", c.token))
		if !ok {
			return nil, &refusal{http.StatusForbidden, nil, http.StatusForbidden,
				"Last-Event-ID is not one of this client."}
		}
		out.Header.Set("Last-Event-ID", id)
	}
	return out, nil
}

// noSession returns the answer to a request in a session that is not, or no longer, the client's. To GET it is 405,
// because some clients repeat a GET for ever that is answered with 404.
func noSession(c *call) error {
	const text = "There is no such session; send initialize again."
	if c.Method == http.MethodGet {
		return &refusal{http.StatusMethodNotAllowed, nil, http.StatusMethodNotAllowed, text}
	}
	var id []byte
	if len(c.messages) == 1 {
		id = c.messages[0].ID
	}
	return &refusal{http.StatusNotFound, id, http.StatusNotFound, text}
}

func (rt *route) unreachable(w http.ResponseWriter, c *call, err error) {
	if c.Context().Err() != nil {
		c.record("failed", clientGone)
		return
	}
	rt.gateway.log.WarnContext(c.Context(), "gateway: the server cannot be reached", "server", rt.Name, "error", err)
	rt.bad(w, c, "The MCP server behind this gateway cannot be reached.")
}

// bad answers that the server gave no answer that can be passed on.
func (rt *route) bad(w http.ResponseWriter, c *call, text string) {
	c.record("failed", text)
	var id []byte
	if len(c.messages) == 1 {
		id = c.messages[0].ID
	}
	fail(w, http.StatusBadGateway, id, http.StatusBadGateway, text)
}

// reply passes on the answer of the server.
func (rt *route) reply(w http.ResponseWriter, c *call, response *http.Response) {
	kind := mediaOf(response.Header)
	if text := rt.unusable(c, response, kind); text != "" {
		rt.bad(w, c, text)
		return
	}
	isStream := kind == "text/event-stream" && response.StatusCode < 300
	if isGet := c.Method == http.MethodGet || c.Method == http.MethodHead; isGet &&
		(response.StatusCode == http.StatusNotFound || response.StatusCode < 300 && !isStream) {
		w.Header().Set("Allow", "POST, DELETE, OPTIONS")
		fail(w, http.StatusMethodNotAllowed, nil, http.StatusMethodNotAllowed, "There is no stream here.")
		return
	}
	h := w.Header()
	for _, name := range back {
		if values, found := response.Header[name]; found {
			h[name] = values
		}
	}
	h.Set("X-Content-Type-Options", "nosniff")
	if id := response.Header.Get("Mcp-Session-Id"); id != "" && c.version < stateless {
		h.Set("Mcp-Session-Id", rt.sessionOf(c, id))
	}
	if !isStream {
		h.Set("Cache-Control", "no-store")
	}
	switch {
	case isStream:
		outcome, reason := "allowed", rt.stream(w, c, response.Body)
		if reason != "" {
			outcome = "failed"
		}
		c.record(outcome, reason)
	case kind == "application/json" && c.Method == http.MethodPost:
		rt.rewrite(w, c, response)
	default:
		copyAnswer(w, c, response)
	}
}

// sessionOf returns the id under which the client of c knows the session that the server calls id. A session that the
// client named keeps its name, because some servers repeat it in each answer, and some clients compare.
func (rt *route) sessionOf(c *call, id string) string {
	owner, named := rt.owner("session", c.token), c.Header.Get("Mcp-Session-Id")
	if known, ok := rt.table.seal.open(named, owner); ok && known == id {
		return named
	}
	return rt.table.seal.seal(id, owner)
}

// unusable returns why the answer of the server, whose media type is kind, must not be passed on, or "".
func (rt *route) unusable(c *call, response *http.Response, kind string) string {
	status := response.StatusCode
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		// It is about the gateway's credentials; the client must not ask for another token.
		rt.gateway.log.ErrorContext(c.Context(),
			"gateway: the server refuses the gateway; look at its upstream_headers",
			"server", rt.Name, "status", status)
		return "The MCP server behind this gateway refuses the gateway."
	case status < 200, 300 <= status && status < 400:
		return "The MCP server behind this gateway sends the gateway elsewhere."
	case !strings.EqualFold(cmp.Or(response.Header.Get("Content-Encoding"), "identity"), "identity"):
		return "The MCP server behind this gateway compresses its answer, although it must not."
	case c.asks() && status < 300 && response.ContentLength != 0 && kind != "application/json" &&
		kind != "text/event-stream":
		// Clients read nothing else, or read it by other rules than the gateway.
		return "The MCP server behind this gateway sent neither JSON nor a stream of events."
	}
	return ""
}

// outcomeAt returns what is recorded of an answer with its status.
func outcomeAt(response *http.Response) (outcome, reason string) {
	if response.StatusCode >= 400 {
		return "failed", response.Status
	}
	return "allowed", ""
}

// copyAnswer passes on the body of an answer as it comes.
func copyAnswer(w http.ResponseWriter, c *call, response *http.Response) {
	if response.ContentLength >= 0 {
		w.Header()["Content-Length"] = response.Header["Content-Length"]
	}
	c.record(outcomeAt(response)) // first, so that no answer is without a record
	w.WriteHeader(response.StatusCode)
	from := &reader{Reader: response.Body}
	buffer := buffers.Get().(*[]byte)
	_, err := io.CopyBuffer(w, from, *buffer)
	buffers.Put(buffer)
	if err != nil && from.err != nil { // else the client has gone
		panic(http.ErrAbortHandler) // so that the client does not take a part for the whole
	}
}

// rewrite passes on the part of a body in JSON that the client may see, and keeps what it says of the server. It reads
// the whole body before it passes any of it on, because the id may be the last member.
func (rt *route) rewrite(w http.ResponseWriter, c *call, response *http.Response) {
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	filtered, ok := body, true
	switch {
	case response.StatusCode < 300 && c.isForeign(body):
		ok = false
	case c.mayMakeTask():
		rt.learnTask(c, body)
	}
	if ok {
		filtered, ok = rt.visible(c, body)
	}
	if err != nil || len(body) > maxAnswer || !ok {
		rt.bad(w, c, "The MCP server behind this gateway sent an answer that cannot be read.")
		return
	}
	if c.has(greeting...) {
		rt.learn(body)
	}
	c.record(outcomeAt(response)) // first, so that no answer is without a record
	w.Header().Set("Content-Length", strconv.Itoa(len(filtered)))
	w.WriteHeader(response.StatusCode)
	_, _ = w.Write(filtered) // fails only if the client has gone
}

// mediaOf returns the media type of an answer, "" if there is not exactly one that can be read: two readers could take
// different ones then.
func mediaOf(h http.Header) string {
	values := h.Values("Content-Type")
	if len(values) != 1 {
		return ""
	}
	kind, _, err := mime.ParseMediaType(values[0])
	if err != nil {
		return ""
	}
	return kind
}

// buffers are for copying answers. Most are a few hundred bytes, and a buffer of its own for each would be most of the
// memory that a call takes.
var buffers = sync.Pool{New: func() any {
	buffer := make([]byte, 32<<10)
	return &buffer
}}

// reader keeps the error that ended it.
type reader struct {
	io.Reader
	err error // nil at the end
}

func (r *reader) Read(b []byte) (n int, err error) {
	if n, err = r.Reader.Read(b); err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

// asks reports whether c has a request, which is answered.
func (c *call) asks() bool {
	return slices.ContainsFunc(c.messages, func(m guard.Message) bool { return m.Method != "" && m.ID != nil })
}

// isForeign reports whether data has an answer to another request than those of c, which MCP does not let a server send
// here (2025-11-25 and 2026-07-28, Streamable HTTP, "Sending Messages to the Server"). A client would take it for the
// answer to that one, which has not been judged. What a lenient client could take for one is foreign too.
func (c *call) isForeign(data []byte) bool {
	if isBatch(data) {
		var batch []json.RawMessage
		return json.Unmarshal(data, &batch) != nil ||
			slices.ContainsFunc(batch, func(one json.RawMessage) bool { return c.isForeign(one) })
	}
	members, ok := objectOf(data)
	if !ok {
		value := jsontext.Value(bytes.TrimSpace(data))
		return len(value) > 0 && (!value.IsValid() || value.Kind() == '{') // a number or a text is no message
	}
	for _, known := range []string{"id", "result", "error"} {
		if hasAlmost(members, known) {
			return true
		}
	}
	id, answers := find(members, "id"), find(members, "result") != nil || find(members, "error") != nil
	if id == nil || id.Kind() == 'n' || !answers && find(members, "method") != nil {
		return false
	}
	return !slices.ContainsFunc(c.messages, func(m guard.Message) bool { return m.Method != "" && same(m.ID, id) })
}

// stream passes on a stream of the server. It returns why the stream failed, or "".
func (rt *route) stream(w http.ResponseWriter, c *call, body io.ReadCloser) (failure string) {
	ctx, cancel := context.WithCancel(c.Context())
	defer cancel()
	events := make(chan read)
	go func() {
		er := &eventReader{r: bufio.NewReader(body)}
		for {
			e, err := er.next()
			select {
			case events <- read{e, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	defer body.Close() // ends the reading, too
	return rt.pump(w, c, events)
}

// read is an event of a stream, or why there are no more.
type read struct {
	event event
	err   error
}

// clientGone is why a stream failed whose client reads it no longer.
const clientGone = "the client has gone"

// pump writes events to the client, each at once, until they end. It returns why it ended early, or "".
func (rt *route) pump(w http.ResponseWriter, c *call, events <-chan read) (failure string) {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache, no-transform")
	h.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	clock := http.NewResponseController(w)
	flush := clock.Flush
	defer func() { _ = clock.SetWriteDeadline(time.Time{}) }()
	write := func(text []byte) bool {
		_ = clock.SetWriteDeadline(time.Now().Add(rt.gateway.patience)) // a client that reads nothing has gone
		_, err := w.Write(text)
		return err == nil && flush() == nil
	}
	if c.isLong() { // the first event may be far off; that of a call goes with the headers, as most servers send it
		_ = flush()
	}
	heart := time.NewTicker(rt.gateway.heartbeat)
	defer heart.Stop()
	recorded := c.isLong() // which has no answer, but ends
	var quit, reloaded chan struct{}
	if c.isLong() {
		quit, reloaded = rt.gateway.quit, rt.table.ended
		open := rt.gateway.metrics.streams.WithLabelValues(rt.Name)
		open.Inc()
		defer open.Dec()
	}
	for {
		select {
		case next, more := <-events:
			switch {
			case !more:
				return ""
			case errors.Is(next.err, io.EOF):
				return ""
			case next.err != nil && c.Context().Err() != nil:
				return clientGone
			case next.err != nil:
				return next.err.Error()
			}
			e, ok := rt.pass(c, next.event)
			if !ok {
				continue
			}
			if data, _ := e.field("data"); !recorded && isAnswer(data) {
				c.record(outcomeOf(data)) // first, so that no answer is without a record
				recorded = true
			}
			if !write(e.bytes()) {
				return clientGone
			}
		case <-heart.C:
			if c.isLong() && !rt.stillGood(c) {
				return ""
			}
			if !write([]byte(": \n\n")) {
				return clientGone
			}
		case <-quit:
			return ""
		case <-reloaded:
			reloaded = rt.gateway.table.Load().ended
			if rt.now() == nil {
				return ""
			}
			for _, message := range rt.changes(c) {
				if !write(messageEvent([]byte(message)).bytes()) {
					return clientGone
				}
			}
		case <-c.Context().Done():
			return clientGone
		}
	}
}

// stillGood reports whether the token of c is still one for this server. A stream whose token has ended ends with it;
// its client comes back with another.
func (rt *route) stillGood(c *call) bool {
	current := rt.now()
	if current == nil {
		return false
	}
	_, raw, _ := strings.Cut(c.Header.Get("Authorization"), " ")
	_, err := current.guard.Verify(c.Context(), strings.TrimSpace(raw))
	var e *guard.Error
	return err == nil || errors.As(err, &e) && e.Status != http.StatusUnauthorized
}

// pass returns an event as the client may see it, and whether it may.
func (rt *route) pass(c *call, e event) (event, bool) {
	if id, found := e.field("id"); found && len(id) > 0 {
		e.set("id", []byte(rt.table.seal.seal(string(id), rt.owner("event", c.token))))
	}
	data, found := e.field("data")
	if !found {
		return e, true
	}
	if rt.SSE {
		if kind, _ := e.field("event"); string(kind) == "endpoint" {
			return rt.endpoint(c, e, string(data))
		}
		rt.learn(data)
	}
	if c.version >= stateless && isRequest(data) {
		rt.gateway.log.WarnContext(c.Context(), "gateway: the server sent a request, which MCP "+stateless+
			" does not have; it was dropped", "server", rt.Name)
		return e, false
	}
	if c.Method == http.MethodPost && c.isForeign(data) {
		rt.gateway.log.WarnContext(c.Context(), "gateway: the server sent an answer to another request; it was dropped",
			"server", rt.Name)
		return e, false
	}
	if c.has(greeting...) {
		rt.learn(data)
	}
	if c.mayMakeTask() {
		rt.learnTask(c, data)
	}
	if c.Method == http.MethodGet { // any answer may come here
		rt.learnTask(c, data)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return e, true // a priming event
	}
	current := rt.now()
	if current == nil {
		return e, false
	}
	shown, ok := current.visible(c, data)
	if !ok {
		rt.gateway.log.WarnContext(c.Context(), "gateway: the server sent an event that cannot be read; it was dropped",
			"server", rt.Name)
		return e, false
	}
	if !bytes.Equal(shown, data) {
		e.set("data", shown)
	}
	return e, true
}

// isAnswer reports whether a message answers a request.
func isAnswer(data []byte) bool {
	members, ok := objectOf(data)
	return ok && find(members, "method") == nil && find(members, "id") != nil
}

// isRequest reports whether a message is a request.
func isRequest(data []byte) bool {
	members, ok := objectOf(data)
	return ok && find(members, "method") != nil && find(members, "id") != nil
}
