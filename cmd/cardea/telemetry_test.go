//go:build unix

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// A collector gets the spans and the log of a flow, from the page to the tokens, and no secret of it. Spans name
// neither the client nor the person either. The log on standard error has the traces.
func TestTelemetry(t *testing.T) {
	var mu sync.Mutex
	sent := map[string][][]byte{}
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		sent[r.URL.Path] = append(sent[r.URL.Path], body)
	}))
	defer collector.Close()
	w := newProcess(t)
	server := exec.CommandContext(t.Context(), "cardea", "serve", "--data-dir", w.folder, "--issuer", w.issuer,
		"--listen", w.listen)
	server.Env = append(os.Environ(), "CARDEA_LIMITS_ENABLED=false", "OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL,
		"OTEL_SERVICE_NAME=auth")
	log, err := server.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	var here bytes.Buffer
	lines := bufio.NewScanner(io.TeeReader(log, &here))
	for lines.Scan() && !strings.Contains(lines.Text(), `"msg":"serving"`) {
	}

	code := w.codes(t, 1)[0]
	var tokens struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}
	resp, err := http.PostForm(w.issuer+"/oauth2/token?query="+code, url.Values{ //nolint:noctx
		"grant_type": {"authorization_code"}, "client_id": {w.client}, "code": {code}, "code_verifier": {verifier}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&tokens); err != nil || tokens.Refresh == "" {
		t.Fatalf("tokens: %d, %v", resp.StatusCode, err)
	}
	next, _ := w.refresh(t, tokens.Refresh)
	w.token(t, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"cardea_rt_forged"}})
	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
	}
	if err := server.Wait(); err != nil { // it sends what waits
		t.Errorf("cardea serve: %v", err)
	}

	mu.Lock()
	defer mu.Unlock()
	traces, logs := bytes.Join(sent["/v1/traces"], nil), bytes.Join(sent["/v1/logs"], nil)
	secrets := map[string]string{"the code": code, "the access token": tokens.Access,
		"the refresh token":      tokens.Refresh,
		"the next refresh token": next, "the verifier": verifier, "the password": "correct horse battery"}
	private := map[string]string{"the client": w.client, "the address": "ada@example.com", "the person": "usr_",
		"the network address": "127.0.0.1", "a query": "query="}
	for what, secret := range secrets {
		if bytes.Contains(traces, []byte(secret)) || bytes.Contains(logs, []byte(secret)) ||
			strings.Contains(here.String(), secret) {
			t.Errorf("%s is in what was sent, or in the log", what)
		}
	}
	for what, name := range private {
		if bytes.Contains(traces, []byte(name)) {
			t.Errorf("%s is in a span", what)
		}
	}
	var names, keys []string
	parents := map[string]string{} // names, by span
	var spans []*tracepb.Span
	for _, body := range sent["/v1/traces"] {
		var data tracepb.TracesData // which a request to export has the bytes of
		if err := proto.Unmarshal(body, &data); err != nil {
			t.Fatal(err)
		}
		for _, resource := range data.GetResourceSpans() {
			for _, scope := range resource.GetScopeSpans() {
				spans = append(spans, scope.GetSpans()...)
			}
		}
	}
	for _, span := range spans {
		parents[string(span.GetSpanId())] = span.GetName()
	}
	for _, span := range spans {
		names = append(names, parents[string(span.GetParentSpanId())]+" > "+span.GetName())
		for _, a := range span.GetAttributes() {
			if !slices.Contains(keys, a.GetKey()) {
				keys = append(keys, a.GetKey())
			}
		}
	}
	for _, want := range []string{" > GET /oauth2/authorize", " > POST /oauth2/token",
		"POST /oauth2/token > store.update",
		"POST /login > password.wait", "POST /login > password.hash", " > POST /consent"} {
		if !slices.Contains(names, want) {
			t.Errorf("there is no span %s in %q", want, names)
		}
	}
	slices.Sort(keys)
	if want := []string{"cardea.request_id", "db.system.name", "http.request.method", "http.response.status_code",
		"http.route", "oauth.grant_type"}; !slices.Equal(keys, want) {
		t.Errorf("attributes %q, want %q", keys, want)
	}
	said := 0
	for _, body := range sent["/v1/logs"] {
		var data logspb.LogsData
		if err := proto.Unmarshal(body, &data); err != nil {
			t.Fatal(err)
		}
		for _, resource := range data.GetResourceLogs() {
			for _, scope := range resource.GetScopeLogs() {
				for _, record := range scope.GetLogRecords() {
					if record.GetBody().GetStringValue() == "request" && len(record.GetTraceId()) == 16 {
						said++
					}
				}
			}
		}
	}
	if said < 5 || strings.Count(here.String(), `"trace_id":"`) < 5 {
		t.Errorf("%d records of requests with a trace were sent; the log here:\n%s", said, here.String())
	}
}
