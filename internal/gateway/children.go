package gateway

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// children are the running programs of a server that is a command: one for each session, and, for clients of MCP
// 2026-07-28, which has no sessions, one for each person with a client.
type children struct {
	server  atomic.Pointer[Server] // a reload changes what is not its command
	gateway *Gateway
	pool    sync.Mutex // is held while a program starts for calls without sessions

	mu       sync.Mutex
	sessions map[string]*session // by id; without sessions by owner
	starting map[string]int      // by person: sessions that are about to be there
	failures int                 // programs in a row that ended by themselves
	notUntil time.Time           // when the next may start
	older    time.Time           // until when the program counts as one that does not know MCP 2026-07-28
	closed   bool
}

// childrenOf returns the programs of s, those of an earlier table if the command is the same.
func (g *Gateway) childrenOf(s *Server, earlier *table) *children {
	if earlier != nil {
		for _, rt := range earlier.routes {
			if o := rt.Server; rt.children != nil && o.Name == s.Name && o.Resource == s.Resource &&
				slices.Equal(o.Command, s.Command) && slices.Equal(o.Env, s.Env) {
				rt.children.server.Store(s)
				return rt.children
			}
		}
	}
	cs := &children{gateway: g, sessions: map[string]*session{}, starting: map[string]int{}}
	cs.server.Store(s)
	return cs
}

// close ends all programs, and starts no more.
func (cs *children) close() {
	cs.mu.Lock()
	cs.closed = true
	sessions := cs.sessions
	cs.sessions = map[string]*session{}
	cs.mu.Unlock()
	var all sync.WaitGroup
	for _, s := range sessions {
		all.Go(s.child.stop)
	}
	all.Wait()
}

// serve answers a call that the rules allow.
func (cs *children) serve(w http.ResponseWriter, c *call, rt *route) {
	s, err := cs.find(c)
	if err != nil {
		cs.fail(w, c, err)
		return
	}
	switch {
	case c.Method == http.MethodDelete:
		cs.end(s)
		w.WriteHeader(http.StatusNoContent)
	case c.Method != http.MethodPost:
		cs.listen(w, c, rt, s)
	default:
		cs.post(w, c, rt, s)
	}
}

// fail answers c with err, and records it.
func (cs *children) fail(w http.ResponseWriter, c *call, err error) {
	no, isRefusal := err.(*refusal) //nolint:errorlint // find returns it bare
	if !isRefusal {
		cs.gateway.log.ErrorContext(c.Context(), "gateway: the program cannot run", "server", cs.server.Load().Name,
			"error", err)
		no = &refusal{http.StatusBadGateway, nil, http.StatusBadGateway,
			"The MCP server behind this gateway cannot run."}
	}
	if no.id == nil && len(c.messages) == 1 {
		no.id = c.messages[0].ID
	}
	if no.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "5")
	}
	c.record("failed", no.text)
	fail(w, no.status, no.id, no.code, no.text)
}

// find returns the session of c: a new one for initialize, the person's for a call without sessions, and otherwise the
// one that c names.
func (cs *children) find(c *call) (*session, error) {
	owner := cs.server.Load().owner("session", c.token)
	named := c.Header.Get("Mcp-Session-Id")
	switch {
	case c.version >= stateless:
		return cs.pooled(c, owner)
	case c.has("initialize"):
		return cs.start(c, rand.Text(), owner)
	case named == "":
		return nil, &refusal{http.StatusBadRequest, nil, invalidRequest,
			"Mcp-Session-Id is missing; send initialize first."}
	}
	cs.mu.Lock()
	s := cs.sessions[named]
	cs.mu.Unlock()
	if s == nil || s.owner != owner || s.remap || !s.enter() {
		return nil, noSession(c)
	}
	return s, nil
}

