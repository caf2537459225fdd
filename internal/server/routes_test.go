package server_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/server/servertest"
)

// row is what a path promises. Who sends nothing but the method gets the status
// of bare: what a stranger may.
type row struct {
	bare  map[string]int
	cors  bool
	cache string // Cache-Control of the bare answers
}

const (
	noStore = "no-store"
	cached  = "public, max-age=300"
)

// rows has every path of the server, but for the assets.
var rows = map[string]row{
	"/.well-known/oauth-authorization-server": {map[string]int{"GET": 200, "HEAD": 200}, true, cached},
	"/.well-known/openid-configuration":       {map[string]int{"GET": 200, "HEAD": 200}, true, cached},
	"/.well-known/jwks":                       {map[string]int{"GET": 200, "HEAD": 200}, true, cached},
	"/.well-known/jwks.json":                  {map[string]int{"GET": 200, "HEAD": 200}, true, cached},

	"/oauth2/authorize": {map[string]int{"GET": 400, "POST": 400}, false, noStore},
	"/authorize":        {map[string]int{"GET": 400, "POST": 400}, false, noStore},

	"/oauth2/token":      {map[string]int{"POST": 401}, true, noStore},
	"/token":             {map[string]int{"POST": 401}, true, noStore},
	"/oauth2/revoke":     {map[string]int{"POST": 401}, true, noStore},
	"/oauth2/introspect": {map[string]int{"POST": 401}, false, noStore},
	"/oauth2/register":   {map[string]int{"POST": 415}, true, noStore},
	"/register":          {map[string]int{"POST": 415}, true, noStore},

	"/oauth2/register/{client_id}": {map[string]int{"DELETE": 401, "GET": 401, "PUT": 401}, true, noStore},

	"/login":        {map[string]int{"GET": 200, "POST": 403}, false, noStore},
	"/logout":       {map[string]int{"GET": 200, "POST": 200}, false, noStore},
	"/consent":      {map[string]int{"GET": 400, "POST": 400}, false, noStore},
	"/consent/logo": {map[string]int{"GET": 400}, false, noStore},

	"/healthz": {map[string]int{"GET": 200, "HEAD": 200}, false, noStore},
	"/readyz":  {map[string]int{"GET": 200, "HEAD": 200}, false, noStore},
}

func TestRoutes(t *testing.T) {
	s := servertest.Start(t)
	s.Resource(servertest.MCP, "*mcp:tools:weather")

	served := map[string]bool{}
	for _, route := range s.Server.Routes() {
		served[route.Path] = true
		want, ok := rows[route.Path]
		if !ok {
			t.Errorf("%s has no row in this test: say what it promises", route.Path)
			continue
		}
		t.Run(strings.Trim(strings.ReplaceAll(route.Path, "/", " "), " "), func(t *testing.T) {
			stranger := s.Agent(t, nil)
			var methods []string
			for method, status := range want.bare {
				methods = append(methods, method)
				reply := stranger.Get(route.Path, servertest.Method(method))
				if reply.Status != status {
					t.Errorf("%s: status %d, want %d: %.300s", method, reply.Status, status, reply.Body)
				}
				if got := reply.Header.Get("Cache-Control"); got != want.cache {
					t.Errorf("%s: Cache-Control is %q, want %q", method, got, want.cache)
				}
				if reply.Header.Get("X-Request-Id") == "" || reply.Header.Get("X-Content-Type-Options") != "nosniff" {
					t.Errorf("%s: the header lacks X-Request-Id or nosniff: %v", method, reply.Header)
				}
			}
			slices.Sort(methods)
			if !slices.Equal(route.Methods, methods) || route.CORS != want.cors {
				t.Errorf("the route is %+v", route)
			}
			for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE"} {
				if slices.Contains(methods, method) {
					continue
				}
				reply := stranger.Get(route.Path, servertest.Method(method))
				if reply.Status != http.StatusMethodNotAllowed || reply.Header.Get("Allow") != strings.Join(methods, ", ") {
					t.Errorf("%s: status %d, Allow %q", method, reply.Status, reply.Header.Get("Allow"))
				}
			}
			for _, origin := range []string{"https://app.example.com", "https://localhost.evil.example", "null"} {
				t.Run("HT-04 HT-05 "+strings.TrimPrefix(origin, "https://"), func(t *testing.T) { cors(t, s.Agent(t, nil), route.Path, want, methods, origin) })
			}
		})
	}
	for path := range rows {
		if !served[path] {
			t.Errorf("%s is in this test, but not served", path)
		}
	}
}

// cors checks the answers to a script of another origin, errors and preflights
// among them.
func cors(t *testing.T, script *servertest.Agent, path string, want row, methods []string, origin string) {
	t.Helper()
	from := servertest.Header("Origin", origin)
	for _, method := range append([]string{"PUT"}, methods...) {
		reply := script.Get(path, servertest.Method(method), from)
		allowed := reply.Header.Get("Access-Control-Allow-Origin")
		exposed := reply.Header.Get("Access-Control-Expose-Headers")
		switch {
		case want.cors && (allowed != "*" || !strings.Contains(exposed, "WWW-Authenticate") || !strings.Contains(exposed, "Retry-After")):
			t.Errorf("%s: Access-Control-Allow-Origin %q, exposed %q", method, allowed, exposed)
		case !want.cors && (allowed != "" || exposed != ""):
			t.Errorf("%s: Access-Control-Allow-Origin %q where there is no CORS", method, allowed)
		}
		if reply.Header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: credentials are allowed", method)
		}
	}
	const names = "authorization, content-type, mcp-protocol-version"
	reply := script.Get(path, servertest.Method(http.MethodOptions), from,
		servertest.Header("Access-Control-Request-Method", methods[0]), servertest.Header("Access-Control-Request-Headers", names))
	if !want.cors {
		for name := range reply.Header {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("the preflight is answered with %s", name)
			}
		}
		if reply.Status != http.StatusMethodNotAllowed {
			t.Errorf("the preflight is answered with %d", reply.Status)
		}
		return
	}
	for name, value := range map[string]string{
		"Access-Control-Allow-Origin":      "*",
		"Access-Control-Allow-Methods":     strings.Join(methods, ", "),
		"Access-Control-Allow-Headers":     names,
		"Access-Control-Allow-Credentials": "",
	} {
		if got := reply.Header.Get(name); got != value {
			t.Errorf("preflight: %s is %q, want %q", name, got, value)
		}
	}
	if reply.Status != http.StatusNoContent || len(reply.Body) > 0 || !strings.Contains(reply.Header.Get("Vary"), "Access-Control-Request-Headers") {
		t.Errorf("preflight: status %d, %d bytes, Vary %q", reply.Status, len(reply.Body), reply.Header.Get("Vary"))
	}
}

func TestNothingHere(t *testing.T) {
	s := servertest.Start(t)
	for _, path := range []string{"/.well-known/oauth-protected-resource", "/.well-known/", "/oauth2/", "/oauth2/nothing", "/api/v1/things", "/oauth2/token/", "/LOGIN"} {
		reply := s.Agent(t, nil).Get(path)
		if reply.Status != http.StatusNotFound || reply.Text("error") == "" {
			t.Errorf("%s: status %d: %.200s", path, reply.Status, reply.Body)
		}
	}
	s.Browser(t).Get("/nothing").ErrorPage(http.StatusNotFound)
}
