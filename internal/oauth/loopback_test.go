package oauth_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// What is sent in plain text to a loopback host goes to this machine: past every proxy, and without a name lookup.
func TestLoopbackStaysHere(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(r.Host))
	}))
	defer server.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")
	transport := &http.Transport{Proxy: oauth.Proxy, DialContext: oauth.Dial(time.Minute)}
	defer transport.CloseIdleConnections()
	for _, host := range []string{"127.0.0.1", "auth.localhost", "Auth.LOCALHOST"} {
		resp, err := (&http.Client{Transport: transport}).Get("http://" + host + ":" + port) //nolint:noctx
		if err != nil {
			t.Errorf("%s: %v", host, err)
			continue
		}
		resp.Body.Close()
		request := &http.Request{URL: &url.URL{Scheme: "http", Host: host}}
		if proxy, err := oauth.Proxy(request); proxy != nil || err != nil {
			t.Errorf("%s: through %v, %v", host, proxy, err)
		}
	}
}
