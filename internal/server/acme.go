package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/keys"
	"github.com/cardea-auth/cardea/internal/store"
)

// authority obtains the certificates of the domains that the configuration lists from a certificate authority, and
// renews them (RFC 8555). It obtains none for any other name, because anybody can ask for one.
type authority struct {
	domains []string
	vault   *vault
	cache   *certmagic.Cache
	magic   *certmagic.Config
	issuer  *certmagic.ACMEIssuer
	log     *slog.Logger
}

// newAuthority returns nil if c lists no domains. secure and plain are where the server listens; plain is nil if it
// does not listen for HTTP. It returns an error if tls.acme.ca_file cannot be used.
func newAuthority(c config.Config, db *store.DB, master keys.Master, secure, plain net.Listener,
	log *slog.Logger) (*authority, error) {
	if len(c.TLS.ACME.Domains) == 0 {
		return nil, nil
	}
	issuer, err := url.Parse(c.Issuer)
	if err != nil {
		return nil, err
	}
	roots, err := authorityRoots(c)
	if err != nil {
		return nil, err
	}
	a := &authority{domains: c.TLS.ACME.Domains, vault: newVault(db, master), log: log}
	quiet := zap.New(journal{log})
	a.cache = certmagic.NewCache(certmagic.CacheOptions{Logger: quiet,
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return a.magic, nil }})
	a.magic = certmagic.New(a.cache, certmagic.Config{Storage: a.vault, Logger: quiet, OnEvent: a.tell,
		DefaultServerName: issuer.Hostname(), OCSP: certmagic.OCSPConfig{DisableStapling: true}})
	host, httpsPort := hostPort(secure)
	_, httpPort := hostPort(plain)
	a.issuer = certmagic.NewACMEIssuer(a.magic, certmagic.ACMEIssuer{
		CA: c.TLS.ACME.Directory, Email: c.TLS.ACME.Email, Agreed: true, TrustedRoots: roots, Logger: quiet,
		ListenHost: host, AltHTTPPort: httpPort, AltTLSALPNPort: httpsPort,
		// A challenge that nobody can answer here would only use up the attempts.
		DisableHTTPChallenge: httpPort == 0, DisableTLSALPNChallenge: httpsPort == 0,
	})
	a.magic.Issuers = []certmagic.Issuer{a.issuer}
	return a, nil
}

// hostPort returns the address of a listener at a TCP port; 0 if it is none.
func hostPort(l net.Listener) (host string, port int) {
	if l == nil {
		return "", 0
	}
	at, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return "", 0
	}
	if !at.IP.IsUnspecified() {
		host = at.IP.String()
	}
	return host, at.Port
}

// CertificateNotes returns what may keep certificates away from a server that obtains them by itself.
func CertificateNotes(ctx context.Context, c config.Config) (notes []string) {
	if len(c.TLS.ACME.Domains) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, domain := range c.TLS.ACME.Domains {
		if found, err := net.DefaultResolver.LookupHost(ctx, domain); len(found) == 0 {
			notes = append(notes, fmt.Sprintf("tls.acme.domains: DNS has no address for %s, so there can be no "+
				"certificate for it; add an A or AAAA record (%v)", domain, err))
		}
	}
	_, https, errHTTPS := net.SplitHostPort(c.Listen)
	_, http, errHTTP := net.SplitHostPort(c.HTTPAddress())
	if (errHTTPS != nil || https != "443") && (errHTTP != nil || http != "80") {
		notes = append(notes, "tls.acme: the certificate authority connects to port 80 or 443 of "+
			strings.Join(c.TLS.ACME.Domains, ", ")+"; see that one of them leads to tls.http_listen or listen")
	}
	return notes
}

