package guard

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Events says how tool calls come into the audit log of the issuer. The zero Events keeps them out of it: they are only
// in Config.Logger.
//
// An event is on disk in Spool when the method that records it returns, and is sent soon after, with others, until the
// issuer has it. So neither an issuer that is down nor a crash of this process loses one. The issuer recognises an
// event that it gets twice.
type Events struct {
	// Spool is a directory for events that the issuer does not have yet. It is made if it is missing, and belongs to
	// one process, and to one resource. Empty turns events off.
	Spool string

	// Credentials are those of the resource server at the issuer. Nil means those of Config.Introspection.
	Credentials *Credentials

	// MaxBytes is how much Spool may hold. While it is full, new events are lost, and Config.Logger says so; older ones
	// are kept, because they show how it began. Zero means 64 MiB.
	MaxBytes int64
}

// ToolCall describes a call of a tool, apart from its caller, whom [Guard.RecordToolCall] takes from the context.
type ToolCall struct {
	Tool     string
	Outcome  string        // "allowed", "refused", or "failed": it was allowed, and the tool failed
	Reason   string        // why it was refused, or failed; "" if it was not
	Duration time.Duration // of the call
}

const (
	defaultSpool = 64 << 20
	segmentSize  = 1 << 20 // bytes after which another file is begun
	batchEvents  = 200
	batchBytes   = 256 << 10
	gatherFor    = 200 * time.Millisecond // after an event, for others
	firstRetry   = time.Second
	lastRetry    = time.Minute
	spoolSuffix  = ".events"
	maxToolName  = 256 // bytes, as for the reason: the issuer takes no longer ones
	maxReason    = 512
)

// event is one event as the issuer takes it.
type event struct {
	ID       string  `json:"id"`
	Time     string  `json:"time"`
	Action   string  `json:"action"`
	Outcome  string  `json:"outcome"`
	Tool     string  `json:"tool"`
	User     string  `json:"user"`
	ClientID string  `json:"client_id"`
	GrantID  string  `json:"grant_id"`
	TokenID  string  `json:"jti"`
	Duration float64 `json:"duration_ms"`
	Reason   string  `json:"reason"`
}

// RecordToolCall records a call of a tool for the audit log of the issuer, if Config.Events has a spool. It takes the
// caller from ctx, where [Guard.Protect] put it. When it returns, the event is on disk. Arguments and results are not
// recorded. The error says that the event is lost.
func (g *Guard) RecordToolCall(ctx context.Context, call ToolCall) error {
	if g.spool == nil {
		return nil
	}
	token := FromContext(ctx)
	if token == nil || call.Tool == "" {
		return nil
	}
	grant, _, ok := strings.Cut(token.ID, ".")
	if !ok || !strings.HasPrefix(grant, "grt_") {
		grant = ""
	}
	line, err := json.Marshal(event{
		ID: rand.Text(), Time: g.now().UTC().Format(time.RFC3339Nano), Action: "tool.call", Outcome: call.Outcome,
		Tool: shown(call.Tool, maxToolName), User: token.Subject, ClientID: token.ClientID, GrantID: grant,
		TokenID: token.ID, Duration: float64(call.Duration.Microseconds()) / 1000,
		Reason: shown(call.Reason, maxReason),
	})
	if err == nil {
		err = g.spool.add(append(line, '\n'))
	}
	if err != nil {
		g.log.ErrorContext(ctx, "guard: a tool call is missing in the audit log", "tool", call.Tool, "error", err)
	}
	return err
}

// RecordToolDrift records for the audit log of the issuer that the MCP server lists a tool that is not the one that was
// reviewed, and that it is therefore closed, if Config.Events has a spool. Reason says what is different. When it
// returns, the event is on disk. The error says that the event is lost.
func (g *Guard) RecordToolDrift(ctx context.Context, tool, reason string) error {
	if g.spool == nil || tool == "" {
		return nil
	}
	line, err := json.Marshal(event{
		ID: rand.Text(), Time: g.now().UTC().Format(time.RFC3339Nano), Action: "tool.drift", Outcome: "refused",
		Tool: shown(tool, maxToolName), Reason: shown(reason, maxReason),
	})
	if err == nil {
		err = g.spool.add(append(line, '\n'))
	}
	if err != nil {
		g.log.ErrorContext(ctx, "guard: a tool that has changed is missing in the audit log",
			"tool", tool, "error", err)
	}
	return err
}

