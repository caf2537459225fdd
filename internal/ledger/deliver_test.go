package ledger_test

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/ledger"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// An endpoint takes webhooks and checks them as the receiver of Standard Webhooks does.
type endpoint struct {
	*httptest.Server
	secret []byte

	mu      sync.Mutex
	status  int // of an answer that says no
	fail    int // answers with it that are still to be given
	tries   int
	ids     []string
	numbers []int64
	bodies  []string
}

const hookSecret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

func newEndpoint(t *testing.T) *endpoint {
	t.Helper()
	secret, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(hookSecret, "whsec_"))
	if err != nil {
		t.Fatal(err)
	}
	e := &endpoint{secret: secret, status: http.StatusServiceUnavailable}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		id, at := r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp")
		mac := hmac.New(sha256.New, e.secret)
		mac.Write([]byte(id + "." + at + "." + string(body)))
		want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
		if signatures := strings.Fields(r.Header.Get("webhook-signature")); len(signatures) != 1 ||
			signatures[0] != want || strings.Contains(id, ".") {
			t.Errorf("the signature of %s is %q, want %q", id, signatures, want)
		}
		if seconds, err := strconv.ParseInt(at, 10, 64); err != nil || time.Since(time.Unix(seconds, 0)).Abs() > time.Hour {
			t.Errorf("the timestamp is %q", at)
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		e.tries++
		e.ids = append(e.ids, id)
		if e.fail > 0 {
			e.fail--
			w.WriteHeader(e.status)
			return
		}
		var message struct {
			Type string
			Data struct {
				Events     []ledger.Numbered
				Checkpoint string
			}
		}
		if err := json.Unmarshal(body, &message); err != nil || message.Type != "audit.events" {
			t.Errorf("%s: %v", body, err)
		}
		for _, event := range message.Data.Events {
			e.numbers = append(e.numbers, event.Number)
		}
		e.bodies = append(e.bodies, string(body))
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) hook(t *testing.T, actions ...string) ledger.Receiver {
	t.Helper()
	r, err := ledger.Webhook{Name: "siem", URL: e.URL, Secret: hookSecret, Actions: actions}.Receiver()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// got fails the test unless the endpoint has taken the events with these numbers, in their order.
func (e *endpoint) got(t *testing.T, first, end int64) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if int64(len(e.numbers)) != end-first {
		t.Fatalf("%d events arrived, want %d: %v", len(e.numbers), end-first, e.numbers)
	}
	for i, n := range e.numbers {
		if n != first+int64(i) {
			t.Fatalf("events arrived in the order %v", e.numbers)
		}
	}
}

func (w *world) courier() *ledger.Courier {
	return &ledger.Courier{DB: w.db, Log: slog.New(slog.NewTextHandler(w.t.Output(), nil))}
}

func TestWebhook(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		e := newEndpoint(t)
		courier, hook := w.courier(), e.hook(t)
		deliver := func() error { return courier.Deliver(t.Context(), hook) }
		w.record(3)
		w.seal()
		if err := deliver(); err != nil { // what was sealed before it was configured is not sent
			t.Fatal(err)
		}
		e.got(t, 3, 3)
		w.record(2)
		w.seal()
		w.record(700)
		w.seal()
		if err := deliver(); err != nil {
			t.Fatal(err)
		}
		e.got(t, 3, 705)
		if key := w.intact(705, "").Checkpoint; !strings.Contains(e.bodies[len(e.bodies)-1], key[len(key)-20:len(key)-1]) {
			t.Error("the last message does not have the newest checkpoint")
		}

		// A failure is tried again, with the same id, when its time has come.
		e.fail = 2
		w.record(1)
		w.seal()
		tries := e.tries
		for i := range 2 {
			if err := deliver(); err == nil || !strings.Contains(err.Error(), "503") {
				t.Errorf("failure %d: %v", i, err)
			}
			if err := deliver(); err != nil || e.tries != tries+i+1 {
				t.Errorf("it was tried again at once: %v", err)
			}
			w.clock.Advance(time.Duration(i+1) * time.Second)
		}
		if err := deliver(); err != nil {
			t.Fatal(err)
		}
		e.got(t, 3, 706)
		last := e.ids[len(e.ids)-3:]
		if last[0] != last[1] || last[1] != last[2] {
			t.Errorf("the ids are %v", last)
		}

		// Events are sent again on demand.
		e.numbers = nil
		if err := w.db.Update(t.Context(), func(tx *store.Tx) error { return tx.Redeliver("siem", 0) }); err != nil {
			t.Fatal(err)
		}
		if err := deliver(); err != nil {
			t.Fatal(err)
		}
		e.got(t, 0, 706)
	})
}

