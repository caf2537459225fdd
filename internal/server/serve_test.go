package server_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/keys"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// pipes is a listener within the process, so that a whole server, its timeouts
// included, lives in a synctest bubble.
type pipes struct {
	accept chan net.Conn
	closed chan struct{}
}

func (n *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-n.accept:
		return conn, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

func (n *pipes) Close() error {
	close(n.closed)
	return nil
}

func (n *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "bubble", Net: "pipe"} }

func (n *pipes) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case n.accept <- theirs:
		return ours, nil
	case <-n.closed:
		return nil, errors.New("the server listens no more")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// serve runs a server until the test ends or stop is called, which returns what
// Serve does. It must be called in a bubble.
func serve(t *testing.T, edit func(*config.Config)) (n *pipes, stop func() error) {
	t.Helper()
	db, _ := storetest.Open(t, storetest.SQLite)
	return serveFrom(t, db, edit)
}

// serveFrom is serve with a database of the test's.
func serveFrom(t *testing.T, db *store.DB, edit func(*config.Config)) (n *pipes, stop func() error) {
	t.Helper()
	loaded, err := config.Load(config.Sources{Flags: map[string]string{"issuer": "https://cardea.example",
		"data_dir": t.TempDir(), "limits.enabled": "false"}})
	if err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		edit(&loaded.Config)
	}
	master, _ := keys.NewMaster()
	s, err := server.New(t.Context(), loaded.Config, db, master, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	n = &pipes{accept: make(chan net.Conn), closed: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, n) }()
	stopped := false
	stop = func() error {
		stopped = true
		cancel()
		return <-ended
	}
	t.Cleanup(func() {
		if !stopped {
			if err := stop(); err != nil {
				t.Error(err)
			}
		}
		// as long as TLS tries to send its close notification to a client that does not read
		time.Sleep(6 * time.Second)
	})
	return n, stop
}

// bubbled runs test as a subtest in a bubble.
func bubbled(t *testing.T, name string, test func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}