// authorityRoots returns the certificates with which the certificate authority itself proves who it is; nil: those of
// the system.
func authorityRoots(c config.Config) (*x509.CertPool, error) {
	if c.TLS.ACME.CAFile == "" {
		return nil, nil
	}
	text, err := config.ReadFile(c.TLS.ACME.CAFile)
	if err != nil {
		return nil, fmt.Errorf("tls.acme.ca_file: %w; check the path and its permissions", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, errors.New("tls.acme.ca_file: there is no certificate in the file; it must be in PEM form")
	}
	return roots, nil
}

// work obtains and renews certificates until ctx ends. It keeps trying, less and less often.
func (a *authority) work(ctx context.Context) {
	defer a.vault.release(context.WithoutCancel(ctx))
	defer a.cache.Stop()
	for wait := time.Second; ; wait = min(2*wait, time.Minute) {
		err := a.magic.ManageAsync(ctx, a.domains)
		if err == nil {
			break
		}
		a.log.WarnContext(ctx, "the certificates cannot be read from the database, and are tried again", "in",
			wait.String(), "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
	<-ctx.Done()
}

// tell logs what becomes of the certificates. While this node waits after a failure, another may try, because perhaps
// only this one cannot.
func (a *authority) tell(ctx context.Context, event string, data map[string]any) error {
	name, _ := data["identifier"].(string)
	switch event {
	case "cert_obtaining":
		return a.vault.takeBack(ctx, issuing(name))
	case "cert_obtained":
		a.log.InfoContext(ctx, "a certificate was obtained", "host", name, "renewal", data["renewal"])
	case "cert_failed":
		err, _ := data["error"].(error)
		a.log.WarnContext(ctx, "no certificate was obtained, and it is tried again: "+a.advice(name, err), "host", name,
			"renewal", data["renewal"], "error", err)
		a.vault.lend(ctx, issuing(name))
	}
	return nil
}

// advice says what to do about an error of the certificate authority (RFC 8555 §6.7).
func (a *authority) advice(host string, err error) string {
	var problem acme.Problem
	var dial *net.OpError
	var dns *net.DNSError
	var unknown *tls.CertificateVerificationError
	if !errors.As(err, &problem) {
		switch {
		case errors.As(err, &unknown):
			return "the certificate authority cannot prove who it is; set tls.acme.ca_file to its root certificate"
		case errors.As(err, &dial), errors.As(err, &dns):
			return "this server does not reach the certificate authority; see that it may connect to tls.acme.directory"
		}
		return "see the error"
	}
	kind, detail := problem.Type, strings.ToLower(problem.Detail)
	if len(problem.Subproblems) > 0 {
		kind = cmp.Or(problem.Subproblems[0].Type, kind)
	}
	switch { // some have other types for these two
	case strings.Contains(detail, "could not resolve"):
		kind = acme.ProblemTypeDNS
	case strings.Contains(detail, "failed to connect"):
		kind = acme.ProblemTypeConnection
	}
	switch kind {
	case acme.ProblemTypeConnection, acme.ProblemTypeTLS:
		return "the certificate authority does not reach this server; see that ports 80 and 443 of " + host +
			" lead here from the whole internet, and that no firewall closes them"
	case acme.ProblemTypeDNS:
		return "DNS has no address for " + host + "; add an A or AAAA record with the address of this server"
	case acme.ProblemTypeUnauthorized, acme.ProblemTypeIncorrectResponse:
		return "another server answers at " + host + "; see that its DNS records, all A and AAAA, lead here"
	case acme.ProblemTypeCAA:
		return "a CAA record of " + host + " forbids this certificate authority; change the record"
	case acme.ProblemTypeRateLimited:
		return "the certificate authority gives no more certificates for now; wait, and do not restart the server"
	case acme.ProblemTypeRejectedIdentifier, acme.ProblemTypeUnsupportedIdentifier:
		return "the certificate authority gives none for " + host + "; use a public name, or another tls.acme.directory"
	case acme.ProblemTypeInvalidContact, acme.ProblemTypeUnsupportedContact:
		return "the certificate authority does not accept the address; correct tls.acme.email"
	case acme.ProblemTypeExternalAccountRequired:
		return "this certificate authority wants an account that was made before, which Cardea cannot use; use " +
			"another tls.acme.directory"
	}
	return "see the error"
}

// secure makes hs serve TLS with the certificates, if a is not nil.
func (a *authority) secure(hs *http.Server) {
	if a != nil {
		hs.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: a.get,
			NextProtos: []string{"h2", "http/1.1", acmez.ACMETLS1Protocol}}
	}
}

// get returns the certificate for a handshake, or the one that answers a challenge (RFC 8737 §3).
func (a *authority) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if hello.ServerName != "" && !a.knows(hello.ServerName) {
		return nil, errors.New("server: a handshake for a name that is not in tls.acme.domains")
	}
	return a.magic.GetCertificate(hello)
}

func (a *authority) knows(host string) bool {
	return slices.Contains(a.domains, strings.TrimSuffix(strings.ToLower(host), "."))
}

// answers answers r if it asks for the answer to a challenge for one of the domains (RFC 8555 §8.3).
func (a *authority) answers(w http.ResponseWriter, r *http.Request) bool {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return a.knows(host) && a.issuer.HandleHTTPChallenge(w, r)
}

// expires returns when the first of the certificates expires; zero if there is none.
func (a *authority) expires() (first time.Time) {
	for _, domain := range a.domains {
		for _, c := range a.cache.AllMatchingCertificates(domain) {
			if first.IsZero() || c.Leaf.NotAfter.Before(first) {
				first = c.Leaf.NotAfter
			}
		}
	}
	return first
}

// journal is a log of the library, of which authority.tell says what an operator needs.
type journal struct{ log *slog.Logger }

// Enabled implements zapcore.LevelEnabler.
func (j journal) Enabled(level zapcore.Level) bool {
	return level >= zapcore.InfoLevel && j.log.Enabled(context.Background(), slog.LevelDebug)
}

// With implements zapcore.Core.
func (j journal) With(fields []zapcore.Field) zapcore.Core {
	return journal{j.log.With(attributes(fields)...)}
}

// Check implements zapcore.Core.
func (j journal) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if j.Enabled(e.Level) {
		return ce.AddCore(e, j)
	}
	return ce
}

// Write implements zapcore.Core.
func (j journal) Write(e zapcore.Entry, fields []zapcore.Field) error {
	j.log.Debug("certificates: "+e.Message, attributes(fields)...)
	return nil
}

// Sync implements zapcore.Core.
func (j journal) Sync() error { return nil }

func attributes(fields []zapcore.Field) (all []any) {
	encoder := zapcore.NewMapObjectEncoder()
	for _, field := range fields {
		field.AddTo(encoder)
	}
	for name, value := range encoder.Fields {
		all = append(all, slog.Any(name, value))
	}
	return all
}