// shown returns text without control characters, cut at most bytes.
func shown(text string, most int) string {
	text = strings.Map(func(c rune) rune {
		if isControl(c) || c == utf8.RuneError {
			return '?'
		}
		return c
	}, text)
	for len(text) > most {
		_, size := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-size]
	}
	return text
}

// Close stops what the guard does in the background, except the lists that it follows, and gives the spool back. Events
// that the issuer does not have yet stay in it for the next guard. A guard without a spool need not be closed.
func (g *Guard) Close() error {
	if g.spool == nil {
		return nil
	}
	return g.spool.release()
}

// spool keeps events on disk until the issuer has them. Guards of one resource share it.
type spool struct {
	dir      string
	resource string
	limit    int64
	lock     *os.File
	users    int // guards; spools.mu protects it

	stop    context.CancelFunc
	stopped sync.WaitGroup
	wake    chan struct{} // there is something to send

	mu      sync.Mutex
	written *sync.Cond // there is something to write, or closing is true
	writing bool       // to the current segment
	closing bool
	issuer  *issuer
	as      Credentials
	group   *spoolGroup // waits to be written; nil: none does
	older   []*segment  // oldest first
	current *segment    // nil: none is begun
	total   int64       // bytes of all segments
	lost    int         // events, since the log was told
}

// spoolGroup is the events that are written with one fsync.
type spoolGroup struct {
	lines []byte
	done  chan struct{}
	err   error
}

// segment is a file of the spool: a line for each event. A line that a crash cut off has no newline and was never
// acknowledged.
type segment struct {
	path string
	file *os.File // nil: nothing is appended any more
	size int64    // on disk
	sent int64    // bytes that the issuer has
}

// spools are those of this process, by directory.
var spools = struct {
	mu  sync.Mutex
	all map[string]*spool
}{all: map[string]*spool{}}

var errSpoolFull = errors.New("guard: the spool is full")

// openSpool returns the spool of config, which has Credentials. Other guards of the same resource share it.
func openSpool(config Events, resource string, i *issuer, log *slog.Logger) (*spool, error) {
	dir, err := filepath.Abs(config.Spool)
	if err != nil {
		return nil, fmt.Errorf("guard: Events: %w", err)
	}
	spools.mu.Lock()
	defer spools.mu.Unlock()
	if s := spools.all[dir]; s != nil {
		if s.resource != resource {
			return nil, fmt.Errorf("guard: Events: the spool %s is that of %s; give each resource its own", dir,
				s.resource)
		}
		s.users++
		s.mu.Lock()
		s.issuer, s.as = i, *config.Credentials
		s.mu.Unlock()
		return s, nil
	}
	s := &spool{dir: dir, resource: resource, limit: config.MaxBytes, users: 1, wake: make(chan struct{}, 1), issuer: i,
		as: *config.Credentials}
	if s.limit <= 0 {
		s.limit = defaultSpool
	}
	s.written = sync.NewCond(&s.mu)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("guard: Events: %w", err)
	}
	if s.lock, err = lockFile(filepath.Join(dir, "lock")); err != nil {
		return nil, fmt.Errorf("guard: Events: the spool %s: %w", dir, err)
	}
	if err := s.find(); err != nil {
		_ = s.lock.Close()
		return nil, fmt.Errorf("guard: Events: %w", err)
	}
	spools.all[dir] = s
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.stopped.Go(s.write)
	s.stopped.Go(func() { s.deliver(ctx, log) })
	return s, nil
}

// find finds what an earlier process left.
func (s *spool) find() error {
	names, err := filepath.Glob(filepath.Join(s.dir, "*"+spoolSuffix))
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			return err
		}
		s.older = append(s.older, &segment{path: name, size: info.Size()})
		s.total += info.Size()
	}
	if len(s.older) > 0 {
		s.signal()
	}
	return nil
}

// release gives the spool back. The last guard that does closes it.
func (s *spool) release() error {
	spools.mu.Lock()
	defer spools.mu.Unlock()
	if s.users--; s.users > 0 {
		return nil
	}
	delete(spools.all, s.dir)
	s.mu.Lock()
	s.closing = true
	s.written.Signal()
	s.mu.Unlock()
	s.stop()
	s.stopped.Wait()
	var err error
	if c := s.current; c != nil {
		if err = c.file.Close(); c.sent == c.size {
			err = errors.Join(err, os.Remove(c.path))
		}
	}
	return errors.Join(err, s.lock.Close())
}

