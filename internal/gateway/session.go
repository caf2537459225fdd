package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// session is a program with those who wait for what it says.
type session struct {
	id     string
	owner  string
	person string
	remap  bool // whether ids are replaced, because calls of several processes meet here
	child  *child

	mu      sync.Mutex
	waiting map[string]*waiter // by id of the request, as the program knows it
	modern  bool               // whether the program is known to speak MCP 2026-07-28
	stream  *waiter            // the stream that the client has open; nil if there is none
	queue   [][]byte           // messages for it
	next    int                // id of the next request, if ids are replaced
	active  int                // requests and streams under way
	idle    *time.Timer
	begun   bool // whether the program has answered initialize with a result
	over    bool
}

// waiter is a request, or a stream, that gets messages.
type waiter struct {
	messages chan []byte // is closed after the last
	id       []byte      // of the request, as the client knows it
	token    string      // its progress token, as the program knows it, in JSON; "" if there is none
	original []byte      // that token as the client knows it
	once     sync.Once
}

// maxWaiting is how many messages may wait for a client.
const maxWaiting = 256

func newWaiter(id []byte) *waiter { return &waiter{messages: make(chan []byte, maxWaiting), id: id} }

func (w *waiter) end() { w.once.Do(func() { close(w.messages) }) }

// enter notes that a request of the session is under way, and reports false if the session is over.
func (s *session) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false
	}
	s.active++
	s.idle.Stop()
	return true
}

// register makes a waiter for each request of c, and returns the lines for the program.
func (s *session) register(c *call) (lines [][]byte, waiters []*waiter, err error) {
	bodies, err := c.bodies()
	if err != nil {
		return nil, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return nil, nil, noSession(c)
	}
	for i, m := range c.messages {
		body := bodies[i]
		if s.remap && (m.Method == "" || m.Method == "notifications/cancelled") {
			continue // its id is one of another process, or of nobody; without sessions, disconnecting cancels
		}
		if m.Method != "" && m.ID != nil {
			w := newWaiter(m.ID)
			token, err := m.Param("_meta", "progressToken")
			if err != nil {
				return nil, waiters, &refusal{http.StatusBadRequest, m.ID, invalidParams, err.Error()}
			}
			w.original = token
			key := plainID(m.ID)
			if s.remap {
				s.next++
				key = strconv.Itoa(s.next)
				body = replaced(body, key, token != nil)
				if token != nil {
					token = []byte(key)
				}
			}
			w.token = plainID(token)
			if s.waiting[key] != nil {
				return nil, waiters, &refusal{http.StatusBadRequest, m.ID, invalidRequest,
					"A request with this id is under way."}
			}
			s.waiting[key] = w
			waiters = append(waiters, w)
		}
		lines = append(lines, body)
	}
	return lines, waiters, nil
}

// forget takes away what is left of the waiters of c. Where disconnecting cancels a call, the program is told.
func (s *session) forget(c *call, waiters []*waiter) {
	var cancelled []string
	s.mu.Lock()
	for key, w := range s.waiting {
		if slices.Contains(waiters, w) {
			delete(s.waiting, key)
			cancelled = append(cancelled, key)
		}
	}
	s.mu.Unlock()
	if c.version >= stateless && c.Context().Err() != nil {
		for _, key := range cancelled {
			_ = s.child.send([]byte(
				`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":` + key + `}}`))
		}
	}
}

// bodies returns the messages of c, each as its bytes.
func (c *call) bodies() ([][]byte, error) {
	var b bytes.Buffer
	if _, err := b.ReadFrom(c.Body); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	if len(c.messages) == 0 || !c.messages[0].Batch {
		return [][]byte{b.Bytes()}, nil
	}
	var members []json.RawMessage
	if err := json.Unmarshal(b.Bytes(), &members); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	bodies := make([][]byte, len(members))
	for i, member := range members {
		bodies[i] = member
	}
	return bodies, nil
}

// replaced returns a request with another id, which is also its progress token if it has one.
func replaced(body []byte, id string, token bool) []byte {
	message, _ := objectOf(body) // guard has read it
	for i, m := range message {
		switch {
		case m.name == "id":
			message[i].value = []byte(id)
		case m.name == "params" && token:
			message[i].value = within(m.value, "_meta", func(meta []byte) []byte {
				return within(meta, "progressToken", func([]byte) []byte { return []byte(id) })
			})
		}
	}
	return writeObject(message)
}