// After a restore the events with the same numbers are others, and so are the ids of their messages.
func TestMessagesAfterRestore(t *testing.T) {
	w := newWorld(t, storetest.SQLite)
	e := newEndpoint(t)
	courier, hook := w.courier(), e.hook(t)
	send := func() {
		t.Helper()
		if err := courier.Deliver(t.Context(), hook); err != nil {
			t.Fatal(err)
		}
	}
	send()
	for range 3 {
		w.record(20)
		w.seal()
	}
	send()
	w.restore(true)
	w.exec("UPDATE deliveries SET sent = 40")
	w.sealer = w.newSealer(w.db)
	w.record(20)
	w.seal()
	send()
	if n := len(e.ids); n != 4 || e.ids[2] == e.ids[3] {
		t.Errorf("the ids are %v", e.ids)
	}
}

// FL-17: of several nodes one sends at a time, and each event is sent once.
func TestSeveralCouriers(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		e := newEndpoint(t)
		if err := w.courier().Deliver(t.Context(), e.hook(t)); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			w.record(3)
			w.seal()
		}
		var nodes sync.WaitGroup
		for range 3 {
			courier := &ledger.Courier{DB: storetest.Connect(t, w.dsn, w.clock)}
			nodes.Go(func() {
				if err := courier.Deliver(t.Context(), e.hook(t)); err != nil {
					t.Error(err)
				}
			})
		}
		nodes.Wait()
		e.got(t, 0, 60)
	})
}

func TestWebhookActions(t *testing.T) {
	w := newWorld(t, storetest.SQLite)
	e := newEndpoint(t)
	courier, hook := w.courier(), e.hook(t, "login.", "token.reuse")
	if err := courier.Deliver(t.Context(), hook); err != nil {
		t.Fatal(err)
	}
	w.record(2)
	for _, event := range []audit.Event{audit.SignIn("usr_1").Allow(), audit.SignOut("usr_1").Allow(),
		audit.TokenRequest("mcp_1", "x").Allow()} {
		if err := w.db.Append(t.Context(), event); err != nil {
			t.Fatal(err)
		}
	}
	w.seal()
	w.record(3)
	w.seal()
	if err := courier.Deliver(t.Context(), hook); err != nil {
		t.Fatal(err)
	}
	e.got(t, 2, 4)
	if e.tries != 1 {
		t.Errorf("it was called %d times", e.tries)
	}
}

func TestWebhookConfiguration(t *testing.T) {
	good := ledger.Webhook{Name: "siem", URL: "https://siem.example/hook", Secret: hookSecret}
	for want, edit := range map[string]func(*ledger.Webhook){
		"":         func(*ledger.Webhook) {},
		"name: ":   func(w *ledger.Webhook) { w.Name = "" },
		"url: ":    func(w *ledger.Webhook) { w.URL = "http://siem.example/hook" },
		"url: it":  func(w *ledger.Webhook) { w.URL = "siem" },
		"secret: ": func(w *ledger.Webhook) { w.Secret = "whsec_c2hvcnQ=" },
		"secret":   func(w *ledger.Webhook) { w.Secret = "" },
		"format: ": func(w *ledger.Webhook) { w.Format = "xml" },
	} {
		w := good
		edit(&w)
		_, err := w.Receiver()
		if (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
		if err != nil && w.Secret != "" && strings.Contains(err.Error(), w.Secret) {
			t.Errorf("the error has the secret: %v", err)
		}
	}
}

// A redirect is not followed, because it would send events elsewhere.
func TestWebhookRedirect(t *testing.T) {
	elsewhere := newEndpoint(t)
	from := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer from.Close()
	r, err := ledger.Webhook{Name: "siem", URL: from.URL + "/?key=canary", Secret: hookSecret}.Receiver()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Send(t.Context(), ledger.Message{}); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("error %v", err)
	}
	from.Close()
	if err := r.Send(t.Context(), ledger.Message{}); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("error %v", err)
	}
	if elsewhere.tries > 0 {
		t.Error("it was followed")
	}
}

