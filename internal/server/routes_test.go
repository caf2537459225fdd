package server_test

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/mail/mailtest"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/web"
)

// TestRoutes walks the table of routes. What a route promises by its policy holds for each of its paths and methods,
// for those that it does not answer and for scripts of other origins.
func TestRoutes(t *testing.T) {
	s := servertest.Start(t)
	s.Resource(servertest.MCP, "*mcp:tools:weather")
	for _, route := range s.Server.Routes() {
		for _, path := range route.Paths("") {
			t.Run(strings.Trim(strings.ReplaceAll(path, "/", " "), " "), func(t *testing.T) {
				for method := range route.Methods {
					answers(t, s, route, path, method)
				}
				others(t, s, route, path)
				for _, origin := range []string{"https://app.example.com", "https://localhost.evil.example", "null"} {
					t.Run("HT-04 HT-05 "+strings.TrimPrefix(origin, "https://"),
						func(t *testing.T) { cors(t, s.Agent(t, nil), route, path, origin) })
				}
			})
		}
	}
}

// No provider can have an id that is the name of another page below /login.
func TestIdsOfProviders(t *testing.T) {
	s := servertest.Start(t, servertest.Mailed(mailtest.New(t)), func(c *config.Config) {
		c.Login.Methods, c.Login.External.URL = config.LoginMethods, "https://app.example.com/login"
	})
	known := 0
	for _, route := range s.Server.Routes() {
		below, ok := strings.CutPrefix(route.Path, "/login/")
		if !ok {
			continue
		}
		known++
		id, _, _ := strings.Cut(below, "/")
		_, err := config.Load(config.Sources{Environ: []string{`CARDEA_LOGIN_PROVIDERS=[{"id":"` + id +
			`","preset":"google","client_id":"x","client_secret":"y"}]`}})
		if err == nil || !strings.Contains(err.Error(), "another page") {
			t.Errorf("%s: %v", route.Path, err)
		}
	}
	if known == 0 {
		t.Error("there are no pages below /login")
	}
}

