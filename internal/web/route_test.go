package web_test

import (
	"bufio"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/web"
)

func TestMethods(t *testing.T) {
	h := web.NewRouter(pages, web.Route{Path: "/",
		Methods: web.Methods{http.MethodGet: jsonOf("got", nil), http.MethodPost: jsonOf("posted", nil)}})
	for _, method := range []string{"PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "get"} {
		t.Run("AZ-54 "+method, func(t *testing.T) {
			w, _ := send(h, httptest.NewRequest(method, "/", nil))
			if w.Code != http.StatusMethodNotAllowed || !strings.Contains(w.Body.String(), `"invalid_request"`) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			wantHeader(t, w, map[string]string{"Allow": "GET, HEAD, POST", "Access-Control-Allow-Origin": ""})
		})
	}
	// net/http removes the body of HEAD
	for method, answer := range map[string]string{"GET": "got", "HEAD": "got", "POST": "posted"} {
		t.Run(method, func(t *testing.T) {
			w, _ := send(h, httptest.NewRequest(method, "/", nil))
			if w.Code != http.StatusOK || w.Body.String() != `"`+answer+"\"\n" {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
	t.Run("HEAD without GET", func(t *testing.T) {
		post := web.NewRouter(pages, web.Route{Path: "/", Methods: web.Methods{http.MethodPost: jsonOf("posted", nil)}})
		w, _ := send(post, httptest.NewRequest(http.MethodHead, "/", nil))
		if w.Code != http.StatusMethodNotAllowed || w.Result().Header.Get("Allow") != "POST" {
			t.Errorf("%d, Allow %q", w.Code, w.Result().Header.Get("Allow"))
		}
	})
}

// echo returns a handler that responds with the path that it sees and the path value id.
func echo(name string) http.Handler {
	return web.JSON(func(r *http.Request) (string, error) {
		return name + " " + r.URL.Path + " " + r.PathValue("id"), nil
	})
}

func TestRouter(t *testing.T) {
	routes := []web.Route{
		{Path: "/oauth2/token", Also: []string{"/token"}, Methods: web.Methods{"POST": echo("token")}},
		{Path: "/things/{id}", Methods: web.Methods{"GET": echo("thing")}},
		{Path: "/things/all", Methods: web.Methods{"GET": echo("all")}},
		{Path: "/clients/{id}", Methods: web.Methods{"GET": echo("client")}, Escapes: true},
		{Path: "/things/{id}/undo", Methods: web.Methods{"POST": echo("undo")}},
		{Path: "/.well-known/about", Place: web.WellKnown, Methods: web.Methods{"GET": echo("about")},
			Cache: "public, max-age=300"},
		{Path: "/healthz", Place: web.AtRoot, Methods: web.Methods{"GET": echo("health")}},
		{Path: "/", Methods: web.Methods{"GET": echo("home")}},
	}
	at := *pages
	at.Base = "/auth"
	root, below := web.NewRouter(pages, routes...), web.NewRouter(&at, routes...)
	for _, test := range []struct {
		router *web.Router
		target string // of the request line
		want   string // "": not found
	}{
		{root, "POST /oauth2/token", "token /oauth2/token "},
		{root, "POST /token?a=b//c/", "token /token "},
		{root, "POST /oauth2/token/", "token /oauth2/token "},
		{root, "POST //oauth2///token//", "token /oauth2/token "},
		{root, "GET /.well-known//about/", "about /.well-known/about "},
		{root, "GET /", "home / "},
		{root, "GET //", "home / "},
		{root, "GET /things/1", "thing /things/1 1"},
		{root, "GET /things//1/", "thing /things/1 1"},
		{root, "GET /things/all", "all /things/all "},
		{root, "POST /things/1/undo", "undo /things/1/undo 1"},
		{root, "GET /things/%7Bid%7D", "thing /things/{id} {id}"},

		{root, "GET /clients/https:%2F%2Fa.example%2Fb", "client /clients/https://a.example/b https://a.example/b"},
		{root, "GET //clients/https%3A%2F%2Fa.example//", "client //clients/https://a.example// https://a.example"},

		{root, "GET /clients/%2e%2e", ""},
		{root, "GET /clients/..", ""},
		{root, "GET /client%73/a%2Fb", ""},
		{root, "GET /clients/a%2Fb/c", ""},
		{root, "GET /things", ""},
		{root, "GET /things/", ""},
		{root, "GET /things/1/2", ""},
		{root, "GET /things/1%2F2", ""},
		{root, "GET /things/1%2f", ""},
		{root, "POST /oauth2%2Ftoken", ""},
		{root, "POST /oauth2%2F%2Ftoken", ""},
		{root, "POST /%6Fauth2/token", ""},
		{root, "POST /oauth2/./token", ""},
		{root, "POST /x/../oauth2/token", ""},
		{root, "POST /oauth2/token/%2e", ""},
		{root, "POST /oauth2\\token", ""},
		{root, "POST /OAuth2/token", ""},
		{root, "POST //evil.example/oauth2/token", ""},
		{root, "GET /auth/healthz", ""},

		{below, "POST /auth/oauth2/token", "token /auth/oauth2/token "},
		{below, "POST /auth/token", "token /auth/token "},
		{below, "POST //auth//token/", "token /auth/token "},
		{below, "GET /auth/things/1", "thing /auth/things/1 1"},
		{below, "GET /.well-known/about/auth", "about /.well-known/about/auth "},
		{below, "GET /auth/.well-known/about", "about /auth/.well-known/about "},
		{below, "GET /healthz", "health /healthz "},
		{below, "GET /.well-known/about", ""},
		{below, "POST /token", ""},
		{below, "POST /authtoken", ""},
	} {
		t.Run(test.target, func(t *testing.T) {
			r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(test.target +
				" HTTP/1.1\r\nHost: auth.example\r\n\r\n")))
			if err != nil {
				t.Fatal(err)
			}
			w, log := send(test.router, r)
			switch {
			case test.want == "" && (w.Code != http.StatusNotFound ||
				!strings.HasPrefix(w.Body.String(), `{"error":"not_found"`)):
				t.Errorf("%d %s", w.Code, w.Body)
			case test.want != "" && w.Body.String() != `"`+test.want+"\"\n":
				t.Errorf("%d %s, want %s", w.Code, w.Body, test.want)
			}
			if line := logLine(t, log, "request"); line["path"] != r.URL.Path {
				t.Errorf("the log says %v", line["path"])
			}
		})
	}
	t.Run("a response that may be cached, and its errors", func(t *testing.T) {
		for target, want := range map[string]string{
			"/.well-known/about":   "public, max-age=300",
			"/things/1":            "no-store",
			"/.well-known/nothing": "no-store",
		} {
			w, _ := get(root, target)
			wantHeader(t, w, map[string]string{"Cache-Control": want})
		}
		w, _ := send(root, httptest.NewRequest(http.MethodPost, "/.well-known/about", nil))
		wantHeader(t, w, map[string]string{"Cache-Control": "no-store"})
	})
	t.Run("a script can read that a document does not exist", func(t *testing.T) {
		w, _ := get(root, "/.well-known/nothing")
		wantHeader(t, w, map[string]string{"Access-Control-Allow-Origin": "*"})
		w, _ = send(root, httptest.NewRequest(http.MethodOptions, "/.well-known/nothing", nil))
		wantHeader(t, w, map[string]string{"Access-Control-Allow-Origin": "*"})
	})
	t.Run("two routes with one path", func(t *testing.T) {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		web.NewRouter(pages, routes[0], web.Route{Path: "/token"})
	})
}

func FuzzRouter(f *testing.F) {
	for _, target := range []string{
		"/token", "//token//", "/things/1/", "/things/%7Bid%7D", "/things/%2F", "//evil.example/token",
		"/.well-known/x", "*", "/a?b=//c",
	} {
		f.Add(target)
	}
	reached := ""
	h := web.JSON(func(r *http.Request) (string, error) { reached = r.URL.Path; return r.PathValue("id"), nil })
	router := web.NewRouter(pages, web.Route{Path: "/token", Methods: web.Methods{"GET": h}},
		web.Route{Path: "/things/{id}", Methods: web.Methods{"GET": h}})
	f.Fuzz(func(t *testing.T, target string) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + target +
			" HTTP/1.1\r\nHost: auth.example\r\n\r\n")))
		if err != nil {
			return
		}
		asked := r.URL.Path
		reached = ""
		w, _ := send(router, r)
		switch {
		case w.Header().Get("Location") != "":
			t.Fatalf("%q is redirected", target)
		case reached == "":
			return
		}
		// The path that is reached is the requested one without additional slashes.
		if strings.Contains(reached, "//") || strings.HasSuffix(reached, "/") || !strings.HasPrefix(reached, "/") ||
			strings.ReplaceAll(reached, "/", "") != strings.ReplaceAll(asked, "/", "") || r.URL.RawPath != "" {
			t.Fatalf("%q reaches %q", target, reached)
		}
	})
}

