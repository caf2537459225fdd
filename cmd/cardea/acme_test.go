package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/porttest"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// Two nodes share certificates. The one that obtains it is not the one that the authority reaches.
func TestNodesShareCertificates(t *testing.T) {
	var ports [4]int
	for i := range ports {
		ports[i] = porttest.Port(t)
	}
	authority := servertest.NewAuthority(t, ports[0], ports[1])
	dsn := storetest.New(t, storetest.Postgres)
	launch := func(httpPort, httpsPort int, edit ...string) (*exec.Cmd, func(string) string) {
		server := exec.CommandContext(t.Context(), "cardea", "serve", "--data-dir", t.TempDir(), "--issuer",
			"https://auth.example.com", "--listen", fmt.Sprintf("127.0.0.1:%d", httpsPort))
		server.Env = append(append(os.Environ(), "CARDEA_DATABASE="+dsn,
			"CARDEA_MASTER_KEY=bm90IGEga2V5LCBidXQgMzIgYnl0ZXMgb2YgdGV4dCE=",
			"CARDEA_TLS_ACME_DOMAINS=auth.example.com", "CARDEA_TLS_ACME_DIRECTORY="+authority.Directory,
			"CARDEA_TLS_ACME_CA_FILE="+authority.CAFile,
			fmt.Sprintf("CARDEA_TLS_HTTP_LISTEN=127.0.0.1:%d", httpPort)), edit...)
		server.Cancel = func() error { return server.Process.Signal(syscall.SIGTERM) }
		log, err := server.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = server.Process.Kill() })
		lines := bufio.NewScanner(log)
		return server, func(text string) string {
			t.Helper()
			for lines.Scan() {
				if strings.Contains(lines.Text(), text) {
					go func() { _, _ = io.Copy(io.Discard, log) }()
					return lines.Text()
				}
			}
			t.Fatalf("the server ended before it logged %s", text)
			return ""
		}
	}
	serial := func(port int) string {
		t.Helper()
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(authority.Root)
		look := time.NewTicker(20 * time.Millisecond)
		defer look.Stop()
		for deadline := time.Now().Add(time.Minute); ; <-look.C {
			conn, err := (&tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: "auth.example.com",
				MinVersion: tls.VersionTLS12}}).DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err == nil {
				defer conn.Close()
				return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String()
			}
			if time.Now().After(deadline) { // it has none, or does not serve yet
				t.Fatal(err)
			}
		}
	}

	reached, until := launch(ports[0], ports[1], "CARDEA_TLS_ACME_CA_FILE=")
	until("the certificate authority cannot prove who it is; set tls.acme.ca_file")
	_, until = launch(ports[2], ports[3])
	until("a certificate was obtained")
	want := serial(ports[3])
	orders := authority.Orders.Load()

	if err := reached.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := reached.Wait(); err != nil {
		t.Errorf("told to end: %v", err)
	}
	launch(ports[0], ports[1])
	if got := serial(ports[1]); got != want || authority.Orders.Load() != orders {
		t.Errorf("the certificate is %s, want %s; %d orders more", got, want, authority.Orders.Load()-orders)
	}
	health := exec.CommandContext(context.WithoutCancel(t.Context()), "cardea", "health", "--data-dir", t.TempDir(),
		"--address", fmt.Sprintf("127.0.0.1:%d", ports[1]))
	health.Env = append(os.Environ(), "CARDEA_ISSUER=https://auth.example.com",
		"CARDEA_TLS_ACME_DOMAINS=auth.example.com")
	if out, err := health.CombinedOutput(); err != nil {
		t.Errorf("cardea health: %v\n%s", err, out)
	}
}