// answers checks the answer to a request without parameters, credentials and body.
func answers(t *testing.T, s *servertest.Server, route web.Route, path, method string) {
	t.Helper()
	stranger := s.Agent(t, nil)
	reply := stranger.Get(path, servertest.Method(method), servertest.Header("Accept", "text/html, */*"))
	if reply.Header.Get("X-Request-Id") == "" || reply.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%s: the header lacks X-Request-Id or nosniff: %v", method, reply.Header)
	}
	cache, kind := "no-store", "application/json"
	switch route.Caller {
	case web.Anybody:
		switch {
		case strings.Contains(path, "{"): // there is no such thing
		case method == http.MethodGet && reply.Status != http.StatusOK:
			t.Errorf("GET: %d %.300s, though anybody may", reply.Status, reply.Body)
		case method != http.MethodGet && reply.Status != http.StatusUnsupportedMediaType:
			t.Errorf("%s: %d %.300s, but no body was sent", method, reply.Status, reply.Body)
		}
		if reply.Status == http.StatusOK && route.Cache != "" {
			cache = route.Cache
		}
	case web.Clients, web.Registered:
		if reply.Status != http.StatusUnauthorized || reply.Text("error") == "" {
			t.Errorf("%s: %d %.300s, though no client has proven itself", method, reply.Status, reply.Body)
		}
	case web.Operators:
		kind = "application/problem+json"
		if reply.Status != http.StatusUnauthorized || reply.Text("error") == "" {
			t.Errorf("%s: %d %.300s, though there was no access token", method, reply.Status, reply.Body)
		}
	case web.People:
		kind = "text/html; charset=utf-8"
		for name, want := range map[string]string{
			"X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin",
		} {
			if got := reply.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", method, name, got, want)
			}
		}
		csp := reply.Header.Get("Content-Security-Policy")
		if !strings.HasPrefix(csp, "default-src 'none'; ") || !strings.Contains(csp, "frame-ancestors 'none'") {
			t.Errorf("%s: Content-Security-Policy is %q", method, csp)
		}
		// A form of another site reaches only what says so.
		if method == http.MethodPost {
			forged := stranger.Post(path, nil, servertest.Header("Sec-Fetch-Site", "cross-site"),
				servertest.Header("Origin", "https://evil.example"))
			if refused := forged.Status == http.StatusForbidden; refused == route.FromAnySite() {
				t.Errorf("LG-12: a form of another site is answered with %d", forged.Status)
			}
		}
	case web.Staff, web.Members: // nobody learns anything else without signing in, by whatever method
		kind = ""
		for _, method := range []string{method, http.MethodHead} {
			if method == http.MethodHead && route.Methods[http.MethodGet] == nil {
				continue
			}
			reply := stranger.Get(path, servertest.Method(method))
			if reply.Status != http.StatusSeeOther || !strings.HasPrefix(reply.Header.Get("Location"), "/login?") {
				t.Errorf("AD-01 AD-02 %s: %d to %q, though nobody is signed in", method, reply.Status,
					reply.Header.Get("Location"))
			}
		}
	default:
		t.Errorf("Caller is not set")
	}
	if got := reply.Header.Get("Cache-Control"); got != cache {
		t.Errorf("%s: Cache-Control is %q, want %q", method, got, cache)
	}
	if got := reply.Header.Get("Content-Type"); got != kind {
		t.Errorf("%s: Content-Type is %q, want %q", method, got, kind)
	}
	if method == http.MethodGet && route.Caller != web.Staff && route.Caller != web.Members { // RFC 9110 §9.3.2
		head := stranger.Get(path, servertest.Method(http.MethodHead), servertest.Header("Accept", "text/html, */*"))
		compared := []string{"Content-Type", "Cache-Control", "Content-Length"}
		if route.Caller == web.People { // where a GET might do something
			reply.Status, compared = http.StatusOK, []string{"Content-Type", "Cache-Control", "X-Frame-Options"}
		}
		if len(head.Body) > 0 || head.Status != reply.Status || head.Header.Get("Location") != "" {
			t.Errorf("HEAD: %d %v, GET: %d", head.Status, head.Header, reply.Status)
		}
		for _, name := range compared {
			if head.Header.Get(name) != reply.Header.Get(name) {
				t.Errorf("%s of HEAD is %q, of GET %q", name, head.Header.Get(name), reply.Header.Get(name))
			}
		}
	}
}

// others checks the methods that the route does not answer (RFC 9110 §15.5.6).
func others(t *testing.T, s *servertest.Server, route web.Route, path string) {
	t.Helper()
	names := route.Methods.Names()
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"} {
		if slices.Contains(names, method) {
			continue
		}
		reply := s.Agent(t, nil).Get(path, servertest.Method(method))
		if reply.Status != http.StatusMethodNotAllowed || reply.Header.Get("Allow") != strings.Join(names, ", ") ||
			reply.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: status %d, Allow %q, Cache-Control %q", method, reply.Status, reply.Header.Get("Allow"),
				reply.Header.Get("Cache-Control"))
		}
	}
}

// cors checks the answers to a script of another origin, errors and preflights among them.
func cors(t *testing.T, script *servertest.Agent, route web.Route, path, origin string) {
	t.Helper()
	names := route.Methods.Names()
	from := servertest.Header("Origin", origin)
	for _, method := range append([]string{"PUT"}, names...) {
		reply := script.Get(path, servertest.Method(method), from)
		allowed := reply.Header.Get("Access-Control-Allow-Origin")
		exposed := reply.Header.Get("Access-Control-Expose-Headers")
		switch {
		case route.CORS && (allowed != "*" || !strings.Contains(exposed, "WWW-Authenticate") ||
			!strings.Contains(exposed, "Retry-After")):
			t.Errorf("%s: Access-Control-Allow-Origin %q, exposed %q", method, allowed, exposed)
		case !route.CORS && (allowed != "" || exposed != ""):
			t.Errorf("%s: Access-Control-Allow-Origin %q where there is no CORS", method, allowed)
		}
		if reply.Header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: credentials are allowed", method)
		}
	}
	const headers = "authorization, content-type, mcp-protocol-version"
	reply := script.Get(path, servertest.Method(http.MethodOptions), from,
		servertest.Header("Access-Control-Request-Method", names[0]),
		servertest.Header("Access-Control-Request-Headers", headers))
	if !route.CORS {
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
		"Access-Control-Allow-Methods":     strings.Join(names, ", "),
		"Access-Control-Allow-Headers":     headers,
		"Access-Control-Allow-Credentials": "",
	} {
		if got := reply.Header.Get(name); got != value {
			t.Errorf("preflight: %s is %q, want %q", name, got, value)
		}
	}
	if reply.Status != http.StatusNoContent || len(reply.Body) > 0 ||
		!strings.Contains(reply.Header.Get("Vary"), "Access-Control-Request-Headers") {
		t.Errorf("preflight: status %d, %d bytes, Vary %q", reply.Status, len(reply.Body), reply.Header.Get("Vary"))
	}
}

