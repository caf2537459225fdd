package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

const (
	quickStart  = time.Second      // how long a start may take before somebody is told
	longestWait = 15 * time.Second // between two attempts
)

// Await calls open until its error is not one of those that go away by themselves (store.Away), and returns that error.
// Between the calls it waits, first for a second and then twice as long each time, up to 15 seconds. If that takes more
// than a moment, it answers at the configured address meanwhile, so that a supervisor sees that the process is alive:
// /healthz with 200, and everything else with 503 and Retry-After, because the keys and the scopes to publish are in
// the database. It answers nothing if the certificates are there too. Await returns nil if ctx ends first, and an error
// if the address cannot be used.
func Await(ctx context.Context, c config.Config, log *slog.Logger, open func(context.Context) error) error {
	s := &standIn{config: c, log: log}
	soon := time.AfterFunc(quickStart, func() { _ = s.begin(ctx) }) // the error comes again once the server listens
	defer s.end()
	defer soon.Stop()
	for wait := time.Second; ; wait = min(2*wait, longestWait) {
		err := open(ctx)
		switch {
		case ctx.Err() != nil && err != nil:
			return nil
		case !store.Away(err):
			return err
		}
		reason := store.Cause(err)
		if reason == "" {
			reason = err.Error()
		}
		if err := s.begin(ctx); err != nil {
			return err
		}
		log.WarnContext(ctx, "the database cannot be used yet, and is tried again",
			"in", wait.String(), "error", reason)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// standIn answers in place of a server that has no database yet.
type standIn struct {
	config config.Config
	log    *slog.Logger

	mu    sync.Mutex
	hs    *http.Server
	ended bool
}

// begin begins to answer, unless it does already or is not to any more.
func (s *standIn) begin(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hs != nil || s.ended || len(s.config.TLS.ACME.Domains) > 0 {
		return nil
	}
	front := &web.Front{Logger: s.log, TrustedProxies: s.config.TrustedProxies,
		HTTPS: strings.HasPrefix(s.config.Issuer, "https:"), Now: time.Now}
	certificate, err := loadCertificate(s.config, s.log)
	if err != nil {
		return err
	}
	hs := newHTTP(front.Wrap(web.JSON(s.answer)), s.log)
	certificate.secure(hs)
	listener, err := listen(ctx, s.config)
	if err != nil {
		return err
	}
	hs.SetKeepAlivesEnabled(false) // the next request may be for the server
	s.hs = hs
	go func() {
		if err := serve(hs, listener); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("nothing is answered until the database can be used", "error", err)
		}
	}()
	return nil
}

func (s *standIn) answer(r *http.Request) (health, error) {
	if r.URL.Path == "/healthz" {
		return health{"ok"}, nil
	}
	return health{}, oauth.RefuseBusy(5*time.Second, "this server is starting: its database does not answer yet")
}

// end finishes the requests that have begun, and frees the address.
func (s *standIn) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	if s.hs == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.hs.Shutdown(ctx) != nil {
		_ = s.hs.Close()
	}
}
