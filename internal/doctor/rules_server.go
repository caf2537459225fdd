package doctor

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// serverRules are about the MCP server: its challenge and its metadata.
var serverRules = []rule{
	{1, "prm.resource", MCPServer, with(exactURL), "resource is {endpoint}",
		"make resource exactly the URL that people type, {endpoint}, or tell people to type {resource}; one " +
			"canonical string everywhere",
		"RFC 9728 §3.3; mcp-auth-proxy#123, claude-code#52871, vercel/ai#13988",
		func(f *facts) []finding {
			if r := f.wrongResource(); r == "slash" {
				bad := strings.Trim(f.endpoint.Path, "/") != ""
				n := either(bad, "resource is %s, which differs from %s by a slash", short(f.prm().text("resource")),
					f.endpoint)
				if !bad {
					n[0].clients = []string{"Go SDK"}
				}
				return n
			}
			return nil
		}},
	{2, "prm.resource", MCPServer, with(exactURL, samePage), "resource is {endpoint}",
		"set resource to the full URL of the MCP server, {endpoint}",
		"RFC 9728 §3.3; gemini-cli#24484, agentconnect#2119",
		func(f *facts) []finding {
			switch f.wrongResource() {
			case "origin":
				return fails("resource is only the origin, %s", short(f.prm().text("resource")))
			case "path":
				return fails("resource is %s, another path than %s", short(f.prm().text("resource")), f.endpoint)
			case "missing":
				n := fails("the metadata has no resource")
				n[0].clients = with(everybody)
				return n
			}
			return nil
		}},
	{3, "prm.resource", MCPServer, with(everybody), "resource is {endpoint}, as clients reach it",
		"set the public URL of the server to {endpoint}, because it takes its own address from behind a proxy",
		"RFC 9728 §3.3; mesh-mcp#20, e2a#635, tuist#9663",
		func(f *facts) []finding {
			if f.wrongResource() != "address" {
				return nil
			}
			return fails("resource is %s: another scheme, host or port than %s", short(f.prm().text("resource")),
				f.host())
		}},
	{4, "prm.resource", MCPServer, with(everybody),
		"resource is {endpoint}, and the authorization server is in authorization_servers",
		"set resource to {endpoint}; the URL of the authorization server belongs into authorization_servers",
		"RFC 9728 §2; http-oauth-mcp-server#2",
		func(f *facts) []finding {
			if f.wrongResource() != "issuer" {
				return nil
			}
			return fails("resource is %s, which is the authorization server", short(f.prm().text("resource")))
		}},
	{5, "challenge", MCPServer, with(byChallenge), `WWW-Authenticate: Bearer resource_metadata="{prm}"`,
		`add the header WWW-Authenticate: Bearer resource_metadata="{prm}" to every 401`,
		"RFC 9728 §5.1; mcp-atlassian#1257, n8n-mcp#604",
		func(f *facts) []finding {
			switch {
			case f.refused.status != http.StatusUnauthorized || f.challenge.bearer:
				return nil
			case f.challenge.given:
				return fails("401 with a challenge for another scheme than Bearer: %s",
					short(f.refused.header.Get("WWW-Authenticate")))
			}
			return fails("401 without WWW-Authenticate, so that clients do not learn that they can sign in")
		}},
	{6, "challenge", MCPServer, []string{}, `the challenge has resource_metadata="{prm}"`,
		`add resource_metadata="{prm}" to the challenge, and make a proxy before the server pass the whole header`,
		"RFC 9728 §5.1; context-forge#3990, punkpeye/mcp-proxy#44",
		func(f *facts) []finding {
			if !f.challenge.bearer || f.challenge.parameters["resource_metadata"] != "" ||
				f.refused.status != http.StatusUnauthorized {
				return nil
			}
			n := either(!f.prm().ok(),
				"the challenge %s has no resource_metadata, so clients guess where the metadata are",
				short(f.refused.header.Get("WWW-Authenticate")))
			if n[0].status == Fail {
				n[0].clients = with(everybody)
			}
			return n
		}},
	{7, "challenge", MCPServer, with(everybody), "resource_metadata leads to the metadata, {prm}",
		"correct the link, or serve the metadata there",
		"RFC 9728 §5.1; Dibix#128",
		func(f *facts) []finding {
			if f.challenge.parameters["resource_metadata"] == "" || f.linked.ok() {
				return nil
			}
			return fails("resource_metadata is %s, and that is answered with %s",
				short(f.challenge.parameters["resource_metadata"]),
				tell(f.linked.answer))
		}},
	{8, "challenge", MCPServer, with(byChallenge), "401 with a challenge at the first request, initialize",
		"answer 401 to every request without a token, initialize included; if tokens are meant to be optional, all " +
			"is well", "MCP authorization, protocol requirements; nsflow#245, dify#36230",
		func(f *facts) []finding {
			switch {
			case !f.open():
				return nil
			case f.tools.status == http.StatusUnauthorized || f.tools.status == http.StatusForbidden:
				return fails("initialize is answered with 200 without a token, but tools/list with %d: clients "+
					"connect, and no tool works", f.tools.status)
			case f.prm().ok():
				n := warns("the server publishes OAuth metadata, but answers without a token: clients never ask " +
					"people to sign in")
				n[0].clients = with(everybody)
				return n
			}
			return nil
		}},
	{9, "challenge", MCPServer, with(everybody), "401 with a challenge",
		"answer 401 to a request without a token; 403 is for a token that does not suffice",
		"RFC 6750 §3.1; claude-ai-mcp#385",
		func(f *facts) []finding {
			if f.initialize.status != http.StatusForbidden || f.initialize.page() {
				return nil
			}
			return fails("403 for a request without a token, so no client starts to sign in")
		}},
	{11, "challenge", MCPServer, []string{}, "a challenge without error, if the request had no token",
		"leave error out of the challenge if no token was sent, because a client takes invalid_token for the end of " +
			"its own", "RFC 6750 §3.1; Zomato/mcp-server-manifest#39",
		func(f *facts) []finding {
			if f.challenge.parameters["error"] == "" {
				return nil
			}
			return warns("the challenge says error=%s, though no token was sent",
				short(f.challenge.parameters["error"]))
		}},
	{12, "prm.path", MCPServer, with(everybody), "metadata that anybody may read",
		"exempt /.well-known/ from authorization, because clients read it before they have a token",
		"RFC 9728 §3.1; oauth-mcp-proxy#8",
		func(f *facts) []finding { return f.documents("locked", "%s asks for a token (%s)") }},
	{15, "prm.path", MCPServer, nil, "the metadata at {prm} and at {origin}/.well-known/oauth-protected-resource",
		"serve the same metadata at both places, because clients differ in where they look",
		"RFC 9728 §3.1; posthog PR45181, routecraft#320",
		func(f *facts) []finding {
			missing := func(id string, d document, clients []string) []finding {
				n := either(false, "%s is answered with %s", d.url, tell(d.answer))
				if f.linked.ok() { // all clients read what the challenge names
					n = informs("%s is answered with %s, but the challenge names the place that is served", d.url,
						tell(d.answer))
				}
				n[0].id, n[0].clients = id, clients
				return n
			}
			switch {
			case f.root.ok() && f.path.state() == "absent":
				return missing("prm.path", f.path, with(exactURL))
			case f.path.ok() && f.root.state() == "absent":
				return missing("prm.root", f.root, with(rootMetadata))
			case f.linked.ok() && f.path.state() == "absent" && f.root.state() == "absent":
				return append(missing("prm.path", f.path, []string{}), missing("prm.root", f.root, []string{})...)
			}
			return nil
		}},
	{17, "prm.path", MCPServer, with(everybody), "protected resource metadata at {prm}",
		"publish the metadata at {prm}: resource {endpoint}, and authorization_servers with the issuer",
		"RFC 9728 §3.1; mcp-sdk-php#56",
		func(f *facts) []finding {
			if f.prm().ok() || f.path.state() != "absent" || f.root.state() != "absent" && f.root.state() != "ok" {
				return nil
			}
			if f.as().ok() {
				return fails("there is no metadata of the resource; only clients of MCP 2025-03-26 find the "+
					"authorization server, at %s", f.host())
			}
			return fails("there is no metadata of the resource (%s), so clients do not find the authorization server",
				tell(f.path.answer))
		}},
	{0, "prm.authorization_servers", MCPServer, with(everybody), "authorization_servers has the issuer of the tokens",
		"put the issuer into authorization_servers",
		"RFC 9728 §2; MCP authorization, server location",
		func(f *facts) []finding {
			if !f.prm().ok() || len(f.prm().texts("authorization_servers")) > 0 {
				return nil
			}
			return fails("the metadata names no authorization server")
		}},
	{18, "prm.authorization_servers", Client, with(ownServer),
		"clients ask the server that authorization_servers names",
		"update such a client, or serve the authorization server's metadata at " +
			"{origin}/.well-known/oauth-authorization-server too",
		"claude-ai-mcp#214, mcp-remote#192",
		func(f *facts) []finding {
			issuer := parse(f.server().issuer)
			if !f.prm().ok() || issuer == nil || sameServer(issuer, f.endpoint) || f.atServer.ok() {
				return nil
			}
			return informs("tokens come from another host, %s; older versions of some clients ask the MCP server's "+
				"host all the same", issuer.Host)
		}},
	{19, "prm.authorization_servers", Client, with(everybody), "the server that all clients should use comes first",
		"put the best authorization server first, because clients use only the first",
		"modelcontextprotocol#1331",
		func(f *facts) []finding {
			list := f.prm().texts("authorization_servers")
			if len(list) < 2 {
				return nil
			}
			works := slices.IndexFunc(f.servers, func(s server) bool { return s.metadata().ok() })
			if works > 0 {
				n := fails("the first of %d authorization servers, %s, does not answer; %s does", len(list),
					short(list[0]), short(list[works]))
				n[0].party = MCPServer
				return n
			}
			n := informs("%d authorization servers are named; clients use only the first, %s", len(list),
				short(list[0]))
			n[0].clients = []string{}
			return n
		}},
	{36, "prm.scopes", MCPServer, with(everybody), "scopes that the authorization server knows",
		"align scopes_supported of the MCP server with the scopes of the authorization server",
		"RFC 9728 §2; posthog#55307",
		func(f *facts) []finding {
			list, where := f.scopes()
			known := f.as().texts("scopes_supported")
			// An authorization server may leave scopes out of its list (RFC 8414 §2), such as those of its own MCP
			// server.
			issuer := parse(f.server().issuer)
			if len(known) == 0 || issuer != nil && sameServer(issuer, f.endpoint) {
				return nil
			}
			var unknown []string
			for _, s := range list {
				if !slices.ContainsFunc(known, func(k string) bool { return k == s || covers(k, s) || covers(s, k) }) {
					unknown = append(unknown, s)
				}
			}
			if len(unknown) == 0 {
				return nil
			}
			n := warns("%s has %s, which the authorization server does not list", where,
				short(strings.Join(unknown, " ")))
			n[0].clients = []string{}
			switch {
			case f.registered.refusal() == "invalid_scope" || f.login.problem == "invalid_scope":
				n[0].status, n[0].clients = Fail, with(everybody)
				n[0].found += ", and refuses with invalid_scope"
			case f.login.done:
				n[0].status = OK
				n[0].found += ", but grants a token for"
			}
			return n
		}},
	{37, "prm.scopes", MCPServer, with(serverScopes),
		"scopes_supported in the MCP server's metadata, or scope in the challenge",
		"put the scopes that a client needs at first into scopes_supported and into the challenge",
		"MCP authorization, scope selection; DollhouseMCP#2793",
		func(f *facts) []finding {
			if list, _ := f.scopes(); len(list) > 0 || !f.prm().ok() {
				return nil
			}
			return warns("neither the metadata nor the challenge names a scope: the consent page is empty, or has " +
				"all scopes")
		}},
	{38, "prm.scopes", AuthorizationServer, with(serverScopes), "a client asks for the scopes of this MCP server only",
		"name the scopes per resource, in scopes_supported of the MCP server, and advertise no pool of all scopes",
		"MCP authorization, scope selection; openchoreo#3217, facility#236",
		func(f *facts) []finding {
			own, _ := f.scopes()
			pool := f.as().texts("scopes_supported")
			switch {
			case len(own) == 0 && len(pool) >= 10:
				return warns("the authorization server lists %d scopes, and clients that find no others ask for all "+
					"of them",
					len(pool))
			case len(own) >= 30:
				n := warns("clients ask for %d scopes at once, more than a person reads", len(own))
				n[0].party, n[0].clients = MCPServer, []string{}
				return n
			}
			return nil
		}},
	{40, "challenge.scope", MCPServer, with(challengeScope), "scope in the challenge",
		"add scope, with the scopes that a client needs at first, to the challenge of the 401",
		"RFC 6750 §3; copilot-cli#4582, fastmcp#4513",
		func(f *facts) []finding {
			if !f.challenge.bearer || f.challenge.parameters["scope"] != "" ||
				f.refused.status != http.StatusUnauthorized {
				return nil
			}
			return warns("the challenge has no scope, so that some clients ask for none")
		}},
	{54, "bogus_token", MCPServer, with(everybody), "401 with error=\"invalid_token\"",
		"answer 401 to a token that is wrong or expired, because clients refresh or ask the person again only then",
		"RFC 6750 §3.1; MediaWiki-MCP#443",
		func(f *facts) []finding {
			switch {
			case !f.bogus.came() || f.bogus.moved() != nil, f.bogus.status == http.StatusUnauthorized,
				f.bogus.status == http.StatusTooManyRequests:
				return nil
			case f.bogus.result() != nil && !f.open():
				return fails("a token that nobody issued is accepted: the server does not verify tokens")
			case f.bogus.status == http.StatusOK:
				return fails("a token that nobody issued is answered with 200, like a good one")
			}
			return fails("a token that nobody issued is answered with %s", tell(f.bogus))
		}},
	{55, "get", MCPServer, with(opensStream), "405, or a stream of events, or 401",
		"answer GET at {endpoint} with 405 if there is no stream",
		"MCP transports, listening for messages; agentgateway#1582",
		func(f *facts) []finding {
			switch s := f.get.status; {
			case !f.isServer() || s == 0:
				return nil
			case s == http.StatusNotFound || s >= 500:
				return fails("GET is answered with %s, and clients take that for the end of the session", tell(f.get))
			}
			return nil
		}},
	{56, "session", MCPServer, with(everybody), "404",
		"answer 404 to a session that the server does not know, because clients begin a new one only then",
		"MCP transports, session management; gitlab-mcp#697",
		func(f *facts) []finding {
			if !f.oldSession.came() || f.oldSession.status == http.StatusNotFound {
				return nil
			}
			return warns("a session that does not exist is answered with %s, so clients drop out when the server "+
				"restarts",
				tell(f.oldSession))
		}},
	{57, "reachable", Client, []string{}, "clients of MCP 2026-07-28 send Mcp-Method",
		"update a client that gets the error -32020, because it does not send the header Mcp-Method",
		"MCP transports 2026-07-28; mcp-server-cloudflare#428",
		func(f *facts) []finding {
			if f.discover.result() == nil || f.nameless.result() != nil || f.nameless.problem() != -32020 {
				return nil
			}
			return informs("%s; a request of MCP 2026-07-28 without Mcp-Method gets the error -32020, as it should",
				f.reach())
		}},
}

