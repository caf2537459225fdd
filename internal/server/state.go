package server

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"github.com/cardea-auth/cardea/internal/fetch"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// Watcher is told what the server does. Its functions must not block; each may be nil.
type Watcher struct {
	// Wrap returns a handler around the one that answers all requests.
	Wrap func(http.Handler) http.Handler
	// Request is called after each response, as web.Front.Observe says.
	Request func(r *http.Request, route, kind string, status int, took time.Duration)
	// Event is called with each event of the audit log, as store.DB.Observe says.
	Event func(action, outcome, reason string, detail map[string]string)
}

// Watch makes w the Watcher of the server. Call it before Handler and Serve.
func (s *Server) Watch(w Watcher) {
	s.watcher = w
	if w.Event != nil {
		s.db.Observe(w.Event)
	}
}

// Trusts reports whether r comes from one of the trusted proxies.
func (s *Server) Trusts(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && (&web.Front{TrustedProxies: s.config.TrustedProxies}).Trusts(peer.Addr().Unmap())
}

// State is what is true of the server at a moment.
type State struct {
	Ready   bool // /readyz answers 200
	Answers bool // the database does
	Store   store.Stats
	// Room is the free space in bytes where the database is, if RoomKnown.
	Room      uint64
	RoomKnown bool
	// ClockSteps is how often the clock of this machine was set.
	ClockSteps int
	// Keys is when the key that signs was created, by algorithm; nil if the keys cannot be read.
	Keys map[string]time.Time
	// CertificateExpires is when the first TLS certificate does; zero if there is none.
	CertificateExpires time.Time
	// Fetches are those of strangers' documents, by what fetches them.
	Fetches map[string]fetch.Stats
	// Unsealed is how long ago all events of the audit log were sealed.
	Unsealed time.Duration
	// Sessions are the browsers in which people were signed in when the janitor last ran. It counts them only if a
	// Watcher has events.
	Sessions int64
}

// State returns what is true of the server now. It takes at most two seconds.
func (s *Server) State(ctx context.Context) State {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	reason, _ := s.unready(ctx)
	now := State{
		Ready: reason == "", Answers: s.db.Answers(), Store: s.db.Stats(), ClockSteps: s.clock.times(),
		CertificateExpires: s.certificateExpires(), Sessions: s.sessions.Load(), Unsealed: s.unsealed(),
		Fetches: map[string]fetch.Stats{"documents": s.fetcher.Stats()},
	}
	now.Room, now.RoomKnown = s.db.Room()
	now.Keys, _ = s.keys.Signing(ctx)
	return now
}
