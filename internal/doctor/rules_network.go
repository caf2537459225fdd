package doctor

import (
	"cmp"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// networkRules are about the way to the servers: the URL that was typed, names, certificates, proxies, clocks.
var networkRules = []rule{
	{0, "reachable", Network, with(everybody), "an answer",
		"start the server, and check the name, the port and the firewall",
		"MCP transports",
		func(f *facts) []finding {
			switch {
			case f.lookupError != nil:
				n := fails("the name %s cannot be resolved", f.typed.Hostname())
				n[0].fix = "correct the host in the URL, or publish the name in DNS"
				return n
			case !f.reached() && f.certificate == nil:
				return fails("no answer from %s: %s", f.typed, tell(f.initialize))
			case f.initialize.status >= 500:
				n := fails("initialize is answered with %s", tell(f.initialize))
				n[0].party, n[0].expected = MCPServer, "401, or an MCP response"
				n[0].fix = "look into the log of the MCP server; if a proxy answers, the server behind it does not run"
				return n
			case f.mute() && len(f.elsewhere) == 0:
				n := fails("initialize is answered with %s, which is neither a response of MCP nor 401",
					tell(f.initialize))
				if code := f.initialize.problem(); code != 0 {
					n = fails("initialize is refused with %s and the error %d", tell(f.initialize), code)
				}
				n[0].party, n[0].expected = MCPServer, "401, or an MCP response"
				n[0].fix = "look into the log of the MCP server for why it does not begin a session"
				return n
			case f.initialize.status == http.StatusForbidden && f.initialize.page():
				n := fails("initialize is answered with 403 and an HTML page, which a firewall or CDN sends")
				n[0].expected, n[0].fix = "401 with a challenge",
					"let the requests of MCP clients to {endpoint} and /.well-known/ pass the firewall (WAF rule)"
				return n
			}
			return nil
		}},
	{10, "reachable", User, with(everybody), "an MCP server at the URL",
		"correct the URL: MCP servers are mostly at a path such as /mcp",
		"MCP transports; claude-ai-mcp#315",
		func(f *facts) []finding {
			wrongPath := f.mute() && len(f.elsewhere) > 0
			if !f.reached() || f.isServer() && !wrongPath || f.initialize.status >= 500 ||
				f.initialize.moved() != nil {
				return nil
			}
			what := "there is no MCP server at this URL (" + tell(f.initialize) + ")"
			if f.initialize.page() || f.get.page() {
				what = "there is a web page at this URL, not an MCP server (POST is answered with " +
					tell(f.initialize) + ")"
			}
			if f.get.media() == "text/event-stream" {
				n := warns("the server knows only the HTTP+SSE transport of MCP 2024-11-05, which newer clients have " +
					"given up")
				n[0].party, n[0].clients, n[0].fix = MCPServer, []string{},
					"serve Streamable HTTP, or put cardea gateway with transport: sse in front of it"
				return n
			}
			n := fails("%s", what)
			if len(f.elsewhere) > 0 {
				n[0].found += "; one answers at " + strings.Join(f.elsewhere, " and ")
				n[0].fix = "use " + f.elsewhere[0]
			}
			return n
		}},
	{22, "reachable", MCPServer, with(hosted), "a public address",
		"make {host} public, or use a tunnel, because these clients connect from their vendor's network",
		"claude-ai-mcp#124, MCPJam#4364",
		func(f *facts) []finding {
			private := func(a netip.Addr) bool {
				a = a.Unmap()
				return a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsLoopback() ||
					netip.MustParsePrefix("100.64.0.0/10").Contains(a)
			}
			if isLoopbackHost(f.typed.Hostname()) || len(f.addresses) == 0 ||
				!slices.ContainsFunc(f.addresses, private) {
				return nil
			}
			return fails("%s is the private address %s, which only this network reaches", f.typed.Hostname(),
				f.addresses[0])
		}},
	{50, "reachable", MCPServer, with(hosted), "no 429 for a few requests",
		"limit requests per client or person, not per address, because hosted clients share few addresses",
		"RFC 6585 §4; Cellarion#785",
		func(f *facts) []finding {
			for _, a := range []answer{f.initialize, f.discover, f.bogus, f.path.answer, f.as().answer,
				f.registered.answer, f.login.token} {
				if a.status == http.StatusTooManyRequests {
					wait := a.header.Get("Retry-After")
					if wait == "" {
						wait = "nothing"
					}
					n := either(a.url == f.initialize.url,
						"%s is answered with 429 (Retry-After says %s) after few requests", a.url,
						wait)
					return n
				}
			}
			return nil
		}},
	{0, "tls", MCPServer, with(everybody), "https",
		"serve the MCP server with https, because tokens would travel in the clear",
		"RFC 6750 §5.3; MCP authorization, communication security",
		func(f *facts) []finding {
			if f.endpoint.Scheme == "https" || isLoopbackHost(f.endpoint.Hostname()) {
				return nil
			}
			if !f.asks() {
				n := warns("http without a secure channel")
				n[0].clients = []string{}
				return n
			}
			return fails("http, and tokens would travel in the clear")
		}},
	{23, "tls", MCPServer, with(everybody), "a certificate that all clients trust",
		"serve the full chain: the certificate for {host} and the intermediate certificates of a public authority",
		"apollo-mcp-server#534, inspector#584",
		func(f *facts) []finding {
			if f.certificate == nil {
				return nil
			}
			return fails("the certificate is not trusted: %s", short(f.certificate.Error()))
		}},
	{24, "redirects", Network, with(everybody), "{endpoint} answers itself",
		"give clients the exact URL, {endpoint}, and make the proxy keep scheme and host",
		"litellm#34845, obsidian-mcp#30",
		func(f *facts) (found []finding) {
			for _, a := range f.moves {
				to := a.moved()
				from, _ := url.Parse(a.url)
				switch {
				case to == nil || from == nil || f.isLogin(a):
				case from.Scheme == "http" && to.Scheme == "https" && to.Hostname() == from.Hostname():
					n := warns("%s leads to https", a.url)
					n[0].party, n[0].fix = User, "type the https URL, "+to.String()
					found = append(found, n...)
				case a.status != http.StatusTemporaryRedirect && a.status != http.StatusPermanentRedirect:
				case from.Scheme == "https" && to.Scheme == "http":
					found = append(found, fails("%d from %s to %s, which gives up TLS", a.status, a.url, to)...)
				case !sameServer(from, to):
					found = append(found,
						fails("%d from %s to %s: on another host clients drop the token", a.status, a.url, to)...)
				default:
					n := warns("%d from %s to %s, where some clients drop the token", a.status, a.url, to)
					n[0].clients = with(exactURL)
					found = append(found, n...)
				}
			}
			for _, d := range []document{f.path, f.root, f.as()} {
				if d.ok() && len(d.hops) > 0 && (d.name != "root" || !f.path.ok()) {
					n := warns("%s is a redirect, at which some clients stop", d.hops[0].url)
					n[0].clients, n[0].fix = with(stopsAtErrors), "serve the document at "+d.hops[0].url+" itself"
					found = append(found, n...)
				}
			}
			return found
		}},
	{25, "redirects", Network, with(everybody), "308, if there must be a redirect",
		"give clients the exact URL, {endpoint}, or answer with 308, because a client sends GET after 301, 302 and 303",
		"RFC 9110 §15.4; posthog#49807",
		func(f *facts) (found []finding) {
			for _, a := range f.moves {
				to, from := a.moved(), parse(a.url)
				upgrade := from != nil && from.Scheme == "http" && to.Scheme == "https"
				if !f.isLogin(a) && !upgrade && a.status != http.StatusTemporaryRedirect &&
					a.status != http.StatusPermanentRedirect {
					found = append(found, fails("%d from %s to %s turns POST into GET", a.status, a.url, to)...)
				}
			}
			return found
		}},
	{26, "redirects", Network, with(everybody), "401 from the MCP server, and metadata for everybody",
		"exempt {endpoint} and /.well-known/ from the sign-in of the proxy (SSO)",
		"draft-detective#774",
		func(f *facts) (found []finding) {
			for _, a := range f.moves {
				if f.isLogin(a) {
					found = append(found, fails("%s leads to a sign-in page: %s", a.url, tell(a))...)
				}
			}
			for _, n := range f.documents("moved", "%s is a redirect that ends at no document (%s)") {
				n.id = "redirects"
				found = append(found, n)
			}
			return found
		}},
	{48, "clock", Host, with(everybody), "clocks that agree",
		"synchronise the clock of that machine (NTP), because tokens are valid from one second to another",
		"RFC 7519 §4.1.5; avibe#882, keycloak#8966",
		func(f *facts) (found []finding) {
			for i, s := range f.skews {
				if s.by.Abs() < 30*time.Second {
					continue
				}
				direction := "ahead of"
				if s.by < 0 {
					direction = "behind"
				}
				n := either(s.by.Abs() > 5*time.Minute, "the clock of %s is %s %s this computer's", s.whose, s.by.Abs(),
					direction)
				if n[0].status == Warn {
					n[0].clients = []string{}
				}
				if i == 1 && (s.by-f.skews[0].by).Abs() < 10*time.Second {
					found[0].found = fmt.Sprintf("the clocks of both servers are %s %s this computer's, so it is "+
						"probably this computer's that is wrong",
						s.by.Abs(), direction)
					found[0].status, found[0].clients = Warn, []string{}
					return found
				}
				found = append(found, n...)
			}
			return found
		}},
	{20, "user_agents", Network, nil, "the same answer to every program",
		"let these programs pass the bot rules of the firewall or CDN (WAF rule), at {endpoint} and not only at " +
			"/.well-known/",
		"claude-ai-mcp#49, claude-ai-mcp#430, claude-ai-mcp#872, claude-ai-mcp#1061",
		func(f *facts) []finding {
			var different, names []string
			for _, a := range f.agents {
				if a.status == f.initialize.status && a.page() == f.initialize.page() ||
					a.status == http.StatusTooManyRequests || !a.tried() {
					continue
				}
				agent := a.agent
				if agent == "" {
					agent = "a request without User-Agent"
				}
				different = append(different, fmt.Sprintf("%s gets %s", agent, tell(a.answer)))
				if a.client != "" && a.status != http.StatusUnauthorized && a.result() == nil {
					names = append(names, a.client)
				}
			}
			if len(different) == 0 {
				return nil
			}
			n := either(len(names) > 0, "%s; cardea-doctor gets %s", strings.Join(different, ", "), tell(f.initialize))
			n[0].clients = slices.Clip(names)
			if names == nil {
				n[0].clients = []string{}
			}
			return n
		}},
	{13, "prm.path", Network, with(everybody), "404 where there is no document",
		"answer unknown paths below /.well-known/ with 404, not with the page of a web application",
		"RFC 8615 §3; outline#11572, rust-sdk#810",
		func(f *facts) []finding { return f.documents("page", "%s is not a JSON document (%s)") }},
	{14, "prm.path", Network, with(everybody), "the document, or 404",
		"make the CDN or proxy allow everybody to read /.well-known/, and start the server behind it",
		"RFC 8615 §3; typescript-sdk PR2785",
		func(f *facts) []finding {
			found := f.documents("blocked", "%s is blocked (%s)")
			return append(found, f.documents("broken", "%s cannot be read (%s)")...)
		}},
	{27, "bogus_token", Network, []string{}, `another answer to a wrong token than to none: error="invalid_token"`,
		"make the proxy pass the header Authorization; if the server does get it, make it say invalid_token",
		"RFC 6750 §3.1; typo3#33",
		func(f *facts) []finding {
			if f.bogus.status != http.StatusUnauthorized || f.refused.status != http.StatusUnauthorized ||
				f.challenge.parameters["error"] != "" {
				return nil
			}
			if f.bogus.header.Get("WWW-Authenticate") != f.refused.header.Get("WWW-Authenticate") ||
				string(f.bogus.body) != string(f.refused.body) {
				return nil
			}
			return warns("a wrong token is answered like none at all: maybe a proxy strips Authorization, and then " +
				"no token ever arrives")
		}},
	{49, "cors", MCPServer, with(inBrowser), "CORS at {endpoint}, at the metadata and at the authorization server",
		"answer preflights with 204, allow every origin once, and allow Authorization, Content-Type and Mcp-* " +
			"headers; expose WWW-Authenticate and Mcp-Session-Id",
		"Fetch standard, CORS; inspector#758, inspector#752, OpenMetadata#30673",
		func(f *facts) (found []finding) {
			wrong := f.crossOrigin()
			if len(wrong) > 0 && !f.asks() {
				n := informs("web pages cannot use the server, and without tokens that keeps pages of strangers out")
				n[0].clients = []string{}
				return n
			}
			if f.fromPage.status == http.StatusForbidden && f.initialize.status != http.StatusForbidden {
				found = informs("requests from foreign web pages are refused (Origin), which keeps pages of " +
					"strangers out")
			} else if len(wrong) > 0 {
				found = append(found, warns("web pages cannot use the server: %s", strings.Join(wrong, "; "))...)
			}
			wrong = nil
			if d := f.as(); d.ok() {
				if w := originOf(d.answer); w != "" {
					wrong = append(wrong, "metadata: "+w)
				}
			}
			for _, c := range f.crossSite {
				if w := originOf(c.answer); w != "" || c.status > 299 {
					wrong = append(wrong, c.what+": "+cmp.Or(w, "the preflight is answered with "+tell(c.answer)))
				}
			}
			if len(wrong) > 0 {
				n := warns("web pages cannot use the authorization server: %s", strings.Join(wrong, "; "))
				n[0].party = AuthorizationServer
				found = append(found, n...)
			}
			return found
		}},
}

// crossOrigin says what keeps web pages from using the MCP server.
func (f *facts) crossOrigin() (wrong []string) {
	if w := originOf(f.preflight); w != "" || f.preflight.status > 299 {
		wrong = append(wrong, "the preflight is answered with "+tell(f.preflight)+comma(w))
	} else {
		allowed := strings.ToLower(strings.Join(f.preflight.header.Values("Access-Control-Allow-Headers"), ","))
		for _, name := range []string{"authorization", "mcp-protocol-version", "mcp-session-id", "mcp-method"} {
			if !strings.Contains(allowed, name) && (allowed != "*" || name == "authorization") {
				wrong = append(wrong, "the preflight does not allow "+name)
			}
		}
	}
	exposed := strings.ToLower(strings.Join(f.fromPage.header.Values("Access-Control-Expose-Headers"), ","))
	if w := originOf(f.fromPage); w != "" {
		wrong = append(wrong, "the response has "+w)
	} else if f.fromPage.status == http.StatusUnauthorized && !strings.Contains(exposed, "www-authenticate") &&
		exposed != "*" {
		wrong = append(wrong, "WWW-Authenticate is not exposed")
	}
	if d := f.prm(); d.ok() {
		if w := originOf(d.answer); w != "" {
			wrong = append(wrong, "the metadata have "+w)
		}
	}
	return wrong
}

func comma(s string) string {
	if s == "" {
		return ""
	}
	return ", with " + s
}

// originOf says what is wrong with Access-Control-Allow-Origin of an answer, or "".
func originOf(a answer) string {
	switch values := a.header.Values("Access-Control-Allow-Origin"); {
	case len(values) > 1 || len(values) == 1 && strings.Contains(values[0], ","):
		return "Access-Control-Allow-Origin doubled"
	case len(values) == 0:
		return "no Access-Control-Allow-Origin"
	case values[0] != "*" && values[0] != pageOrigin:
		return "Access-Control-Allow-Origin for another origin"
	}
	return ""
}

// isLogin reports whether a redirect leads to a sign-in page.
func (f *facts) isLogin(a answer) bool {
	to, from := a.moved(), parse(a.url)
	if to == nil || from == nil || a.status == http.StatusTemporaryRedirect && to.Hostname() == from.Hostname() ||
		a.status == http.StatusPermanentRedirect {
		return false
	}
	path := strings.ToLower(to.EscapedPath())
	for _, word := range []string{"login", "signin", "sign-in", "sign_in", "sso", "saml", "authorize", "oauth2/start",
		"cdn-cgi/access"} {
		if strings.Contains(path, word) {
			return true
		}
	}
	return to.Hostname() != from.Hostname()
}