// within returns the object in data with another value of a member.
func within(data []byte, name string, change func([]byte) []byte) []byte {
	members, ok := objectOf(data)
	if !ok {
		return data
	}
	for i, m := range members {
		if m.name == name {
			members[i].value = change(m.value)
		}
	}
	return writeObject(members)
}

// plainID returns an id, or a progress token, as all that mean the same are written: a program may write the one that
// it was sent in another way, such as 1.0 as 1, or a letter as an escape. It returns "" for "".
func plainID(id []byte) string {
	var value any
	if json.Unmarshal(id, &value) != nil {
		return string(id)
	}
	plain, err := json.Marshal(value)
	if err != nil {
		return string(id)
	}
	return string(plain)
}

// isCall reports whether a message is a request or a notification.
func isCall(message []byte) bool {
	members, ok := objectOf(message)
	return ok && find(members, "method") != nil
}

// deliver gives a message of the program to those that it is for.
func (s *session) deliver(line []byte) {
	if line[0] == '[' {
		var batch []json.RawMessage
		if json.Unmarshal(line, &batch) == nil {
			for _, message := range batch {
				s.deliver(message)
			}
		}
		return
	}
	message, ok := objectOf(line)
	if !ok {
		return
	}
	id, method := find(message, "id"), find(message, "method")
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case method == nil:
		s.begun = s.begun || s.waiting[plainID(id)] != nil && find(message, "result") != nil
		s.answer(plainID(id), line)
	case s.remap && id != nil: // several clients share the program, and none of them is named
		go func() { _ = s.child.send(problem(id, methodNotFound, "This client takes no requests.")) }()
	default:
		s.notify(find(message, "params"), line)
	}
}

// answer gives an answer to the request with that id, if it still waits. The caller holds s.mu.
func (s *session) answer(id string, line []byte) {
	w := s.waiting[id]
	if w == nil {
		return
	}
	delete(s.waiting, id)
	if s.remap {
		line = within(line, "id", func([]byte) []byte { return w.id })
	}
	s.give(w, line)
	w.end()
}

// notify gives progress, and what a subscription brings, to the request that it is about, and everything else to the
// open stream, or else to the only request that is under way, or else to the next stream. The caller holds s.mu.
func (s *session) notify(parameters, line []byte) {
	var params struct {
		Token json.RawMessage `json:"progressToken"`
		Meta  struct {
			Subscription json.RawMessage `json:"io.modelcontextprotocol/subscriptionId"`
		} `json:"_meta"`
	}
	_ = json.Unmarshal(parameters, &params)
	for key, w := range s.waiting {
		switch {
		case params.Token != nil && plainID(params.Token) == w.token:
			if s.remap {
				line = within(line, "params", func(p []byte) []byte {
					return within(p, "progressToken", func([]byte) []byte { return w.original })
				})
			}
		case s.remap && params.Meta.Subscription != nil && strings.Trim(string(params.Meta.Subscription), `"`) == key:
			line = within(line, "params", func(p []byte) []byte {
				return within(p, "_meta", func(m []byte) []byte {
					return within(m, "io.modelcontextprotocol/subscriptionId", func([]byte) []byte { return w.id })
				})
			})
		default:
			continue
		}
		s.give(w, line)
		return
	}
	switch {
	case params.Token != nil || s.remap: // of a request that has ended, or of nobody's
	case s.stream != nil:
		s.give(s.stream, line)
	case len(s.waiting) == 1:
		for _, w := range s.waiting {
			s.give(w, line)
		}
	case len(s.queue) < maxWaiting:
		s.queue = append(s.queue, line)
	}
}

// give gives a message to a waiter. One that reads too slowly gets no more, so that others do not wait for it.
func (s *session) give(w *waiter, line []byte) {
	select {
	case w.messages <- line:
	default:
		w.end()
		for key, other := range s.waiting {
			if other == w {
				delete(s.waiting, key)
			}
		}
		if s.stream == w {
			s.stream = nil
		}
	}
}