// TestPolicies holds what the table may say against what must not be opened by mistake. A page needs no line here.
func TestPolicies(t *testing.T) {
	var open, cached, anySite []string
	paths := map[string]bool{}
	for _, route := range servertest.Start(t).Server.Routes() {
		for _, path := range route.Paths("") {
			paths[path] = true
			if route.CORS {
				open = append(open, path)
			}
			if route.Cache != "" {
				cached = append(cached, path)
			}
			if route.FromAnySite() {
				anySite = append(anySite, path)
			}
		}
	}
	for name, test := range map[string]struct{ got, want []string }{
		"scripts of every origin may call": {open, []string{
			"/.well-known/jwks", "/.well-known/jwks.json", "/.well-known/oauth-authorization-server",
			"/.well-known/oauth-protected-resource/admin/api", "/.well-known/oauth-protected-resource/admin/mcp",
			"/.well-known/openid-configuration", "/admin/mcp", "/oauth2/register", "/oauth2/register/{client_id}",
			"/oauth2/revoke", "/oauth2/status/{list}", "/oauth2/token", "/register", "/token",
		}},
		"caches may keep": {cached, []string{
			"/.well-known/jwks", "/.well-known/jwks.json", "/.well-known/oauth-authorization-server",
			"/.well-known/oauth-protected-resource/admin/api", "/.well-known/oauth-protected-resource/admin/mcp",
			"/.well-known/openid-configuration", "/admin/api/openapi.json", "/assets/{file}",
			"/oauth2/status/{list}",
		}},
		"pages of other sites may post to": {anySite, []string{"/authorize", "/oauth2/authorize"}},
	} {
		slices.Sort(test.got)
		if diff := cmp.Diff(test.want, test.got); diff != "" {
			t.Errorf("what %s (-want +got):\n%s", name, diff)
		}
	}
	for _, path := range []string{"/oauth2/introspect", "/login", "/logout", "/consent", "/healthz", "/readyz"} {
		if !paths[path] {
			t.Errorf("%s is not served", path)
		}
	}
}

// If registration.dcr is off, there is no registration endpoint.
func TestNoRegistration(t *testing.T) {
	s := servertest.Start(t, func(c *config.Config) { c.Registration.DCR = "off" })
	for _, path := range []string{"/oauth2/register", "/register", "/oauth2/register/mcp_1"} {
		if reply := s.Agent(t, nil).Get(path, servertest.Method(http.MethodPost)); reply.Status != http.StatusNotFound {
			t.Errorf("%s: %d", path, reply.Status)
		}
	}
}

// Doubled and trailing slashes are ignored on every path, and nothing is redirected for them.
func TestSlashes(t *testing.T) {
	s := servertest.Start(t)
	s.Resource(servertest.MCP, "*mcp:tools:weather")
	stranger := s.Agent(t, nil)
	for _, route := range s.Server.Routes() {
		for _, path := range route.Paths("") {
			for method := range route.Methods {
				want := stranger.Get(path, servertest.Method(method))
				for _, variant := range []string{
					path + "/", path + "//", "/" + path, strings.ReplaceAll(path, "/", "//"),
				} {
					got := stranger.Get(variant, servertest.Method(method))
					other := func(name string) bool { return got.Header.Get(name) != want.Header.Get(name) }
					if got.Status != want.Status || other("Location") || other("Access-Control-Allow-Origin") ||
						other("Cache-Control") || other("Content-Type") {
						t.Errorf("%s %s: %d %v, want as for %s: %d %v", method, variant, got.Status, got.Header, path,
							want.Status, want.Header)
					}
				}
			}
		}
	}
	// No path of ours becomes a link to another host.
	for _, path := range []string{
		"//evil.example/oauth2/authorize", "//evil.example/%2e%2e", "/\\evil.example/login", "/%2Fevil.example/",
		"//evil.example//",
	} {
		if reply := stranger.Get(path); reply.Status != http.StatusNotFound || reply.Header.Get("Location") != "" {
			t.Errorf("%s: %d %v", path, reply.Status, reply.Header)
		}
	}
}

