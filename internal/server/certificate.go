package server

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/cardea-auth/cardea/internal/config"
)

// certificate is the TLS certificate of two files. It is read again when they change, so that a renewal needs no
// restart.
type certificate struct {
	certFile, keyFile, host string
	log                     *slog.Logger

	mu        sync.Mutex
	current   *tls.Certificate
	cert, key []byte // what the files had when they were read last
	fault     string // that was told last
	checked   time.Time
}

// loadCertificate returns the certificate that c names, nil if it names none. It warns of one that clients will not
// accept.
func loadCertificate(c config.Config, log *slog.Logger) (*certificate, error) {
	if c.TLS.Cert == "" {
		return nil, nil
	}
	issuer, err := url.Parse(c.Issuer)
	if err != nil {
		return nil, err
	}
	loaded := &certificate{certFile: c.TLS.Cert, keyFile: c.TLS.Key, host: issuer.Hostname(), log: log}
	if _, err := loaded.load(); err != nil {
		return nil, err
	}
	return loaded, nil
}

// CheckCertificate returns an error unless a server can use the TLS certificate that c names, if it names one. It warns
// of one that clients will not accept.
func CheckCertificate(c config.Config, warn func(string)) error {
	if _, err := authorityRoots(c); err != nil {
		return err
	}
	loaded, err := loadCertificate(c, slog.New(slog.DiscardHandler))
	if loaded == nil {
		return err
	}
	if fault := unacceptable(loaded.current.Leaf, loaded.host, time.Now()); fault != nil {
		warn("tls.cert: clients will not accept the certificate: " + fault.Error())
	}
	return nil
}

// load reads the files, and reports whether they have another certificate than before.
func (c *certificate) load() (fresh bool, err error) {
	cert, err := config.ReadFile(c.certFile)
	if err != nil {
		return false, fmt.Errorf("tls.cert: %w; check the path and its permissions", err)
	}
	key, err := config.ReadFile(c.keyFile)
	if err != nil {
		return false, fmt.Errorf("tls.key: %w; check the path and its permissions", err)
	}
	if bytes.Equal(cert, c.cert) && bytes.Equal(key, c.key) {
		return false, nil
	}
	c.cert, c.key = cert, key
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return false, fmt.Errorf("tls.cert and tls.key: %w", err)
	}
	c.current = &pair
	if fault := unacceptable(pair.Leaf, c.host, time.Now()); fault != nil {
		c.log.Warn("tls.cert: clients will not accept the certificate; replace the file, which is read again by itself",
			"error", fault)
	}
	return true, nil
}

// unacceptable returns why clients do not accept a certificate for host, even if they trust its issuer; nil if they
// may.
func unacceptable(leaf *x509.Certificate, host string, now time.Time) error {
	switch {
	case now.After(leaf.NotAfter):
		return errors.New("it expired on " + leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return errors.New("it is not valid before " + leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	return leaf.VerifyHostname(host)
}

// get returns the certificate for a handshake. It looks at the files at most once a second.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.checked) >= time.Second {
		c.checked = now
		c.renew()
	}
	return c.current, nil
}

// secure makes hs serve TLS with the certificate, if there is one.
func (c *certificate) secure(hs *http.Server) {
	if c != nil {
		hs.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}
	}
}

// renew reads the files. If they cannot be used, the certificate stays as it is.
func (c *certificate) renew() {
	fresh, err := c.load()
	switch {
	case err != nil && err.Error() == c.fault: // it was told
	case err != nil:
		c.fault = err.Error()
		c.log.Warn("the new TLS certificate cannot be used, and the old one stays in use; mend the files, which are "+
			"read again by themselves", "error", err)
	case fresh:
		c.fault = ""
		c.log.Info("the TLS certificate was read again", "expires", c.current.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
}

// secure loads the certificate of the configuration, once.
func (s *Server) secure() (err error) {
	if s.certificate == nil {
		s.certificate, err = loadCertificate(s.config, s.log)
	}
	return err
}

// certificateExpires returns when the first TLS certificate expires; zero if there is none.
func (s *Server) certificateExpires() time.Time {
	switch c := s.certificate; {
	case s.authority != nil:
		return s.authority.expires()
	case c != nil:
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.current.Leaf.NotAfter
	}
	return time.Time{}
}

// Reload reads the files of the TLS certificate at once, instead of at the next handshake.
func (s *Server) Reload() {
	if c := s.certificate; c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.renew()
	}
}