func TestNotFound(t *testing.T) {
	router := web.NewRouter(pages)
	for _, path := range []string{"/.well-known/nothing", "/.well-known", "/oauth2/nothing", "/oauth2", "/nothing"} {
		t.Run(path+" for a program", func(t *testing.T) {
			w, _ := get(router, path)
			if w.Code != http.StatusNotFound || !strings.HasPrefix(w.Body.String(), `{"error":"not_found"`) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
	for path, page := range map[string]bool{
		"/.well-known/nothing": false,
		"/oauth2/nothing":      false,
		"/oauth2":              false,
		"/nothing":             true,
		"/no%2Fthing":          true,
	} {
		t.Run(path+" for a person", func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.Header.Set("Accept", "text/html,application/xhtml+xml")
			w, _ := send(router, r)
			if w.Code != http.StatusNotFound || strings.Contains(w.Body.String(), "<h1>Nothing here</h1>") != page {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
}

func TestCORS(t *testing.T) {
	refused := web.NewRouter(pages, web.Route{Path: "/", CORS: true,
		Methods: web.Methods{http.MethodPost: jsonOf(nil, oauth.RefuseClient(true, "wrong"))}})
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
		t.Run("HT-22 a preflight reflects only header names: "+name, func(t *testing.T) {
			r := request(http.MethodOptions, "https://inspector.test")
			r.Header["Access-Control-Request-Headers"] = []string{headers}
			w, _ := send(refused, r)
			if w.Code != http.StatusNoContent {
				t.Errorf("%d", w.Code)
			}
			wantHeader(t, w, map[string]string{"Access-Control-Allow-Headers": ""})
		})
	}
	t.Run("HT-04 a route without CORS sends no CORS headers", func(t *testing.T) {
		w, _ := send(pageOf(page("x"), nil), request(http.MethodGet, "https://inspector.test"))
		for name := range w.Header() {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s is there", name)
			}
		}
	})
}
