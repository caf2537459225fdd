package web_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/web"
)

func TestMethods(t *testing.T) {
	h := web.Methods{http.MethodGet: jsonOf("got", nil), http.MethodPost: jsonOf("posted", nil)}
	for _, method := range []string{"HEAD", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "get"} {
		t.Run("AZ-54 "+method, func(t *testing.T) {
			w, _ := send(h, httptest.NewRequest(method, "/", nil))
			if w.Code != http.StatusMethodNotAllowed || !strings.Contains(w.Body.String(), `"invalid_request"`) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			wantHeader(t, w, map[string]string{"Allow": "GET, POST", "Access-Control-Allow-Origin": ""})
		})
	}
	t.Run("one that is there", func(t *testing.T) {
		if w, _ := send(h, httptest.NewRequest(http.MethodPost, "/", nil)); w.Body.String() != "\"posted\"\n" {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}

func TestNotFound(t *testing.T) {
	for name, h := range map[string]http.Handler{"JSON": web.NotFound(), "pages": pages.NotFound()} {
		t.Run(name+", for a program", func(t *testing.T) {
			w, _ := get(h, "/.well-known/nothing")
			if w.Code != http.StatusNotFound || !strings.HasPrefix(w.Body.String(), `{"error":"not_found"`) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
	t.Run("pages, for a person", func(t *testing.T) {
		r := httptest.NewRequest(http.MethodGet, "/nothing", nil)
		r.Header.Set("Accept", "text/html,application/xhtml+xml")
		w, _ := send(pages.NotFound(), r)
		if w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "<h1>Nothing here</h1>") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}

func TestCORS(t *testing.T) {
	refused := web.CORS(web.Methods{http.MethodPost: jsonOf(nil, oauth.RefuseClient(true, "wrong"))})
	request := func(method, origin string) *http.Request {
		r := httptest.NewRequest(method, "/", nil)
		r.Header.Set("Origin", origin)
		return r
	}
	for _, origin := range []string{"https://inspector.test", "null", "https://ok.evil", ""} {
		t.Run("HT-04 HT-05 an error, from "+origin, func(t *testing.T) {
			w, _ := send(refused, request(http.MethodPost, origin))
			if w.Code != http.StatusUnauthorized {
				t.Errorf("%d", w.Code)
			}
			wantHeader(t, w, map[string]string{
				"Access-Control-Allow-Origin":      "*",
				"Access-Control-Allow-Credentials": "",
				"Access-Control-Expose-Headers":    "WWW-Authenticate, Retry-After, X-Request-Id",
			})
		})
	}
	t.Run("HT-04 a wrong method", func(t *testing.T) {
		w, _ := send(refused, request(http.MethodGet, "https://inspector.test"))
		if w.Code != http.StatusMethodNotAllowed {
			t.Errorf("%d", w.Code)
		}
		wantHeader(t, w, map[string]string{"Access-Control-Allow-Origin": "*"})
	})
	t.Run("HT-04 a preflight", func(t *testing.T) {
		r := request(http.MethodOptions, "https://inspector.test")
		r.Header.Set("Access-Control-Request-Method", "POST")
		r.Header.Set("Access-Control-Request-Headers", "authorization, mcp-protocol-version,mcp-param-x")
		w, _ := send(refused, r)
		if w.Code != http.StatusNoContent || w.Body.Len() != 0 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		wantHeader(t, w, map[string]string{
			"Access-Control-Allow-Origin":      "*",
			"Access-Control-Allow-Methods":     "POST",
			"Access-Control-Allow-Headers":     "authorization, mcp-protocol-version,mcp-param-x",
			"Access-Control-Allow-Credentials": "",
			"Vary":                             "Access-Control-Request-Headers", // HT-06
		})
	})
	for name, headers := range map[string]string{
		"markup":   "<script>",
		"control":  "a\tb",
		"too long": strings.Repeat("x", 5000),
		"none":     "",
	} {
		t.Run("HT-22 a preflight reflects header names alone: "+name, func(t *testing.T) {
			r := request(http.MethodOptions, "https://inspector.test")
			r.Header["Access-Control-Request-Headers"] = []string{headers}
			w, _ := send(refused, r)
			if w.Code != http.StatusNoContent {
				t.Errorf("%d", w.Code)
			}
			wantHeader(t, w, map[string]string{"Access-Control-Allow-Headers": ""})
		})
	}
	t.Run("HT-04 what is not wrapped has none", func(t *testing.T) {
		w, _ := send(pageOf(web.SignedOut{}, nil), request(http.MethodGet, "https://inspector.test"))
		for name := range w.Header() {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s is there", name)
			}
		}
	})
}
