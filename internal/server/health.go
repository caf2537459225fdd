package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
)

const (
	readyWithin = 2 * time.Second  // longest time in which /readyz is answered
	leastRoom   = 32 << 20         // bytes that must be free for the database
	mostSkew    = 30 * time.Second // between this machine and the database
	mostStep    = 5 * time.Second  // by which the clock may be off at once
	stepLasts   = time.Minute      // how long a step of the clock is told
)

// health is the response of the two health endpoints.
type health struct {
	Status string `json:"status"`
}

// alive answers GET /healthz: the process serves requests.
func (s *Server) alive(*http.Request) (health, error) { return health{"ok"}, nil }

// ready answers GET /readyz: 200 if this server can issue tokens, otherwise 503 with the reason. Anybody may ask, so
// the details are only in the log.
func (s *Server) ready(r *http.Request) (health, error) {
	ctx, cancel := context.WithTimeout(r.Context(), readyWithin)
	defer cancel()
	reason, err := s.unready(ctx)
	if reason == "" {
		return health{"ok"}, nil
	}
	s.log.WarnContext(r.Context(), "not ready: "+reason, "error", err)
	return health{}, oauth.RefuseBusy(5*time.Second, "%s", reason)
}

// unready returns why this server cannot issue tokens, or may issue wrong ones; "" if it can. The error has the
// details.
func (s *Server) unready(ctx context.Context) (reason string, err error) {
	if err := s.db.Ping(ctx); err != nil {
		return "the database does not answer", err
	}
	if err := s.db.Probe(ctx); err != nil {
		return "the database takes no writes", err
	}
	if free, known := s.db.Room(); known && free < leastRoom {
		return "the disk of the database is nearly full", errors.New("fewer than 32 MB are free; make room")
	}
	algs, err := s.keys.Algs(ctx)
	if err == nil && len(algs) == 0 {
		err = errors.New("there is no signing key")
	}
	if err != nil {
		return "the signing keys cannot be loaded", err
	}
	skew, err := s.db.Skew(ctx)
	if err != nil {
		return "the database does not answer", err
	}
	if skew.Abs() > mostSkew {
		return "the clock differs from that of the database", errors.New("the database is ahead by " + skew.String() +
			"; synchronize both clocks")
	}
	if by := s.clock.step(s.log); by != 0 {
		return "the clock was set a moment ago", errors.New("it moved by " + by.String())
	}
	return "", nil
}

// clock notices when the clock of this machine is set, because that makes tokens and codes live longer or shorter.
type clock struct {
	now func() time.Time

	mu      sync.Mutex
	wall    time.Time // of now, when it was last looked at
	looked  time.Time // then, by a clock that nobody sets
	stepped time.Time // when it was last set, by that clock
	by      time.Duration
	steps   int
}

func newClock(now func() time.Time) *clock { return &clock{now: now, wall: now(), looked: time.Now()} }

// times returns how often the clock was set, as far as somebody looked.
func (c *clock) times() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.steps
}

// step returns by how much the clock was set within the last minute, or 0 if it was not. It logs each time once.
func (c *clock) step(log *slog.Logger) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	wall, looked := c.now(), time.Now()
	by := wall.Sub(c.wall) - looked.Sub(c.looked)
	if wall.Equal(c.wall) {
		by = 0 // a clock that stands still, as those of tests do, was not set
	}
	c.wall, c.looked = wall, looked
	if by.Abs() > mostStep {
		c.stepped, c.by, c.steps = looked, by, c.steps+1
		log.Warn("the clock of this machine was set, or the machine slept; if it was wrong, tokens that were issued "+
			"meanwhile live shorter or longer", "by", by.String())
	}
	if c.steps == 0 || looked.Sub(c.stepped) > stepLasts {
		return 0
	}
	return c.by
}
