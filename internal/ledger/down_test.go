package ledger_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/ledger"
	"github.com/cardea-auth/cardea/internal/porttest"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// FL-26: a receiver that says for a day that it is gone is asked every five minutes at most, and then gets all events
// in their order. What is recorded meanwhile waits in the database.
func TestDownForADay(t *testing.T) {
	w := newWorld(t, storetest.SQLite)
	e := newEndpoint(t)
	courier, hook := w.courier(), e.hook(t)
	if err := courier.Deliver(t.Context(), hook); err != nil {
		t.Fatal(err)
	}
	e.status, e.fail = http.StatusGone, 1<<30
	for minute := range 24 * 60 {
		if minute%60 == 0 {
			w.record(2)
			w.seal()
		}
		if err := courier.Deliver(t.Context(), hook); err != nil && err.Error() != "it answered 410" {
			t.Fatal(err)
		}
		w.clock.Advance(time.Minute)
	}
	if e.tries < 280 || e.tries > 310 || len(e.numbers) > 0 {
		t.Errorf("it was asked %d times and took %d events", e.tries, len(e.numbers))
	}
	e.fail = 0
	w.clock.Advance(5 * time.Minute)
	if err := courier.Deliver(t.Context(), hook); err != nil {
		t.Fatal(err)
	}
	e.got(t, 0, 48)
}

// A receiver that does not answer holds up no other, and the end of the courier does not wait for it.
func TestSlowReceiver(t *testing.T) {
	w := newWorld(t, storetest.SQLite)
	asked, got := make(chan struct{}, 1), make(chan ledger.Message, 1)
	courier := w.courier()
	courier.Receivers = []ledger.Receiver{
		{Name: "slow", Send: func(ctx context.Context, _ ledger.Message) error {
			asked <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		}},
		{Name: "good", Send: func(_ context.Context, m ledger.Message) error { got <- m; return nil }},
	}
	for _, r := range courier.Receivers { // they are known from now on
		if err := courier.Deliver(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	w.record(1)
	w.seal()
	bound, end := context.WithTimeout(t.Context(), 30*time.Second)
	defer end()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { courier.Run(ctx); close(ended) }()
	<-asked
	select {
	case m := <-got:
		if len(m.Events) != 1 {
			t.Errorf("got %d events", len(m.Events))
		}
	case <-bound.Done():
		t.Error("the good receiver waits for the slow one")
	}
	cancel()
	<-ended
}

// While one secret replaces another, a message is signed with both, so a receiver takes it with either.
func TestWebhookSecretRotation(t *testing.T) {
	old, next := []byte("0123456789abcdef0123456789abcdef"), []byte("fedcba9876543210fedcba9876543210")
	verified := 0
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		for _, secret := range [][]byte{old, next} {
			mac := hmac.New(sha256.New, secret)
			mac.Write([]byte(r.Header.Get("webhook-id") + "." + r.Header.Get("webhook-timestamp") + "." + string(body)))
			want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
			for _, signature := range strings.Split(r.Header.Get("webhook-signature"), " ") {
				if signature == want {
					verified++
				}
			}
		}
	}))
	defer receiver.Close()
	secret := func(b []byte) string { return "whsec_" + base64.StdEncoding.EncodeToString(b) }
	hook, err := ledger.Webhook{Name: "siem", URL: receiver.URL, Secret: secret(next) + " " + secret(old)}.Receiver()
	if err == nil {
		err = hook.Send(t.Context(), ledger.Message{ID: "msg_1"})
	}
	if err != nil || verified != 2 {
		t.Errorf("it was verified with %d secrets: %v", verified, err)
	}
}

// A log server that is down gets the events when it is back, over TCP.
func TestSyslogDown(t *testing.T) {
	w := newWorld(t, storetest.SQLite)
	address := porttest.Address(t)
	listener := listen(t, address)
	r, err := ledger.Syslog("tcp://" + address)
	if err != nil {
		t.Fatal(err)
	}
	courier := w.courier()
	if err := courier.Deliver(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	w.record(3)
	w.seal()
	if err := courier.Deliver(t.Context(), r); err == nil {
		t.Fatal("events were sent to nobody")
	}
	w.clock.Advance(time.Second)
	lines := received(t, listen(t, address))
	if err := courier.Deliver(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if got := <-lines; strings.Count(got, `"number":`) != 3 {
		t.Errorf("got %s", got)
	}
}

// Over TLS, events go to a server whose certificate this computer trusts for the name in the address, and to no other.
func TestSyslogTLS(t *testing.T) {
	lender := httptest.NewTLSServer(http.NotFoundHandler()) // of a certificate
	defer lender.Close()
	file := filepath.Join(t.TempDir(), "roots.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: lender.Certificate().Raw})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", file) // read once in a process; no other test of the package verifies a certificate
	inner := listen(t, "127.0.0.1:0")
	lines := received(t, tls.NewListener(inner, &tls.Config{Certificates: lender.TLS.Certificates,
		MinVersion: tls.VersionTLS12}))
	message := ledger.Message{Events: []ledger.Numbered{{Number: 7, Event: audit.Event{Action: "a.b"}}}}
	_, port, err := net.SplitHostPort(inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]string{"127.0.0.1": "", "localhost": "not localhost"} {
		r, err := ledger.Syslog("tls://" + net.JoinHostPort(host, port))
		if err != nil {
			t.Fatal(err)
		}
		err = r.Send(t.Context(), message)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", host, err)
		}
		if got := <-lines; strings.Contains(got, `"number":7`) != (want == "") {
			t.Errorf("%s got %q", host, got)
		}
	}
}

// An event that no datagram holds is sent without what it changed, because it would hold up all after it.
func TestSyslogLongEvent(t *testing.T) {
	listener, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	r, err := ledger.Syslog("udp://" + listener.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	long := json.RawMessage(`{"x":"` + strings.Repeat("x", 70_000) + `"}`)
	if err := r.Send(t.Context(), ledger.Message{Events: []ledger.Numbered{
		{Number: 7, Event: audit.Event{Action: "a.b", After: long}}, {Number: 8, Event: audit.Event{Action: "a.b"}},
	}}); err != nil {
		t.Fatal(err)
	}
	for number := 7; number <= 8; number++ {
		line := make([]byte, 64<<10)
		n, _, err := listener.ReadFrom(line)
		if err != nil || !strings.Contains(string(line[:n]), fmt.Sprint(`"number":`, number)) {
			t.Errorf("got %s: %v", line[:n], err)
		}
	}
}

func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

// received returns what each connection to a listener has sent when it ends.
func received(t *testing.T, listener net.Listener) <-chan string {
	t.Helper()
	all := make(chan string, 4)
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			text, _ := io.ReadAll(connection) // an error is an end too
			_ = connection.Close()
			all <- string(text)
		}
	}()
	return all
}
