// Package server puts the endpoints together: routes, the order of what every request passes through, TLS, health, the
// janitor, shutdown.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cardea-auth/cardea/internal/account"
	"github.com/cardea-auth/cardea/internal/adminapi"
	"github.com/cardea-auth/cardea/internal/authorize"
	"github.com/cardea-auth/cardea/internal/client"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/console"
	"github.com/cardea-auth/cardea/internal/discovery"
	"github.com/cardea-auth/cardea/internal/fetch"
	"github.com/cardea-auth/cardea/internal/keys"
	"github.com/cardea-auth/cardea/internal/login"
	"github.com/cardea-auth/cardea/internal/mail"
	"github.com/cardea-auth/cardea/internal/registration"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/strangers"
	"github.com/cardea-auth/cardea/internal/token"
	"github.com/cardea-auth/cardea/internal/web"
)

// Server is the authorization server. Make it with New.
type Server struct {
	config config.Config
	db     *store.DB
	keys   *keys.Ring
	log    *slog.Logger

	strangers     *strangers.Recorder
	documents     *client.Documents      // nil: metadata documents do not count
	registration  *registration.Endpoint // nil: clients do not register themselves
	authorization *authorize.Endpoint
	token         *token.Endpoint
	login         *login.Endpoint
	account       *account.Endpoint
	invite        *account.Invite
	reset         *account.Reset
	setup         *account.Setup // nil: there is no administration over HTTP
	discovery     *discovery.Endpoint
	adminapi      *adminapi.Endpoint // nil: operators do not work over HTTP
	console       *console.Endpoint  // likewise
	pages         *web.Pages
	mail          *mail.Mailer // nil: there is no mail
	clock         *clock
	seal, send    func(context.Context) // the audit log, until the context is done
	unsealed      func() time.Duration  // how long ago all of it was sealed
	fetcher       *fetch.Client
	watcher       Watcher
	sessions      atomic.Int64 // live ones, as the janitor counted them

	master      keys.Master
	certificate *certificate // nil: none from files; after Listen
	authority   *authority   // nil: it obtains none by itself; after Listen
	plainAt     net.Listener // for HTTP beside HTTPS; nil: none; after Listen
}

// Listen listens on the configured addresses. From then on connections are accepted, and they are answered when Serve
// runs. It returns the listener for Serve. The error says what to do if an address cannot be used; it is also returned
// if the TLS certificate cannot be loaded.
func (s *Server) Listen(ctx context.Context) (_ net.Listener, err error) {
	if err := s.secure(); err != nil {
		return nil, err
	}
	listener, err := listen(ctx, s.config)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, listener.Close())
		}
	}()
	if s.plainAt, err = listenPlain(ctx, s.config, s.log); err != nil {
		return nil, err
	}
	if s.authority, err = newAuthority(s.config, s.db, s.master, listener, s.plainAt, s.log); err != nil {
		return nil, err
	}
	return listener, nil
}

// listen listens on the address of c. Its error says what to do.
func listen(ctx context.Context, c config.Config) (net.Listener, error) {
	return Listen(ctx, "listen", "--listen", c.Listen)
}

// Serve answers the connections of listener until ctx is done, then finishes the requests that have begun, and returns
// nil. It closes listener.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	if err := s.secure(); err != nil {
		return err
	}
	hs := newHTTP(s.Handler(), s.log)
	s.certificate.secure(hs)
	s.authority.secure(hs)
	if s.documents != nil {
		s.documents.WarnIfOffline(ctx)
	}

	work, stop := context.WithCancel(ctx)
	defer stop()
	janitor := make(chan struct{})
	go func() {
		defer close(janitor)
		s.tidy(work)
	}()
	var works sync.WaitGroup
	if s.authority != nil {
		works.Go(func() { s.authority.work(work) })
	}
	if s.plainAt != nil {
		beside := newHTTP(s.plain(), s.log)
		defer func() { _ = beside.Close() }()
		go func() {
			if err := beside.Serve(s.plainAt); !errors.Is(err, http.ErrServerClosed) {
				s.log.Error("http is not answered any more", "error", err)
			}
		}()
	}
	works.Go(func() { s.send(work) })
	// It ends last, so that it seals what the last requests recorded.
	last, unseal := context.WithCancel(context.WithoutCancel(ctx))
	defer unseal()
	var sealing sync.WaitGroup
	sealing.Go(func() { s.seal(last) })
	failed := make(chan error, 1)
	go func() {
		failed <- serve(hs, listener)
	}()
	select {
	case err := <-failed:
		unseal()
		sealing.Wait()
		return fmt.Errorf("server: %w", err)
	case <-ctx.Done():
	}
	s.log.Info("stopping: finishing the requests that have begun")
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	err := hs.Shutdown(grace)
	<-janitor
	works.Wait()
	if s.mail != nil {
		s.mail.Close(grace)
	}
	unseal()
	sealing.Wait()
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("server: requests were still running after 30 seconds: %w", err)
	}
	return nil
}

// newHTTP returns what serves handler.
func newHTTP(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: handler,
		// OPTIONS * is answered as anything else is, with an id.
		DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout:            10 * time.Second,
		ReadTimeout:                  30 * time.Second,
		WriteTimeout:                 60 * time.Second,
		IdleTimeout:                  60 * time.Second,
		MaxHeaderBytes:               96 << 10,
		ErrorLog:                     slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// serve answers the connections of listener until hs is closed.
func serve(hs *http.Server, listener net.Listener) error {
	if hs.TLSConfig != nil {
		return hs.ServeTLS(listener, "", "")
	}
	return hs.Serve(listener)
}

// tidyEvery is how often the janitor runs.
const tidyEvery = time.Minute

// TellDue sends the mails about what commands did, and those that could not be sent before. Serve calls it each minute.
func (s *Server) TellDue(ctx context.Context) error {
	if s.mail == nil {
		return nil
	}
	return s.account.TellDue(ctx)
}

// tidy sends the mails that are due, deletes what is over, tallies the audit log and rotates the keys that are due,
// until ctx is done.
func (s *Server) tidy(ctx context.Context) {
	ticker := time.NewTicker(tidyEvery)
	defer ticker.Stop()
	for {
		if err := s.TellDue(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("mails that are due could not be read; it is tried again in a minute", "error", err)
		}
		s.clock.step(s.log)
		if s.watcher.Event != nil {
			if n, err := s.db.LiveSessions(ctx); err == nil {
				s.sessions.Store(n)
			}
		}
		if _, err := s.db.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("sweeping the database failed; it is tried again in a minute", "error", err)
		}
		if _, err := s.db.Tally(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("counting the audit log failed; it is tried again in a minute", "error", err)
		}
		if err := s.strangers.Tell(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("the number of refusals that were not recorded could not be recorded; it is lost", "error", err)
		}
		if err := s.keys.EnsureResources(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("making a signing key for a resource failed; it is tried again in a minute", "error", err)
		}
		if every := s.config.Keys.RotateEvery; every > 0 {
			if err := s.keys.RotateDue(ctx, every); err != nil && ctx.Err() == nil {
				s.log.Warn("rotating the signing keys failed; it is tried again in a minute", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Mailer returns what sends the mails of the server, or nil if it sends none.
func (s *Server) Mailer() *mail.Mailer { return s.mail }