// start starts a program for c. It is refused if there are too many, or if the last ones have ended by themselves just
// now.
func (cs *children) start(c *call, id, owner string) (*session, error) {
	person, server := c.token.Principal(), cs.server.Load()
	cs.mu.Lock()
	running := cs.starting[person]
	all := len(cs.sessions)
	for _, n := range cs.starting {
		all += n
	}
	for _, s := range cs.sessions {
		if s.person == person {
			running++
		}
	}
	var no string
	switch {
	case cs.closed:
		no = isEnding
	case time.Now().Before(cs.notUntil):
		no = "The MCP server behind this gateway ends by itself; it is started again soon."
	case all >= server.Sessions || running >= server.Each:
		no = "Too many sessions are open; end one, or try again later."
	}
	if no != "" {
		cs.mu.Unlock()
		return nil, &refusal{http.StatusServiceUnavailable, nil, http.StatusServiceUnavailable, no}
	}
	cs.starting[person]++
	cs.mu.Unlock()

	s := &session{id: id, owner: owner, person: person, waiting: map[string]*waiter{}, active: 1, remap: id == owner}
	s.idle = time.AfterFunc(server.Idle, func() {
		s.mu.Lock()
		quiet := s.active == 0
		s.mu.Unlock()
		if quiet {
			cs.end(s)
		}
	})
	started := time.Now()
	ready := make(chan struct{})
	child, err := startChild(server, cs.gateway.log, cs.gateway.patience, func(line []byte) {
		<-ready
		if line == nil {
			cs.ended(s, started)
			return
		}
		s.deliver(line)
	})
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.starting[person]--; cs.starting[person] == 0 {
		delete(cs.starting, person)
	}
	if err != nil {
		cs.backOff()
		return nil, err
	}
	s.child = child
	defer close(ready)
	if cs.closed {
		go child.stop()
		return nil, &refusal{http.StatusServiceUnavailable, nil, http.StatusServiceUnavailable, isEnding}
	}
	cs.sessions[id] = s
	return s, nil
}

// backOff makes the next start wait, longer each time. cs.mu must be held.
func (cs *children) backOff() {
	cs.gateway.metrics.ends.WithLabelValues(cs.server.Load().Name).Inc()
	cs.failures++
	cs.notUntil = time.Now().Add(min(30*time.Second, 500*time.Millisecond<<min(cs.failures, 6)))
}

// failed counts a program that does not take the first message as a start that failed. Most often it has ended by
// itself, and ended counts it if it is first. The caller ends the program.
func (cs *children) failed(s *session) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.sessions[s.id] == s {
		delete(cs.sessions, s.id)
		cs.backOff()
	}
}

// ended cleans up after a program. All that waited for it are answered.
func (cs *children) ended(s *session, started time.Time) {
	cs.mu.Lock()
	wanted := cs.closed || cs.sessions[s.id] != s // it was ended on purpose
	if !wanted {
		delete(cs.sessions, s.id)
		if time.Since(started) < 10*time.Second {
			cs.backOff()
		} else {
			cs.failures = 0
			cs.gateway.metrics.ends.WithLabelValues(cs.server.Load().Name).Inc()
		}
	}
	cs.mu.Unlock()
	if !wanted {
		cs.gateway.log.Error("gateway: the program ended by itself", "server", cs.server.Load().Name)
	}
	s.idle.Stop()
	s.mu.Lock()
	s.over = true
	waiting, stream := s.waiting, s.stream
	s.waiting, s.stream = map[string]*waiter{}, nil
	s.mu.Unlock()
	for _, w := range waiting {
		select {
		case w.messages <- problem(w.id, http.StatusBadGateway, hasEnded):
		default:
		}
		w.end()
	}
	if stream != nil {
		stream.end()
	}
}

// isEnding is the answer while no program may start any more.
const isEnding = "The gateway is about to end."

// hasEnded is the answer to calls whose program has ended.
const hasEnded = "The MCP server behind this gateway has ended; send initialize again."

// outcomeOf returns what the record says of a call that has an answer.
func outcomeOf(answer []byte) (outcome, reason string) {
	if statusOf(answer) == http.StatusBadGateway {
		return "failed", hasEnded
	}
	return "allowed", ""
}

