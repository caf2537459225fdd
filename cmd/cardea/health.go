package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/cardea-auth/cardea/internal/config"
)

type healthCommand struct {
	Address string        `placeholder:"ADDRESS" help:"Where to ask, in place of listen."`
	Timeout time.Duration `default:"5s" placeholder:"TIME" help:"Longest time to wait for the answer."`
	output
}

// Help is shown below the usage.
func (c *healthCommand) Help() string {
	return "It asks the address that listen names, on this machine, for /readyz. It is the health check of a " +
		"container that has no other program."
}

// readiness is what cardea health found.
type readiness struct {
	Ready    bool     `json:"ready"`
	Address  string   `json:"address"`
	Reason   string   `json:"reason,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

func (c *healthCommand) Run(ctx context.Context, sh *shell) error {
	flags := map[string]string{}
	if c.Address != "" {
		if _, err := config.ParseAddress(c.Address); err != nil {
			return usageError(fmt.Sprintf("--address: %v; write it like 127.0.0.1:8080 or unix:/run/cardea/cardea.sock",
				err))
		}
		flags["listen"] = c.Address
	}
	loaded, err := sh.load(flags)
	if err != nil {
		return err
	}
	if c.Timeout <= 0 {
		return usageError("--timeout must be more than 0")
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	found, err := askReady(ctx, loaded.Config)
	if err != nil {
		return err
	}
	if err := c.print(sh, found, func(t *table) {
		if found.Ready {
			t.Row("ready")
		} else {
			t.Row("not ready", found.Reason)
		}
		for _, warning := range found.Warnings {
			t.Row("warning", warning)
		}
	}); err != nil {
		return err
	}
	if !found.Ready {
		return errVerdict
	}
	return nil
}

// askReady asks the server of c on this machine whether it is ready. A server that does not answer is not.
func askReady(ctx context.Context, c config.Config) (readiness, error) {
	at, err := config.ParseAddress(c.Listen)
	if err != nil {
		return readiness{}, fmt.Errorf("listen: %w", err)
	}
	if at.Systemd {
		return readiness{}, advise("listen is %s, and only systemd knows that address; say where to ask with "+
			"--address, like --address 127.0.0.1:8080 or --address unix:/run/cardea/cardea.sock", c.Listen)
	}
	found, dial := readiness{Address: c.Listen}, "localhost"
	if at.Path == "" {
		host, port, err := net.SplitHostPort(c.Listen)
		if err != nil {
			return readiness{}, fmt.Errorf("listen: %w", err)
		}
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			host = "localhost"
		}
		found.Address = net.JoinHostPort(host, port)
		dial = found.Address
	}
	ask := url.URL{Scheme: "http", Host: dial, Path: "/readyz"}
	transport := &http.Transport{DisableKeepAlives: true} // no proxy, because the server is on this machine
	if at.Path != "" {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", at.Path)
		}
	}
	if c.SecureTLS() {
		ask.Scheme = "https"
		if transport.TLSClientConfig, err = trusting(c); err != nil {
			return found, err
		}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, ask.String(), http.NoBody)
	if err != nil {
		return found, err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		found.Reason = "nothing answers at " + found.Address
		if errors.Is(err, context.DeadlineExceeded) {
			found.Reason = found.Address + " does not answer in time"
		} else if unknown := (*tls.CertificateVerificationError)(nil); errors.As(err, &unknown) {
			found.Reason = fmt.Sprint(found.Address, " has a certificate that is not good: ", unknown.Err)
		}
		return found, nil
	}
	defer func() { _ = response.Body.Close() }()
	var body struct {
		Status      string   `json:"status"`
		Warnings    []string `json:"warnings"`
		Description string   `json:"error_description"`
	}
	err = json.NewDecoder(io.LimitReader(response.Body, 1<<16)).Decode(&body)
	found.Ready = err == nil && response.StatusCode == http.StatusOK && body.Status == "ok"
	found.Reason, found.Warnings = body.Description, body.Warnings
	if !found.Ready && found.Reason == "" {
		found.Reason = fmt.Sprintf("%s answers %s, as Cardea does not", found.Address, response.Status)
	}
	return found, nil
}

// trusting returns a configuration that accepts the configured certificate for the host of the issuer, also if its
// signer is unknown to this machine. Of one that the server obtained it accepts any signer, because a container may
// know none, and the server is on this machine.
func trusting(c config.Config) (*tls.Config, error) {
	issuer, err := url.Parse(c.Issuer)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	if c.TLS.Cert == "" {
		//nolint:gosec // VerifyConnection looks at what matters here
		return &tls.Config{MinVersion: tls.VersionTLS12, ServerName: issuer.Hostname(), InsecureSkipVerify: true,
			VerifyConnection: func(state tls.ConnectionState) error {
				leaf := state.PeerCertificates[0]
				if time.Now().After(leaf.NotAfter) {
					return &tls.CertificateVerificationError{Err: errors.New("it has expired")}
				}
				return leaf.VerifyHostname(issuer.Hostname())
			}}, nil
	}
	text, err := config.ReadFile(c.TLS.Cert)
	if err != nil {
		return nil, fmt.Errorf("tls.cert: %w; check the path and its permissions", err)
	}
	own := x509.NewCertPool()
	own.AppendCertsFromPEM(text)
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: own, ServerName: issuer.Hostname()}, nil
}