// An answer costs no more than its bound.
func TestWebhookAnswer(t *testing.T) {
	for name, answer := range map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"a long body": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 8<<20)) }, ""},
		"a long header": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("x", 200<<10))
		}, "exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			receiver := httptest.NewServer(answer.handler)
			defer receiver.Close()
			r, err := ledger.Webhook{Name: "siem", URL: receiver.URL, Secret: hookSecret}.Receiver()
			if err != nil {
				t.Fatal(err)
			}
			err = r.Send(t.Context(), ledger.Message{})
			if (err == nil) != (answer.want == "") || err != nil && !strings.Contains(err.Error(), answer.want) {
				t.Errorf("error %v, want %q", err, answer.want)
			}
		})
	}
}

// AD-09: what strangers chose is one line of a syslog message, with nothing in it that a terminal would obey.
func TestSyslog(t *testing.T) {
	evil := "\x1b[31m\r\n<1>1 - -\u202e\u0085é"
	message := ledger.Message{Events: []ledger.Numbered{
		{Number: 7, Event: audit.Event{ID: "evt_1", At: storetest.Start, Action: "login.sign_in", Outcome: audit.Refused,
			ClientID: evil}},
		{Number: 8, Event: audit.Event{ID: "evt_2", At: storetest.Start, Action: "a b" + evil, Outcome: audit.Allowed}},
	}}
	check := func(i int, line string) {
		t.Helper()
		priority := [...]string{"<108>1 ", "<110>1 "}[i]
		parts := strings.SplitN(line, " ", 8)
		if !strings.HasPrefix(line, priority+"2030-01-02T03:04:05.000000Z ") || len(parts) != 8 || parts[3] != "cardea" ||
			parts[6] != "-" {
			t.Fatalf("message %d: %q", i, line)
		}
		var event ledger.Numbered
		if err := json.Unmarshal([]byte(parts[7]), &event); err != nil || event.Number != int64(7+i) {
			t.Errorf("message %d: %q: %v", i, parts[7], err)
		}
		if strings.ContainsAny(line, "\x1b\r\n\u202e\u0085") {
			t.Errorf("message %d: %q", i, line)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	t.Run("tcp", func(t *testing.T) {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = listener.Close() }()
		sent := make(chan error, 1)
		go func() {
			r, err := ledger.Syslog("tcp://" + listener.Addr().String())
			if err == nil {
				err = r.Send(ctx, message)
			}
			sent <- err
		}()
		connection, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReader(connection)
		for i := range 2 {
			length, err := in.ReadString(' ')
			if err != nil {
				t.Fatal(err)
			}
			n, err := strconv.Atoi(strings.TrimSpace(length))
			if err != nil {
				t.Fatal(err)
			}
			line := make([]byte, n)
			if _, err := io.ReadFull(in, line); err != nil {
				t.Fatal(err)
			}
			check(i, string(line))
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
	})
	t.Run("udp", func(t *testing.T) {
		listener, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = listener.Close() }()
		r, err := ledger.Syslog("udp://" + listener.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Send(ctx, message); err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			line := make([]byte, 64<<10)
			n, _, err := listener.ReadFrom(line)
			if err != nil {
				t.Fatal(err)
			}
			check(i, string(line[:n]))
		}
	})
	for _, address := range []string{"", "127.0.0.1:514", "udp://127.0.0.1", "http://x:1", "tcp://u:p@x:1", "unix:"} {
		if _, err := ledger.Syslog(address); err == nil {
			t.Errorf("%q is accepted", address)
		}
	}
}