// problem returns an error of JSON-RPC.
func problem(id []byte, code int, text string) []byte {
	quoted, _ := json.Marshal(text) // a string marshals
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"error":{"code":%d,"message":%s}}`, id, code, quoted)
}

// end ends a session and its program.
func (cs *children) end(s *session) {
	cs.mu.Lock()
	if cs.sessions[s.id] == s {
		delete(cs.sessions, s.id)
	}
	cs.mu.Unlock()
	s.idle.Stop()
	s.child.stop()
}

// exit notes that a request has ended. An idle session ends after a while.
func (cs *children) exit(s *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active--; s.active == 0 && !s.over {
		s.idle.Reset(cs.server.Load().Idle)
	}
}

// listen is the stream for what the program says of itself.
func (cs *children) listen(w http.ResponseWriter, c *call, rt *route, s *session) {
	defer cs.exit(s)
	mine := newWaiter(nil)
	s.mu.Lock()
	if s.over || s.stream != nil {
		over := s.over
		s.mu.Unlock()
		if over {
			cs.fail(w, c, noSession(c))
			return
		}
		cs.fail(w, c, &refusal{http.StatusConflict, nil, http.StatusConflict,
			"The stream of this session is open already."})
		return
	}
	s.stream = mine
	for _, message := range s.queue {
		mine.messages <- message // there is room
	}
	s.queue = nil
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		if s.stream == mine {
			s.stream = nil
		}
		s.mu.Unlock()
	}()
	rt.pump(w, c, events(c, mine.messages, nil))
}

// events returns messages as events of a stream, first before the others.
func events(c *call, messages <-chan []byte, first []byte) <-chan read {
	out := make(chan read)
	go func() {
		defer close(out)
		send := func(message []byte) bool {
			select {
			case out <- read{event: messageEvent(message)}:
				return true
			case <-c.Context().Done():
				return false
			}
		}
		if first != nil && !send(first) {
			return
		}
		for message := range messages {
			if !send(message) {
				return
			}
		}
	}()
	return out
}

// post sends the messages of c to the program, and its answers to the client.
func (cs *children) post(w http.ResponseWriter, c *call, rt *route, s *session) {
	defer cs.exit(s)
	if c.has("initialize") {
		defer func() {
			s.mu.Lock()
			begun := s.begun
			s.mu.Unlock()
			if !begun || c.Context().Err() != nil { // the client does not know the session
				cs.end(s)
			}
		}()
	}
	lines, waiters, err := s.register(c)
	if err == nil {
		for _, line := range lines {
			if err = s.child.send(line); err != nil {
				err = fmt.Errorf("gateway: the program does not listen: %w", err)
				if c.has("initialize") {
					cs.failed(s)
				}
				break
			}
		}
	}
	defer s.forget(c, waiters)
	if err != nil {
		cs.fail(w, c, err)
		return
	}
	if len(waiters) == 0 {
		c.record("allowed", "")
		w.WriteHeader(http.StatusAccepted)
		return
	}
	if c.has("initialize") {
		w.Header().Set("Mcp-Session-Id", s.id)
	}
	var messages <-chan []byte = waiters[0].messages
	if len(waiters) > 1 {
		messages = merged(c, waiters)
	}
	var first []byte
	asked := time.Now()
	select {
	case first = <-messages:
		if !c.isLong() {
			cs.gateway.metrics.answered(rt.Server, asked)
		}
	case <-c.Context().Done():
		c.record("failed", clientGone)
		return
	}
	if len(waiters) == 1 && !isCall(first) {
		cs.answer(w, c, rt, first)
		return
	}
	reason := rt.pump(w, c, events(c, messages, first))
	outcome := "allowed"
	if reason != "" {
		outcome = "failed"
	}
	c.record(outcome, reason)
}

// answer answers c with one message.
func (cs *children) answer(w http.ResponseWriter, c *call, rt *route, message []byte) {
	if message == nil { // the client reads too slowly
		cs.fail(w, c, &refusal{http.StatusBadGateway, nil, http.StatusBadGateway,
			"The MCP server behind this gateway gave no answer."})
		return
	}
	if c.has(greeting...) {
		rt.learn(message)
	}
	if c.mayMakeTask() {
		rt.learnTask(c, message)
	}
	message, ok := rt.visible(c, message)
	if !ok {
		rt.bad(w, c, "The MCP server behind this gateway sent a list that cannot be read.")
		return
	}
	status := http.StatusOK
	if c.version >= stateless {
		status = statusOf(message)
	}
	c.record(outcomeOf(message))
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(message) // fails only if the client has gone
}

// statusOf returns the status of an answer since MCP 2026-07-28.
func statusOf(message []byte) int {
	var m struct{ Error struct{ Code int } }
	_ = json.Unmarshal(message, &m)
	switch m.Error.Code {
	case 0:
		return http.StatusOK
	case methodNotFound:
		return http.StatusNotFound
	case http.StatusBadGateway:
		return http.StatusBadGateway
	case invalidParams, invalidRequest, unsupportedVersion, -32021, -32020:
		return http.StatusBadRequest
	}
	return http.StatusOK
}

// merged returns the messages of several waiters, until all have ended.
func merged(c *call, waiters []*waiter) <-chan []byte {
	out := make(chan []byte)
	var all sync.WaitGroup
	for _, w := range waiters {
		all.Go(func() {
			for message := range w.messages {
				select {
				case out <- message:
				case <-c.Context().Done():
					return
				}
			}
		})
	}
	go func() { all.Wait(); close(out) }()
	return out
}

// pooled returns the session of a person with a client, for calls without sessions. A program that does not know MCP
// 2026-07-28 is found out first, because it may answer nothing at all before initialize; its clients are told to begin
// a session.
func (cs *children) pooled(c *call, owner string) (*session, error) {
	cs.mu.Lock()
	s := cs.sessions[owner]
	cs.mu.Unlock()
	if s.isModern() && s.enter() { // it does not wait for programs of others to start
		return s, nil
	}
	cs.pool.Lock()
	defer cs.pool.Unlock()
	cs.mu.Lock()
	older := time.Now().Before(cs.older)
	s = cs.sessions[owner]
	cs.mu.Unlock()
	if older {
		return nil, tooNew(c)
	}
	if s != nil && s.enter() {
		return s, nil
	}
	s, err := cs.start(c, owner, owner)
	if err != nil {
		return nil, err
	}
	knows, answered := s.knowsStateless(c)
	if knows {
		s.mu.Lock()
		s.modern = true
		s.mu.Unlock()
		return s, nil
	}
	cs.end(s)
	if c.Context().Err() == nil {
		again := time.Minute // it may have been slow to start, as programs are that are fetched first
		if answered {
			again = time.Hour // it may be another version then
		}
		cs.mu.Lock()
		cs.older = time.Now().Add(again)
		cs.mu.Unlock()
	}
	return nil, tooNew(c)
}

// isModern reports whether s is there, and its program is known to speak MCP 2026-07-28.
func (s *session) isModern() bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.modern
}

func tooNew(c *call) error {
	return &refusal{http.StatusBadRequest, c.messages[0].ID, unsupportedVersion,
		"This server knows MCP up to 2025-11-25; send initialize."}
}

// probe asks a program whether it knows MCP 2026-07-28.
const probe = `{"jsonrpc":"2.0","id":0,"method":"server/discover","params":{"_meta":{` +
	`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},` +
	`"io.modelcontextprotocol/clientInfo":{"name":"cardea-gateway","version":"1"}}}}`

// knowsStateless reports whether the program of s answers the probe without an error, and whether it answers within
// some seconds.
func (s *session) knowsStateless(c *call) (knows, answered bool) {
	w := newWaiter([]byte("0"))
	s.mu.Lock()
	s.waiting["0"] = w
	s.mu.Unlock()
	defer s.forget(c, []*waiter{w})
	if s.child.send([]byte(probe)) != nil {
		return false, false
	}
	patience := time.NewTimer(5 * time.Second)
	defer patience.Stop()
	select {
	case line := <-w.messages:
		members, ok := objectOf(line)
		return ok && find(members, "result") != nil, true
	case <-patience.C:
	case <-c.Context().Done():
	}
	return false, false
}
