package adminapi_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/adminapi"
)

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
		"a page of another program": {false, answer(200, "Content-Type: text/html", "<html>"),
			"is not that of this version's Admin API"},
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