// wrongResource says in what resource differs from the endpoint, or "".
func (f *facts) wrongResource() string {
	if !f.prm().ok() {
		return ""
	}
	named := f.prm().text("resource")
	resource := parse(named)
	switch own := f.endpoint.String(); {
	case named == own, named == f.typed.String():
		return ""
	case named == "":
		return "missing"
	case resource == nil:
		return "address"
	case f.prm().url == f.root.url && f.path.url != f.root.url && strings.TrimSuffix(named, "/") == f.host() &&
		f.path.ok():
		return ""
	}
	issuer := parse(f.server().issuer)
	switch {
	case len(f.prm().texts("authorization_servers")) > 0 && issuer != nil && !sameServer(issuer, f.endpoint) &&
		sameServer(resource, issuer):
		return "issuer"
	case !sameServer(resource, f.endpoint):
		return "address"
	case strings.TrimSuffix(resource.Path, "/") == strings.TrimSuffix(f.endpoint.Path, "/") &&
		resource.RawQuery == f.endpoint.RawQuery:
		if resource.Path == f.endpoint.Path {
			return "" // they differ in the case of the host or the default port, which all normalise
		}
		return "slash"
	case strings.Trim(resource.Path, "/") == "":
		return "origin"
	}
	return "path"
}

// state says what is at the place of a document: ok, absent, locked, blocked, page, moved, or broken.
func (d document) state() string {
	switch {
	case d.url == "":
		return "absent"
	case d.ok():
		return "ok"
	case len(d.hops) > 0 || d.moved() != nil:
		return "moved"
	case !d.came():
		return "broken"
	case d.status == http.StatusOK:
		return "page"
	case d.status == http.StatusUnauthorized && (d.header.Get("WWW-Authenticate") != "" || !d.page()),
		d.status == http.StatusForbidden && readChallenge(d.header).given:
		return "locked"
	case d.status == http.StatusUnauthorized, d.status == http.StatusForbidden, d.status >= 500:
		return "blocked"
	}
	return "absent"
}

