package doctor

import (
	"net/http"
	"slices"
	"strings"
)

// flowRules are about what only a client sees that registers and lets a person sign in.
var flowRules = []rule{
	{0, "register", AuthorizationServer, with(everybody), "201 with a client_id",
		"accept the registration of a public client with a loopback redirect URI",
		"RFC 7591 §3.2",
		func(f *facts) []finding {
			r := f.registered
			if !r.tried() || r.id != "" || r.page() || r.status == http.StatusTooManyRequests {
				return nil
			}
			if code := text(r.object()["error"]); code != "" {
				return fails("the registration is refused: %s", short(code+" "+text(r.object()["error_description"])))
			}
			return fails("the registration is answered with %s", tell(r.answer))
		}},
	{0, "register", AuthorizationServer, with(strictMembers), "redirect_uris, and no member that is null or empty",
		"leave out members without a value, and return redirect_uris",
		"RFC 7591 §3.2.1; hydra#4116, claude-code#13685",
		func(f *facts) []finding {
			members := f.registered.object()
			if f.registered.status == 0 || f.registered.id == "" {
				return nil
			}
			empty := emptyMembers(members)
			if len(texts(members["redirect_uris"])) == 0 {
				empty = append(empty, "redirect_uris (missing)")
			}
			if len(empty) == 0 {
				return nil
			}
			return fails("the response to the registration has %s without a value", strings.Join(empty, ", "))
		}},
	{21, "register", Network, with(usesDCR), "JSON from the registration endpoint",
		"exempt the registration endpoint from the challenge page of the firewall or CDN",
		"RFC 7591 §3.2; claude-code#72673",
		func(f *facts) []finding {
			if r := f.registered; !r.tried() || !r.page() {
				return nil
			}
			return fails("the registration is answered with a page for people: %s", tell(f.registered.answer))
		}},
	{0, "register", AuthorizationServer, nil, "what was registered and issued for the diagnosis can be removed again",
		"ask an operator of {issuer} to delete the client", "RFC 7592 §2.3, RFC 7009 §2.1",
		func(f *facts) (list []finding) {
			for _, n := range f.leftBehind() {
				list = append(list, finding{status: OK, found: n[0], fix: n[1]})
			}
			return list
		}},
	{30, "register", AuthorizationServer, with(randomPort), "a loopback redirect URI with any port",
		"ignore the port of redirect URIs on 127.0.0.1, [::1] and localhost (RFC 8252)",
		"RFC 8252 §7.3; hf-mcp-server PR216, better-auth#8426",
		func(f *facts) []finding {
			refusal := refusalOf(f.registered.otherPort, "http://127.0.0.1:9/callback")
			if refusal == "" {
				return nil
			}
			return fails("the registered redirect URI with another port is refused: %s", refusal)
		}},
	{31, "register", Network, with(usesCIMD), "the metadata document of the client is read",
		"let the authorization server fetch https URLs (egress), with a plain User-Agent, and keep a copy of the " +
			"documents of well-known clients",
		"Client ID Metadata Document §4; claude-code#84263",
		func(f *facts) []finding {
			refusal := refusalOf(f.registered.document, knownDocument.redirect)
			if refusal == "" {
				return nil
			}
			n := fails("a client with the metadata document %s is refused: %s; mostly the server cannot fetch it",
				knownDocument.id, refusal)
			if issuer := parse(f.server().issuer); issuer != nil && isLoopbackHost(issuer.Hostname()) {
				// These clients do not reach it either, and this computer may have no way to the Internet.
				n[0].status = OK
			}
			return n
		}},
	{39, "register", AuthorizationServer, with(offline),
		"offline_access and openid are ignored, if they mean nothing here",
		"ignore unknown scopes, at least offline_access and openid, and return the scopes that were granted",
		"RFC 6749 §3.3; claude-code#41610, letta#4018",
		func(f *facts) []finding {
			if f.registered.refusal() != "" {
				return nil
			}
			if refusal := refusalOf(f.registered.moreScopes, f.registered.redirect); refusal != "" {
				return fails("a request with the scopes offline_access and openid is refused: %s", refusal)
			}
			return nil
		}},
	{51, "register", AuthorizationServer, with(everybody), "the client is known when it comes back",
		"persist registrations, on all nodes, and never forget a client that people have used",
		"RFC 7591 §5; supabase/mcp#355",
		func(f *facts) []finding {
			switch refusal := f.registered.refusal(); {
			case refusal == "" || refusal == "invalid_scope":
				return nil
			case f.options.ClientID != "":
				n := fails("the authorization request of %s is refused: %s", short(f.options.ClientID), refusal)
				n[0].party, n[0].clients = User, []string{}
				n[0].fix = "correct --client-id, and let the client have the redirect URI http://127.0.0.1/callback " +
					"with any port"
				return n
			default:
				return fails("the authorization request of the client that has just registered is refused: %s", refusal)
			}
		}},
	{52, "register", AuthorizationServer, with(randomPort),
		"no form-action, or one that has the redirect URI of the client",
		"widen form-action in Content-Security-Policy by the redirect URI, or leave it out, because browsers apply " +
			"it to the redirect after the form",
		"Content Security Policy 3, form-action; fastmcp#3369",
		func(f *facts) []finding {
			policy := strings.Join(f.registered.own.header.Values("Content-Security-Policy"), ";")
			_, rest, found := strings.Cut(policy, "form-action")
			action, _, _ := strings.Cut(rest, ";")
			page := strings.ToLower(string(f.registered.own.body))
			if !found || !f.registered.own.page() || strings.Contains(page, `type="password"`) ||
				!strings.Contains(page, "<form") {
				return nil // on a sign-in page it does no harm
			}
			for _, source := range strings.Fields(action) {
				if source == "*" || source == "http:" || strings.HasPrefix(source, "http://127.0.0.1") ||
					strings.HasPrefix(source, "http://localhost") {
					return nil
				}
			}
			return fails("the consent page has form-action%s, so the browser does not go back to the client", action)
		}},
	{0, "login", AuthorizationServer, with(everybody), "a code, and for the code a token",
		"look into the log of the authorization server",
		"RFC 6749 §4.1",
		func(f *facts) []finding {
			if f.login.problem == "" {
				return nil
			}
			return fails("the sign-in ended with %s%s",
				short(f.login.problem+" "+f.login.came.Get("error_description")), f.login.logSays())
		}},
	{34, "login", AuthorizationServer, with(strictIss), "iss in the response, as the metadata advertises it",
		"send iss in every authorization response, with the issuer byte for byte (RFC 9207), and advertise it",
		"RFC 9207 §2; OpenMetadata#30673",
		func(f *facts) []finding {
			advertised := f.as().members["authorization_response_iss_parameter_supported"] == true
			switch iss := f.login.came.Get("iss"); {
			case f.login.came == nil || iss == f.as().text("issuer") && advertised || iss == "" && !advertised:
				return nil
			case iss == "":
				return fails("iss is advertised, but the response has none")
			case !advertised:
				n := fails("the response has iss, but the metadata do not advertise it")
				n[0].clients = []string{"Go SDK"}
				return n
			default:
				return fails("iss in the response is %s, but the issuer is %s", short(iss),
					short(f.as().text("issuer")))
			}
		}},
	{42, "login", AuthorizationServer, with(strictTokens), "expires_in is a number above 0",
		"return expires_in as a JSON number of seconds above 0",
		"RFC 6749 §5.1; librechat.ai#420, LibreChat PR13248, qwen-code#5355",
		func(f *facts) []finding {
			if !f.login.done {
				return nil
			}
			switch v := f.login.token.object()["expires_in"].(type) {
			case nil:
				return fails("the token response has no expires_in")
			case float64:
				if v > 0 {
					return nil
				}
				return fails("expires_in is %v", v)
			default:
				return fails("expires_in is %v, not a number", v)
			}
		}},
	{43, "login.refresh", AuthorizationServer, with(everybody), "a refresh token",
		"grant refresh tokens to clients that register refresh_token, asked for with offline_access or not",
		"RFC 6749 §1.5; claude-code#86430",
		func(f *facts) []finding {
			if !f.login.done || f.login.refresh != "" {
				return nil
			}
			return warns("there is no refresh token, so people sign in whenever the token expires")
		}},
	{44, "login.refresh", AuthorizationServer, with(deadRefresh), "400 with invalid_grant",
		"refuse a refresh token that is unknown or expired with 400 and invalid_grant, because clients ask the " +
			"person again only then",
		"RFC 6749 §5.2; metabase#80389",
		func(f *facts) []finding {
			a := f.registered.bogusRefresh
			code := text(a.object()["error"])
			if !a.came() || code == "invalid_grant" || a.status == http.StatusTooManyRequests {
				return nil
			}
			return fails("a refresh token that nobody issued is refused with %s %s", tell(a), code)
		}},
	{45, "login.refresh", AuthorizationServer, with(sendsResource), "resource is accepted when a token is refreshed",
		"accept resource in refresh requests, if it is the one of the grant",
		"RFC 8707 §2.2; dust#22773",
		func(f *facts) []finding {
			l := f.login
			if !l.refreshed.came() || l.refreshed.status == http.StatusOK {
				return nil
			}
			if l.refreshedPlain.status == http.StatusOK {
				return fails("a refresh with resource is refused (%s), and without it is not",
					text(l.refreshed.object()["error"]))
			}
			n := fails("the refresh token is refused at once: %s %s", tell(l.refreshed),
				text(l.refreshed.object()["error"]))
			n[0].clients, n[0].fix = with(everybody), "accept the refresh token that was issued"
			return n
		}},
	{33, "login.tools", MCPServer, with(everybody), "the MCP server accepts tokens of the issuer that it names",
		"make the MCP server expect the issuer of the tokens, byte for byte, and name the same in " +
			"authorization_servers", "RFC 9068 §4; mcp-google-multi#192",
		func(f *facts) []finding {
			l := f.login
			iss := text(l.claims["iss"])
			switch {
			case !l.done || l.list.status != http.StatusUnauthorized:
				return nil
			case l.log != "" && !l.good:
				n := fails("the fresh token is refused, and its own issuer does not accept it either: %s", l.log)
				n[0].party = AuthorizationServer
				n[0].fix = "mend what the log of the authorization server names, and sign in again"
				return n
			case l.claims != nil && iss != f.server().issuer:
				return fails("the fresh token is refused: its iss is %s, but the MCP server names %s%s", short(iss),
					short(f.server().issuer), l.logSays())
			case l.claims != nil && !audience(l.claims, f.resource()):
				return nil // the rule about aud says why
			case string(l.list.body) == string(f.initialize.body) &&
				l.list.header.Get("WWW-Authenticate") == f.initialize.header.Get("WWW-Authenticate"):
				n := fails("the fresh token is refused like no token at all: probably Authorization does not arrive%s",
					l.logSays())
				n[0].party, n[0].fix = Network, "make the proxy pass the header Authorization"
				return n
			}
			return fails("the fresh token is refused (%s), though it is %s: probably the MCP server expects another "+
				"issuer, audience or key%s", short(l.list.header.Get("WWW-Authenticate")), l.describe(), l.logSays())
		}},
	{41, "login.tools", MCPServer, with(stepsUp),
		`403 with error="insufficient_scope" and scope with all scopes needed`,
		`send WWW-Authenticate: Bearer error="insufficient_scope", scope="…" with every 403, and name all scopes ` +
			`that the call needs`,
		"RFC 6750 §3.1; thunderid#4509, modelcontextprotocol#2349",
		func(f *facts) []finding {
			if !f.login.stepUp.came() {
				return nil
			}
			c := readChallenge(f.login.stepUp.header)
			if c.parameters["error"] == "insufficient_scope" && c.parameters["scope"] != "" {
				return nil
			}
			return fails("a call with too few scopes is answered with 403 and the challenge %s, so clients do not "+
				"know what to ask for",
				short(f.login.stepUp.header.Get("WWW-Authenticate")))
		}},
	{0, "login.tools", MCPServer, with(everybody), "a list of tools",
		"look into the log of the MCP server",
		"MCP tools, listing",
		func(f *facts) []finding {
			l := f.login
			if !l.done || l.list.result() != nil || l.list.status == http.StatusUnauthorized ||
				l.list.status == http.StatusForbidden {
				return nil
			}
			return fails("tools/list with the token is answered with %s", tell(l.list))
		}},
	{46, "login.audience", AuthorizationServer, with(everybody), "aud has {resource}",
		"bind the token to the resource of the request: put {resource} into aud",
		"RFC 8707 §2, RFC 9068 §3; tino#24, mcp-gateway-registry#1117, socket-mcp#185",
		func(f *facts) []finding {
			l := f.login
			if l.claims == nil || audience(l.claims, f.resource()) {
				return nil
			}
			found := "the token has no aud"
			if l.claims["aud"] != nil {
				found = "the token is " + l.describe()
			}
			if l.list.status == http.StatusUnauthorized {
				return fails("%s, and the MCP server refuses it", found)
			}
			n := fails("%s, and the MCP server accepts it", found)
			n[0].clients = []string{} // all connect; security is lost
			return n
		}},
	{47, "login.audience", MCPServer, []string{}, "a token for another server is refused with 401",
		"check that aud of every token is {resource}, because otherwise any other server's token opens this one",
		"RFC 8707 §2, MCP authorization, token handling; actual-mcp-server#160",
		func(f *facts) []finding {
			l := f.login
			own := l.claims != nil && !audience(l.claims, f.resource()) && l.hello.result() != nil
			if !own && l.foreign.result() == nil {
				return nil
			}
			return fails("the MCP server accepts a token that is not for it: it does not check aud")
		}},
	{53, "login.audience", AuthorizationServer, with(everybody),
		"a signed JWT (JWS) with a usual algorithm, or an opaque token",
		"issue signed tokens (JWS, for example RS256 or ES256), not encrypted ones",
		"RFC 9068 §2; mcp-remote#217",
		func(f *facts) []finding {
			l := f.login
			if !l.done || l.header == nil {
				return nil
			}
			alg := text(l.header["alg"])
			switch {
			case strings.Count(l.access, ".") == 4 || l.header["enc"] != nil:
				return fails("the token is encrypted (JWE, %s), which no MCP server can read", short(alg))
			case !signature(alg) && !slices.Contains([]string{"HS256", "HS384", "HS512"}, alg):
				return fails("the token has the algorithm %s, which verifiers do not know", short(alg))
			}
			return nil
		}},
}