// An agent completes the whole flow at addresses with doubled and trailing slashes.
func TestSlashesInFlow(t *testing.T) {
	s := servertest.Start(t, func(c *config.Config) { c.Issuer += "/auth" })
	s.Resource(servertest.MCP, "*mcp:tools:weather")
	stranger := s.Agent(t, nil)
	for _, path := range []string{
		"/.well-known/oauth-authorization-server/auth/", "/.well-known//openid-configuration/auth",
		"/auth//.well-known/openid-configuration",
		"/auth/.well-known/jwks/", "//healthz",
	} {
		if reply := stranger.Get(path); reply.Status != http.StatusOK {
			t.Errorf("%s: %d %s", path, reply.Status, reply.Body)
		}
	}
	if reply := stranger.Post("/auth//oauth2/token/", nil); reply.Status != http.StatusUnauthorized {
		t.Errorf("token: %d %s", reply.Status, reply.Body)
	}
}

func TestNothingHere(t *testing.T) {
	s := servertest.Start(t)
	for _, path := range []string{
		"/.well-known/oauth-protected-resource", "/.well-known/", "/.well-known", "/oauth2/", "/oauth2",
		"/oauth2/nothing", "/api/v1/things", "/oauth2%2Ftoken", "/LOGIN",
	} {
		for _, method := range []string{"GET", "POST", "DELETE"} {
			reply := s.Agent(t, nil).Get(path, servertest.Method(method))
			if reply.Status != http.StatusNotFound || reply.Text("error") == "" ||
				reply.Header.Get("X-Request-Id") == "" || reply.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s %s: status %d: %v %.200s", method, path, reply.Status, reply.Header, reply.Body)
			}
		}
	}
	s.Browser(t).Get("/nothing").ErrorPage(http.StatusNotFound)
}

// The HTTP reference has the routes that programs call, and only those, as they are.
func TestReferenceOfRoutes(t *testing.T) {
	s := servertest.Start(t, func(c *config.Config) { c.Login.External.URL = "https://app.example.com/login" })
	var want []string
	for _, route := range s.Server.Routes() {
		program := slices.Contains([]web.Caller{web.Anybody, web.Clients, web.Registered}, route.Caller) ||
			route.Path == "/admin/mcp" || route.Path == "/oauth2/authorize"
		if !program || strings.HasPrefix(route.Path, "/assets") {
			continue
		}
		also := ""
		if len(route.Also) > 0 {
			also = "`" + strings.Join(route.Also, "`, `") + "` "
		}
		scripts := map[bool]string{true: "yes", false: "no"}[route.CORS]
		want = append(want, fmt.Sprintf("| `%s` | %s| %s | %s | %s |", route.Path, also,
			strings.Join(slices.Sorted(maps.Keys(route.Methods)), ", "), route.Caller, scripts))
	}
	text, err := os.ReadFile("../../docs/http.md")
	if err != nil {
		t.Fatal(err)
	}
	table, _, _ := strings.Cut(string(text), "## Errors")
	var rows []string
	for _, row := range regexp.MustCompile("(?m)^\\| `/.*$").FindAllString(table, -1) {
		cells := strings.SplitAfterN(row, "|", 7)
		rows = append(rows, strings.Join(cells[:6], ""))
	}
	slices.Sort(want)
	slices.Sort(rows)
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Errorf("docs/http.md (-routes +page):\n%s", diff)
	}
}