// add returns when line is on disk.
func (s *spool) add(line []byte) error {
	s.mu.Lock()
	switch {
	case s.closing:
		s.mu.Unlock()
		return errors.New("guard: the guard is closed")
	case s.total+int64(len(line)) > s.limit:
		s.lost++
		s.mu.Unlock()
		return errSpoolFull
	}
	s.total += int64(len(line))
	if s.group == nil {
		s.group = &spoolGroup{done: make(chan struct{})}
		s.written.Signal()
	}
	g := s.group
	g.lines = append(g.lines, line...)
	s.mu.Unlock()
	<-g.done
	return g.err
}

// write writes the groups, each with one fsync.
func (s *spool) write() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for s.group == nil && !s.closing {
			s.written.Wait()
		}
		if s.group == nil {
			return
		}
		g := s.group
		s.group = nil
		if g.err = s.begin(); g.err == nil {
			current := s.current
			s.writing = true
			s.mu.Unlock()
			_, err := current.file.Write(g.lines)
			if err == nil {
				err = current.file.Sync()
			}
			s.mu.Lock()
			s.writing = false
			if g.err = err; err == nil {
				current.size += int64(len(g.lines))
			} else { // what follows half a line would be part of it
				s.end()
			}
		}
		if g.err != nil {
			s.total -= int64(len(g.lines))
		}
		close(g.done)
		s.signal()
	}
}

// begin makes the current segment, unless there is one with room. s.mu must be held.
func (s *spool) begin() error {
	if s.current != nil && s.current.size < segmentSize {
		return nil
	}
	s.end()
	path := filepath.Join(s.dir, fmt.Sprintf("%020d-%s%s", time.Now().UnixNano(), rand.Text()[:6], spoolSuffix))
	flags := os.O_CREATE | os.O_EXCL | os.O_WRONLY | os.O_APPEND
	file, err := os.OpenFile(path, flags, 0o600) // #nosec G304 -- the operator's folder
	if err != nil {
		return err
	}
	if dir, err := os.Open(s.dir); err == nil { // the name must survive a crash too
		_ = dir.Sync() // not every file system can
		_ = dir.Close()
	}
	s.current = &segment{path: path, file: file}
	return nil
}

// end makes the current segment one of the older ones. s.mu must be held.
func (s *spool) end() {
	if s.current == nil {
		return
	}
	_ = s.current.file.Close() // what counts was synced
	s.current.file = nil
	s.older, s.current = append(s.older, s.current), nil
}

// signal wakes what sends.
func (s *spool) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// deliver sends what is in the spool, until ctx is done.
func (s *spool) deliver(ctx context.Context, log *slog.Logger) {
	retry, most := firstRetry, batchEvents
	failing := false
	pause := func(d time.Duration) {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
	}
	for ctx.Err() == nil {
		s.tellLost(log)
		seg, lines, err := s.next(most)
		switch {
		case err != nil:
			log.Error("guard: the spool cannot be read", "spool", s.dir, "error", err)
			pause(lastRetry)
			continue
		case seg == nil:
			select {
			case <-ctx.Done():
			case <-s.wake:
				pause(gatherFor)
			}
			continue
		}
		err = s.send(ctx, lines)
		var refused *refusedError
		switch {
		case err == nil:
			s.delivered(seg, lines)
			if failing {
				log.Info("guard: the issuer takes tool calls again", "spool", s.dir)
			}
			retry, most, failing = firstRetry, batchEvents, false
			continue
		case ctx.Err() != nil:
			continue
		case errors.As(err, &refused) && len(lines) > 1: // one of them is wrong
			most = max(1, len(lines)/2)
			continue
		case errors.As(err, &refused):
			log.Error("guard: the issuer does not take a tool call; it is lost", "event", string(lines[0]),
				"error", err)
			s.delivered(seg, lines)
			continue
		}
		if !failing {
			log.Warn("guard: tool calls cannot be sent to the issuer; they wait in the spool", "spool", s.dir,
				"error", err)
		}
		failing = true
		pause(about(retry))
		retry = min(2*retry, lastRetry)
	}
}