// connect opens a connection to the server.
func connect(t *testing.T, n *pipes) net.Conn {
	t.Helper()
	conn, err := n.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// readAll reads until the server closes, and returns what it said, and after how
// long it closed.
func readAll(conn net.Conn) (string, time.Duration) {
	began := time.Now()
	text, _ := io.ReadAll(conn) // that it was cut is what is looked for
	return string(text), time.Since(began)
}

// drip sends text, and then more, if there is more, every second until the server
// closes.
func drip(conn net.Conn, text, more string) {
	_, err := io.WriteString(conn, text)
	for err == nil && more != "" {
		time.Sleep(time.Second)
		_, err = io.WriteString(conn, more)
	}
}

const (
	health = "GET /healthz HTTP/1.1\r\nHost: cardea.example\r\n"
	form   = "POST /oauth2/token HTTP/1.1\r\nHost: cardea.example\r\nContent-Type: " +
		"application/x-www-form-urlencoded\r\nContent-Length: 1000\r\n\r\n"
)

func TestPatience(t *testing.T) {
	for _, c := range []struct {
		name       string
		text, more string
		answer     string
		closed     time.Duration
	}{
		{"HT-10 one who says nothing", "", "", "", 10 * time.Second},
		{"HT-10 slow headers", health, "x", "", 10 * time.Second},
		{"HT-10 a header that never ends", health + "X: ", "x", "", 10 * time.Second},
		{"HT-10 a slow body", form, "a", "HTTP/1.1 400 Bad Request", 30 * time.Second},
		{"HT-10 a body that never comes", form, "", "HTTP/1.1 400 Bad Request", 30 * time.Second},
		{"HT-10 nothing after the answer", health + "\r\n", "", "HTTP/1.1 200 OK", 60 * time.Second},
	} {
		bubbled(t, c.name, func(t *testing.T) {
			n, _ := serve(t, nil)
			conn := connect(t, n)
			var dripping sync.WaitGroup
			dripping.Go(func() { drip(conn, c.text, c.more) })
			answer, after := readAll(conn)
			dripping.Wait()
			if !strings.HasPrefix(answer, c.answer) || c.answer == "" && strings.Contains(answer, "HTTP/1.1 200") {
				t.Errorf("the answer is %q", answer)
			}
			// Go waits half a second longer, because the client may still be sending.
			if after > c.closed+time.Second {
				t.Errorf("closed after %v, want %v", after, c.closed)
			}
		})
	}
	bubbled(t, "HT-10 one who does not read", func(t *testing.T) {
		n, _ := serve(t, nil)
		conn := connect(t, n)
		if _, err := io.WriteString(conn, health+"\r\n"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(61 * time.Second)
		if _, err := io.WriteString(conn, "x"); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("after 61 seconds the server still waits: %v", err)
		}
	})
	bubbled(t, "HT-10 a thousand of them keep nobody waiting", func(t *testing.T) {
		n, _ := serve(t, nil)
		for i := range 1000 {
			conn := connect(t, n)
			if _, err := io.WriteString(conn, []string{health, form}[i%2]); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		conn := connect(t, n)
		go io.WriteString(conn, health+"Connection: close\r\n\r\n") //nolint:errcheck // the answer tells
		answer, _ := readAll(conn)
		if !strings.HasPrefix(answer, "HTTP/1.1 200 OK") || time.Since(began) >= time.Second {
			t.Errorf("after %v: %q", time.Since(began), answer)
		}
	})
}

func TestSizes(t *testing.T) {
	const end = "Connection: close\r\n\r\n"
	for _, c := range []struct {
		name, request string
		status        int
	}{
		{"HT-12 a header of 1 MB", health + "X: " + strings.Repeat("x", 1<<20) + "\r\n" + end,
			http.StatusRequestHeaderFieldsTooLarge},
		{"HT-12 a header without end", health + strings.Repeat("x", 1<<20), http.StatusRequestHeaderFieldsTooLarge},
		{"HT-12 10,000 headers", health + strings.Repeat("a: b\r\n", 10_000) + end,
			http.StatusRequestHeaderFieldsTooLarge},
		{"HT-12 10,000 long headers", health + strings.Repeat("x-name: some value\r\n", 10_000) + end,
			http.StatusRequestHeaderFieldsTooLarge},
		{"HT-12 a URL of 64 KB",
			"GET /healthz?" + strings.Repeat("x", 64<<10) + " HTTP/1.1\r\nHost: cardea.example\r\n" + end,
			http.StatusRequestURITooLong},
		{"HT-12 a URL of 1 MB",
			"GET /healthz?" + strings.Repeat("x", 1<<20) + " HTTP/1.1\r\nHost: cardea.example\r\n" + end,
			http.StatusRequestHeaderFieldsTooLarge},
		{"what a browser with many cookies sends", health + "Cookie: " + strings.Repeat("x", 16<<10) + "\r\n" + end,
			http.StatusOK},
	} {
		bubbled(t, c.name, func(t *testing.T) {
			n, _ := serve(t, nil)
			conn := connect(t, n)
			go io.WriteString(conn, c.request) //nolint:errcheck // the server may refuse to read on
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != c.status {
				t.Errorf("status %d, want %d", resp.StatusCode, c.status)
			}
			if rest, _ := readAll(conn); strings.Contains(rest, "HTTP/1.1") {
				t.Errorf("after that the server says %.200q", rest)
			}
		})
	}
}

// Whatever the request line names, the answer has an id by which the log knows it.
func TestRequestID(t *testing.T) {
	bubbled(t, "every answer", func(t *testing.T) {
		n, _ := serve(t, nil)
		for _, line := range []string{
			"OPTIONS *", "GET *", "GET /", "HEAD /login", "HEAD https://evil.example/login", "PROPFIND /login",
			"CONNECT evil.example:443", "GET //", "GET /%2F", "POST /oauth2/token",
		} {
			conn := connect(t, n)
			//nolint:errcheck // the answer tells
			go io.WriteString(conn, line+" HTTP/1.1\r\nHost: cardea.example\r\nConnection: close\r\n\r\n")
			answer, _ := readAll(conn)
			if !strings.Contains(answer, "\r\nX-Request-Id: ") ||
				strings.Contains(line, "evil") && !strings.HasPrefix(answer, "HTTP/1.1 4") {
				t.Errorf("%s is answered with\n%s", line, answer)
			}
		}
	})
}

func TestNamesOfOthers(t *testing.T) {
	bubbled(t, "HT-14 HT-22 no answer repeats who is asked", func(t *testing.T) {
		n, _ := serve(t, nil)
		for _, path := range []string{
			"/.well-known/oauth-authorization-server", "/.well-known/nothing", "/oauth2/authorize", "/oauth2/nothing",
			"/login", "/logout", "/nothing", "/assets/x", "//evil.example/login", "/login/..//evil.example",
		} {
			for _, head := range []string{
				"GET " + path + " HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: evil.example\r\nForwarded: " +
					"host=evil.example;for=evil.example\r\nX-Request-Id: evil.example\r\nOrigin: " +
					"https://evil.example\r\nReferer: https://evil.example/\r\n",
				"GET http://evil.example" + path + " HTTP/1.1\r\nHost: cardea.example\r\n",
				"GET https://cardea.example" + path + " HTTP/1.1\r\nHost: evil.example\r\n",
			} {
				conn := connect(t, n)
				//nolint:errcheck // the answer tells
				go io.WriteString(conn, head+"Accept: text/html\r\nConnection: close\r\n\r\n")
				answer, _ := readAll(conn)
				if strings.Contains(answer, "evil") || !strings.HasPrefix(answer, "HTTP/1.1 ") ||
					strings.HasPrefix(answer, "HTTP/1.1 5") {
					t.Errorf("%s is answered with\n%s", head, answer)
				}
				if strings.HasPrefix(head, "GET http") && !strings.HasPrefix(path, "/assets/") &&
					!strings.HasPrefix(answer, "HTTP/1.1 400 ") {
					t.Errorf("%s is answered with\n%s", head, answer)
				}
			}
		}
	})
}

// issue writes a new certificate for cardea.example, and its key, to folder.
func issue(t *testing.T, folder string, serial int64, at time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: []string{"cardea.example"},
		NotBefore: at.AddDate(-1, 0, 0), NotAfter: at.AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	put(t, folder, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), at)
	put(t, folder, "cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), at)
}

// put writes a file that was changed at a time of the bubble.
func put(t *testing.T, folder, name string, content []byte, at time.Time) {
	t.Helper()
	path := filepath.Join(folder, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

func TestTLS(t *testing.T) {
	start := func(t *testing.T) (n *pipes, folder string) {
		folder = t.TempDir()
		issue(t, folder, 1, time.Now())
		n, _ = serve(t, func(c *config.Config) {
			c.TLS.Cert, c.TLS.Key = filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
		})
		return n, folder
	}
	client := func(t *testing.T, n *pipes, edit func(*tls.Config)) *http.Client {
		config := &tls.Config{ServerName: "cardea.example", InsecureSkipVerify: true} // looked at by serial number
		if edit != nil {
			edit(config)
		}
		transport := &http.Transport{
			TLSClientConfig: config,
			DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return n.dial(ctx) },
		}
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport}
	}
	// ask returns the serial number of the certificate that the answer comes with.
	ask := func(t *testing.T, c *http.Client) string {
		t.Helper()
		resp, err := c.Get("https://cardea.example/healthz")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("%s, %v", resp.Status, err)
		}
		if got := resp.Header.Get("Strict-Transport-Security"); got != "max-age=31536000" {
			t.Errorf("HT-01 Strict-Transport-Security is %q", got)
		}
		return resp.TLS.PeerCertificates[0].SerialNumber.String()
	}

	for version, ok := range map[uint16]bool{
		tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true,
	} {
		bubbled(t, "HT-20 "+tls.VersionName(version), func(t *testing.T) {
			n, _ := start(t)
			c := client(t, n, func(c *tls.Config) { c.MinVersion, c.MaxVersion = version, version })
			resp, err := c.Get("https://cardea.example/healthz")
			if (err == nil) != ok {
				t.Errorf("%v", err)
			}
			if err == nil {
				resp.Body.Close()
			} else if !strings.Contains(err.Error(), "protocol version") {
				t.Errorf("refused for another reason: %v", err)
			}
		})
	}
	bubbled(t, "HT-20 a renewed certificate", func(t *testing.T) {
		n, folder := start(t)
		old := client(t, n, nil)
		if serial := ask(t, old); serial != "1" {
			t.Fatalf("certificate %s", serial)
		}
		time.Sleep(30 * time.Second) // less than a connection may be idle
		issue(t, folder, 2, time.Now())
		if serial := ask(t, client(t, n, nil)); serial != "2" {
			t.Errorf("a new connection has certificate %s", serial)
		}
		if serial := ask(t, old); serial != "1" {
			t.Errorf("the old connection was dropped: the next has certificate %s", serial)
		}
		time.Sleep(30 * time.Second) // less than a connection may be idle
		put(t, folder, "cert.pem", []byte("half a certific"), time.Now())
		if serial := ask(t, client(t, n, nil)); serial != "2" {
			t.Errorf("while the file is being written a new connection has certificate %s", serial)
		}
		time.Sleep(30 * time.Second) // less than a connection may be idle
		issue(t, folder, 3, time.Now())
		if serial := ask(t, client(t, n, nil)); serial != "3" {
			t.Errorf("when it is written a new connection has certificate %s", serial)
		}
	})
	bubbled(t, "a certificate that is not there", func(t *testing.T) {
		_, stop := serve(t, func(c *config.Config) { c.TLS.Cert, c.TLS.Key = "nowhere.pem", "nowhere.pem" })
		if err := stop(); err == nil ||
			!strings.Contains(err.Error(), "tls.cert: the file cannot be read: open nowhere.pem") {
			t.Errorf("%v", err)
		}
	})
}

func TestShutdown(t *testing.T) {
	bubbled(t, "HT-21 what has begun is answered, and nothing begins", func(t *testing.T) {
		n, stop := serve(t, nil)
		var begun []net.Conn
		for range 1000 {
			conn := connect(t, n)
			if _, err := io.WriteString(conn, form+"grant_type="); err != nil {
				t.Fatal(err)
			}
			begun = append(begun, conn)
		}
		idle := connect(t, n)
		synctest.Wait()
		ended := make(chan error, 1)
		go func() { ended <- stop() }()
		synctest.Wait()
		if _, err := n.dial(t.Context()); err == nil {
			t.Error("the server still listens")
		}
		answers := make(chan string, len(begun))
		for _, conn := range begun {
			go func() {
				//nolint:errcheck // the answer tells
				go io.WriteString(conn, strings.Repeat("x", 1000-len("grant_type=")))
				answer, _ := readAll(conn)
				answers <- answer
			}()
		}
		for range begun {
			// No such grant type: refused, whole, and by a server that says it will not listen on.
			answer := <-answers
			if !strings.HasPrefix(answer, "HTTP/1.1 401 ") || !strings.HasSuffix(answer, "}\n") ||
				!strings.Contains(answer, "Connection: close") {
				t.Fatalf("an answer is %q", answer)
			}
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if _, err := idle.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("a connection without a request: %v", err)
		}
	})
	bubbled(t, "HT-21 but not for ever", func(t *testing.T) {
		n, stop := serve(t, nil)
		conn := connect(t, n)
		var dripping sync.WaitGroup
		dripping.Go(func() { drip(conn, form, "a") })
		time.Sleep(time.Second)
		began := time.Now()
		err := stop()
		conn.Close()
		dripping.Wait()
		if waited := time.Since(began); waited > 31*time.Second {
			t.Errorf("it took %v: %v", waited, err)
		}
	})
}

// A resource that was registered beside a running server, by a command without the master key, has its key soon.
func TestKeyOfNewResource(t *testing.T) {
	bubbled(t, "without a restart", func(t *testing.T) {
		db, _ := storetest.Open(t, storetest.SQLite)
		n, _ := serveFrom(t, db, nil)
		published := func() string {
			conn := connect(t, n)
			_, err := io.WriteString(conn,
				"GET /.well-known/jwks HTTP/1.1\r\nHost: cardea.example\r\nConnection: close\r\n\r\n")
			if err != nil {
				t.Fatal(err)
			}
			answer, _ := readAll(conn)
			return answer
		}
		synctest.Wait() // the janitor's first round is over
		if err := db.Update(t.Context(), func(tx *store.Tx) error {
			return tx.CreateResource(&oauth.Resource{ID: "res_1", Identifier: "https://mcp.example.com/mcp",
				SigningAlg: "EdDSA", CreatedAt: tx.Now(), UpdatedAt: tx.Now()})
		}); err != nil {
			t.Fatal(err)
		}
		if before := published(); !strings.Contains(before, `"P-256"`) || strings.Contains(before, "Ed25519") {
			t.Fatalf("the keys before are %s", before)
		}
		time.Sleep(61 * time.Second)
		if after := published(); !strings.Contains(after, "Ed25519") {
			t.Errorf("the keys after a minute are %s", after)
		}
	})
}