// documents returns a finding for each document of discovery that is in that state. The format gets its URL and what is
// there. It is a failure if clients read that document before any other.
func (f *facts) documents(state, format string) (found []finding) {
	add := func(id string, d document, first bool, party Party) {
		if d.state() != state {
			return
		}
		n := either(first, format, d.url, tell(d.answer))
		n[0].id, n[0].party = id, party
		if !first {
			n[0].clients = []string{}
		}
		found = append(found, n...)
	}
	linked := f.linked.ok()
	add("prm.path", f.path, !linked, "")
	if f.root.url != f.path.url {
		add("prm.root", f.root, !linked && !f.path.ok(), "")
	}
	for _, s := range f.servers {
		for i, d := range s.forms {
			id, party := "as.oauth", AuthorizationServer
			if i > 0 {
				id = "as.openid"
			}
			if state == "page" || state == "blocked" || state == "moved" {
				party = Network
			}
			add(id, d, i == 0 || !s.forms[0].ok(), party)
		}
	}
	return found
}

// covers reports whether wildcard ends in :* and scope is below it.
func covers(wildcard, scope string) bool {
	prefix, ok := strings.CutSuffix(wildcard, "*")
	return ok && strings.HasSuffix(prefix, ":") && strings.HasPrefix(scope, prefix) && len(scope) > len(prefix)
}

// count returns a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
