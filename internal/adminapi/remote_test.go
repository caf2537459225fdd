package adminapi_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/adminapi"
)

// A certificate that was good once is named as that.
func TestRemoteExpired(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Unix(1e9, 0),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	server.StartTLS()
	defer server.Close()
	_, err = adminapi.ListResources.Call(t.Context(),
		adminapi.Target{Remote: &adminapi.Remote{Issuer: server.URL, Token: "token"}}, adminapi.Search{})
	if err == nil || !strings.Contains(err.Error(), "renew the certificate there") {
		t.Errorf("the error is %v", err)
	}
}

// What answers in place of a server of this version is named as what it is.
func TestRemoteAnswers(t *testing.T) {
	answer := func(status int, header, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			name, value, _ := strings.Cut(header, ": ")
			w.Header().Set(name, value)
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	const problem = "Content-Type: application/problem+json"
	for name, test := range map[string]struct {
		secure  bool
		handler http.HandlerFunc
		want    string
	}{
		"another path in front": {false,
			answer(301, "Location: https://auth.example.com/admin/api/v1/resources", ""),
			"redirects to https://auth.example.com, and no secret is sent there; if that is the server, " +
				"write it as --server"},
		"an operation it does not have": {false,
			answer(404, problem, `{"status":404,"detail":"there is nothing at this address","error":"not_found"}`),
			"is not that of this version's Admin API; use the same version of cardea on both machines, which cardea " +
				"version shows"},
		"a method it does not have": {false,
			answer(405, problem, `{"status":405,"detail":"this address supports only POST","error":"invalid_request"}`),
			"is not that of this version's Admin API"},
		"a page of another program": {false, answer(200, "Content-Type: text/html; charset=utf-8", "<html>"),
			"answers with a page (status 200), which the Admin API does not; check --server"},
		"a proxy that asks people to sign in": {false, answer(302, "Location: /login?next=x", ""),
			"redirects to its page /login?next=x (status 302), which the Admin API does not; check --server, and if " +
				"a proxy there asks people to sign in, let programs through to /oauth2/ and /admin/api/"},
		"a proxy with nothing behind": {false, answer(502, "Content-Type: text/html", "<html>"),
			"so a proxy there does not reach the server; look whether cardea serve runs behind it"},
		"a fault of the server": {false, answer(503, "X-Request-Id: r1", ""),
			"its log has the reason, with request_id r1"},
		"a certificate of nobody": {true, answer(200, problem, "{}"),
			"write --server with a name that its certificate is for, and if an authority of your own signed that, " +
				"set SSL_CERT_FILE to the file with the authority's certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			start := httptest.NewServer
			if test.secure {
				start = httptest.NewTLSServer
			}
			server := start(test.handler)
			defer server.Close()
			_, err := adminapi.ListResources.Call(t.Context(),
				adminapi.Target{Remote: &adminapi.Remote{Issuer: server.URL, Token: "token"}}, adminapi.Search{})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, want %q", err, test.want)
			}
		})
	}
}

// A server that is not available for a moment is asked again when it says, but for nothing that it may have changed.
func TestRemotePause(t *testing.T) {
	asked := map[string]int{} // requests of a method and path
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at := r.Method + " " + r.URL.Path
		asked[at]++
		w.Header().Set("Content-Type", "application/json")
		if asked[at] == 1 {
			pause := "0"
			if at == "GET /admin/api/v1/groups" {
				pause = "60"
			}
			w.Header().Set("Retry-After", pause)
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if r.FormValue("grant_type") == "client_credentials" {
			_, _ = w.Write([]byte(`{"access_token":"token","expires_in":300,"scope":"cardea:*"}`))
			return
		}
		_, _ = w.Write([]byte(`{"items":[]}`))
	}))
	defer server.Close()
	remote := adminapi.Target{Remote: &adminapi.Remote{Issuer: server.URL, ClientID: "c", ClientSecret: "s"}}
	if _, err := adminapi.ListResources.Call(t.Context(), remote, adminapi.Search{}); err != nil {
		t.Error(err)
	}
	if _, err := adminapi.ListGroups.Call(t.Context(), remote, adminapi.Search{}); err == nil {
		t.Error("a server that is away for a minute was waited for")
	}
	if _, err := adminapi.CreateGroup.Call(t.Context(), remote, adminapi.Creation[adminapi.NewGroup]{
		Body: adminapi.NewGroup{Name: "g"}}); err == nil {
		t.Error("a change was sent again")
	}
	for at, n := range map[string]int{
		"POST /oauth2/token":          1 + 3, // the operations need different scopes
		"GET /admin/api/v1/resources": 2, "GET /admin/api/v1/groups": 1, "POST /admin/api/v1/groups": 1} {
		if asked[at] != n {
			t.Errorf("%s was asked %d times, want %d", at, asked[at], n)
		}
	}
}