// tellLost logs how many events were lost since the last time.
func (s *spool) tellLost(log *slog.Logger) {
	s.mu.Lock()
	lost := s.lost
	s.lost = 0
	s.mu.Unlock()
	if lost > 0 {
		log.Error("guard: tool calls are missing in the audit log, because the spool is full", "events", lost,
			"spool", s.dir)
	}
}

// next returns the oldest events that the issuer does not have, and their segment. Segments that are done are removed.
func (s *spool) next(most int) (*segment, [][]byte, error) {
	for {
		s.mu.Lock()
		seg := s.current
		if len(s.older) > 0 {
			seg = s.older[0]
		}
		if seg == nil || seg == s.current && seg.sent == seg.size {
			if seg != nil && seg.size > 0 && !s.writing && (seg.size >= segmentSize/2 || s.total >= s.limit/2) {
				s.end() // it is done, and removed below
				s.mu.Unlock()
				continue
			}
			s.mu.Unlock()
			return nil, nil, nil
		}
		sent, size, closed := seg.sent, seg.size, seg.file == nil
		s.mu.Unlock()
		lines, err := readLines(seg.path, sent, size, most)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, nil, err
		}
		if len(lines) > 0 {
			return seg, lines, nil
		}
		if !closed {
			return nil, nil, nil
		}
		if err := os.Remove(seg.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, nil, err
		}
		s.mu.Lock()
		s.older = s.older[1:]
		s.total -= size
		s.mu.Unlock()
	}
}

// readLines returns whole lines of a file, from the byte from on and not beyond the byte to.
func readLines(path string, from, to int64, most int) ([][]byte, error) {
	file, err := os.Open(path) //nolint:gosec // in the spool
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	data := make([]byte, min(to-from, batchBytes))
	n, err := file.ReadAt(data, from)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var lines [][]byte
	for data = data[:n]; len(lines) < most; {
		line, rest, whole := bytes.Cut(data, []byte{'\n'})
		if !whole {
			break
		}
		lines, data = append(lines, line), rest
	}
	return lines, nil
}

// delivered records that the issuer has lines of a segment.
func (s *spool) delivered(seg *segment, lines [][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range lines {
		seg.sent += int64(len(line)) + 1
	}
}

// refusedError is an answer that will not change if the same events are sent again.
type refusedError struct{ status, body string }

func (e *refusedError) Error() string { return "the issuer answered " + e.status + ": " + e.body }

// send sends events to the issuer. It returns nil if the issuer has all of them.
func (s *spool) send(ctx context.Context, lines [][]byte) error {
	s.mu.Lock()
	i, as := s.issuer, s.as
	s.mu.Unlock()
	var body bytes.Buffer
	at, err := json.Marshal(s.resource)
	if err != nil {
		return err
	}
	fmt.Fprintf(&body, `{"resource":%s,"events":[`, at) // the credentials may be of several resources
	ids := map[string]bool{}
	for _, line := range lines {
		var e struct {
			ID string `json:"id"`
		}
		if json.Unmarshal(line, &e) != nil || e.ID == "" {
			continue // not written by a guard
		}
		if len(ids) > 0 {
			body.WriteByte(',')
		}
		ids[e.ID] = true
		body.Write(line)
	}
	body.WriteString("]}")
	if len(ids) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(i.id, "/")+"/oauth2/events", &body)
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.SetBasicAuth(url.QueryEscape(as.ClientID), url.QueryEscape(as.ClientSecret))
	resp, err := i.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument))
	switch {
	case err != nil:
		return err
	case resp.StatusCode == http.StatusBadRequest, resp.StatusCode == http.StatusRequestEntityTooLarge:
		return &refusedError{resp.Status, shown(string(answer), maxReason)}
	case resp.StatusCode != http.StatusAccepted:
		return fmt.Errorf("the issuer answered %s: %s", resp.Status, shown(string(answer), maxReason))
	}
	var received struct {
		Accepted []string `json:"accepted"`
	}
	if err := json.Unmarshal(answer, &received); err != nil {
		return errors.New("the issuer's answer cannot be read")
	}
	for _, id := range received.Accepted {
		delete(ids, id)
	}
	if len(ids) > 0 {
		return fmt.Errorf("the issuer did not accept %d of %d events", len(ids), len(lines))
	}
	return nil
}
