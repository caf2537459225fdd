package doctor

import (
	"net/http"
	"slices"
	"sort"
	"strings"
)

// authorizationServerRules are about the authorization server's metadata and keys.
var authorizationServerRules = []rule{
	{16, "as.oauth", AuthorizationServer, with(olderDiscovery),
		"the metadata in all forms: oauth-authorization-server and openid-configuration",
		"serve the same metadata at all well-known places of {issuer}, because clients differ in where they look",
		"RFC 8414 §3, OpenID Connect Discovery §4; vscode#278300, bifrost#3344, fastmcp#4166",
		func(f *facts) (found []finding) {
			s := f.server()
			if !f.as().ok() {
				return nil
			}
			if s.forms[0].state() == "absent" {
				n := warns("%s is answered with %s; the metadata is only at %s", s.forms[0].url,
					tell(s.forms[0].answer), f.as().url)
				n[0].id = "as.oauth"
				found = append(found, n...)
			}
			for _, d := range s.forms[1:] {
				if d.state() != "absent" {
					continue
				}
				n := informs("%s is answered with %s; clients fall back on %s", d.url, tell(d.answer), f.as().url)
				if len(s.forms) > 2 { // the issuer has a path, about which clients differ most
					n[0].status = Warn
				}
				n[0].id, n[0].clients = "as.openid", with(onlyOpenID)
				found = append(found, n...)
			}
			return found
		}},
	{0, "as.oauth", AuthorizationServer, with(everybody),
		"metadata of the authorization server at a well-known place of {issuer}",
		"publish the metadata (RFC 8414) of the authorization server, or correct authorization_servers",
		"RFC 8414 §3; MCP authorization, server discovery",
		func(f *facts) []finding {
			s := f.server()
			if s.issuer == "" || f.as().ok() || !f.prm().ok() {
				return nil
			}
			if len(s.forms) == 0 {
				n := fails("%s is not the URL of an authorization server", short(s.issuer))
				n[0].party = MCPServer
				return n
			}
			for _, d := range s.forms {
				if d.state() != "absent" {
					return nil // another rule says what is there
				}
			}
			return fails("%s has no metadata: %s is answered with %s", short(s.issuer), s.forms[0].url,
				tell(s.forms[0].answer))
		}},
	{0, "as.oauth", AuthorizationServer, with(everybody), "https URLs of authorization_endpoint and token_endpoint",
		"set the public https URL of the authorization server, because it takes its own address from behind a proxy",
		"RFC 8414 §2; mesh-mcp#20, tuist#9663",
		func(f *facts) (found []finding) {
			d := f.as()
			if !d.ok() {
				return nil
			}
			for _, member := range []string{"authorization_endpoint", "token_endpoint"} {
				switch u := parse(d.text(member)); {
				case u == nil:
					found = append(found, fails("the metadata has no %s", member)...)
				case u.Scheme != "https" && !isLoopbackHost(u.Hostname()):
					found = append(found, fails("%s is %s, not https", member, u)...)
				case u.Scheme == "http" && parse(f.server().issuer) != nil &&
					parse(f.server().issuer).Scheme == "https":
					found = append(found, fails("%s is %s, which only the server itself reaches", member, u)...)
				}
			}
			return found
		}},
	{0, "as.oauth", AuthorizationServer, with(strictMembers), "no member of the metadata is null or empty",
		"leave out members without a value",
		"RFC 8414 §3.2",
		func(f *facts) []finding {
			if empty := emptyMembers(f.as().members); f.as().ok() && len(empty) > 0 {
				return fails("null or empty in the metadata: %s", strings.Join(empty, ", "))
			}
			return nil
		}},
	{0, "as.oauth", AuthorizationServer, with(jsonOnly), "Content-Type: application/json",
		"send the metadata as application/json",
		"RFC 8414 §3.2",
		func(f *facts) []finding {
			if d := f.as(); d.ok() && d.media() != "application/json" {
				return fails("the metadata has the type %s", short(d.header.Get("Content-Type")))
			}
			return nil
		}},
	{32, "as.issuer", AuthorizationServer, with(exactIssuer, checksIssuer), "issuer is {issuer}, byte for byte",
		"align issuer with authorization_servers of the MCP server: one string everywhere, best without a slash at " +
			"the end", "RFC 8414 §3.3; opencode#50036, python-sdk#1919, copilot-cli#4606",
		func(f *facts) (found []finding) {
			if len(f.prm().texts("authorization_servers")) == 0 {
				return nil
			}
			for _, s := range f.servers {
				for _, d := range s.forms {
					issuer := d.text("issuer")
					switch {
					case !d.ok() || issuer == s.issuer:
						continue
					case strings.TrimSuffix(issuer, "/") == strings.TrimSuffix(s.issuer, "/"):
						n := fails("issuer is %s, but the MCP server names %s: they differ by a slash", short(issuer),
							short(s.issuer))
						n[0].clients = with(exactIssuer)
						if strings.HasSuffix(s.issuer, "/") { // which it tolerates
							n[0].clients = slices.DeleteFunc(n[0].clients,
								func(c string) bool { return c == "TypeScript SDK" })
						}
						n[0].expected = "issuer is " + s.issuer
						return n
					case issuer == "":
						return fails("%s has no issuer", d.url)
					default:
						n := fails("issuer is %s, but the MCP server names %s", short(issuer), short(s.issuer))
						n[0].expected = "issuer is " + s.issuer
						return n
					}
				}
			}
			return nil
		}},
	{35, "as.pkce", AuthorizationServer, with(strictPKCE), `code_challenge_methods_supported has "S256"`,
		`advertise "S256" in code_challenge_methods_supported of all forms of the metadata, and nothing else`,
		"RFC 8414 §2, MCP authorization, code protection; home-assistant/core#181542, typescript-sdk#2831",
		func(f *facts) []finding {
			for _, d := range f.server().forms {
				methods, given := d.members["code_challenge_methods_supported"]
				switch {
				case !d.ok() || slices.Contains(texts(methods), "S256"):
				case given:
					n := fails("%s advertises PKCE without S256", d.url)
					n[0].clients = append(with(strictPKCE), "Codex", "Rust SDK")
					return n
				default:
					return fails("%s does not advertise PKCE", d.url)
				}
			}
			return nil
		}},
	{0, "as.iss", AuthorizationServer, []string{"ChatGPT"}, "authorization_response_iss_parameter_supported is true",
		"send iss in authorization responses, and advertise it",
		"RFC 9207 §3; MCP authorization, response validation",
		func(f *facts) []finding {
			if d := f.as(); d.ok() && d.members["authorization_response_iss_parameter_supported"] != true {
				return informs("iss in responses is not advertised; ChatGPT then identifies itself differently for " +
					"each connector")
			}
			return nil
		}},
	{28, "as.registration", AuthorizationServer, with(everybody),
		"Client ID Metadata Documents, and dynamic registration for older clients",
		"support Client ID Metadata Documents (CIMD) and dynamic registration (RFC 7591), or give people a client_id " +
			"to type in",
		"MCP authorization, client registration; mcp-remote#53, inspector#167, github-mcp-server#2532",
		func(f *facts) []finding {
			d := f.as()
			documents := d.members["client_id_metadata_document_supported"] == true
			switch dynamic := d.text("registration_endpoint") != ""; {
			case !d.ok() || dynamic && documents:
				return nil
			case dynamic:
				return informs("clients may register, but not have a metadata document (CIMD), which newer clients " +
					"prefer")
			case documents:
				n := warns("clients may only have a metadata document; these register themselves, and need a " +
					"client_id by hand")
				n[0].clients = with(usesDCR)
				return n
			}
			return fails("there is neither dynamic registration nor Client ID Metadata Documents, so no client gets " +
				"a client_id by itself")
		}},
	{29, "as.none", AuthorizationServer, with(usesCIMD), `token_endpoint_auth_methods_supported has "none"`,
		`add "none" to token_endpoint_auth_methods_supported`,
		"RFC 8414 §2, Client ID Metadata Document §4; keycloak#49730",
		func(f *facts) []finding {
			d := f.as()
			methods := d.texts("token_endpoint_auth_methods_supported")
			if !d.ok() || slices.Contains(methods, "none") {
				return nil
			}
			named := "lists only " + strings.Join(methods, ", ")
			if len(methods) == 0 {
				named = "lists nothing, which means client_secret_basic"
			}
			dynamic := d.text("registration_endpoint") != ""
			if d.members["client_id_metadata_document_supported"] == true {
				return either(!dynamic,
					"metadata documents are welcome, but public clients are not: "+
						"token_endpoint_auth_methods_supported %s", named)
			}
			n := warns("public clients are not welcome: token_endpoint_auth_methods_supported %s", named)
			n[0].clients = with(usesDCR)
			return n
		}},
	{0, "as.grants", AuthorizationServer, with(everybody),
		"grant_types_supported has authorization_code and refresh_token",
		"advertise authorization_code and refresh_token in grant_types_supported",
		"RFC 8414 §2; claude-code#86430",
		func(f *facts) []finding {
			d := f.as()
			switch types := d.texts("grant_types_supported"); {
			case !d.ok():
				return nil
			case len(types) == 0:
				n := informs("grant_types_supported is absent, so clients do not know whether there are refresh tokens")
				n[0].clients = []string{}
				return n
			case !slices.Contains(types, "authorization_code"):
				return fails("grant_types_supported lists only %s", strings.Join(types, ", "))
			case !slices.Contains(types, "refresh_token"):
				return warns("grant_types_supported has no refresh_token, so people sign in whenever a token expires")
			}
			return nil
		}},
	{0, "as.jwks", AuthorizationServer, []string{}, "public keys at jwks_uri",
		"publish the public keys that verify access tokens, and nothing secret, at jwks_uri",
		"RFC 7517 §5, RFC 8414 §2",
		func(f *facts) []finding {
			if !f.as().ok() {
				return nil
			}
			if f.as().text("jwks_uri") == "" {
				return informs("there is no jwks_uri, so the MCP server must introspect tokens")
			}
			if !f.keys.ok() {
				return warns("%s is answered with %s, so an MCP server that verifies tokens itself cannot", f.keys.url,
					tell(f.keys.answer))
			}
			keys, _ := f.keys.members["keys"].([]any)
			usable := 0
			for _, k := range keys {
				key, _ := k.(map[string]any)
				if key["d"] != nil || key["k"] != nil {
					return fails("%s publishes a secret key (kid %s)", f.keys.url, short(text(key["kid"])))
				}
				if alg := text(key["alg"]); text(key["use"]) != "enc" && (alg == "" || signature(alg)) {
					usable++
				}
			}
			if usable == 0 {
				return warns("%s has no key that verifies signatures", f.keys.url)
			}
			return nil
		}},
	{0, "as.oauth", AuthorizationServer, []string{}, "an authorization endpoint that answers",
		"correct authorization_endpoint, or start the server behind it",
		"RFC 6749 §3.1",
		func(f *facts) []finding {
			a := f.authorize
			if a.tried() && (a.status == http.StatusNotFound && !a.page() || a.status == http.StatusMethodNotAllowed ||
				a.status >= 500 || !a.came()) {
				n := fails("the authorization endpoint %s is answered with %s", a.url, tell(a))
				n[0].clients = with(everybody)
				return n
			}
			return nil
		}},
}

// emptyMembers returns the members that are null or "".
func emptyMembers(members map[string]any) (names []string) {
	for name, value := range members {
		if value == nil || value == "" {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}

// signature reports whether alg is an asymmetric signature that JOSE libraries know.
func signature(alg string) bool {
	return alg == "EdDSA" || alg == "Ed25519" ||
		len(alg) == 5 && slices.Contains([]string{"RS", "PS", "ES"}, alg[:2])
}
