package doctor_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/doctor"
)

// planted is a fault, and what the doctor must say of it.
type planted struct {
	name    string
	plant   func(*world)
	options doctor.Options
	id      string
	status  doctor.Status
	party   doctor.Party
	found   string
	fix     string
	clients []string // some of those that must be named
	spared  []string // some of those that must not be
}

var (
	asks    = doctor.Options{}
	enrols  = doctor.Options{Register: true}
	signsIn = doctor.Options{Login: true}
)

const (
	rs      = doctor.MCPServer
	as      = doctor.AuthorizationServer
	network = doctor.Network
)

var faults = []planted{
	{"D-1_slash", func(w *world) { w.prm["resource"] = w.url + "/" }, asks, "prm.resource", doctor.Fail, rs,
		"by a slash", "one canonical string", []string{"Claude", "Go SDK"}, []string{"TypeScript SDK"}},
	{"D-2_origin", func(w *world) { w.prm["resource"] = w.mcp.URL }, asks, "prm.resource", doctor.Fail, rs,
		"only the origin", "full URL", []string{"Gemini CLI", "VS Code"}, []string{"Codex"}},
	{"D-3_inner_host", func(w *world) { w.prm["resource"] = "http://mcp.internal:9000/mcp" }, asks, "prm.resource",
		doctor.Fail, rs,
		"another scheme, host or port", "public URL", []string{"Claude", "Cursor"}, nil},
	{"D-4_resource_is_the_issuer", func(w *world) { w.prm["resource"] = w.as.URL }, asks, "prm.resource", doctor.Fail,
		rs, "is the authorization server", "authorization_servers", []string{"Claude", "Codex"}, nil},
	{"D-5_no_challenge", func(w *world) { w.challenge = func(string) string { return "" } }, asks, "challenge",
		doctor.Fail, rs,
		"401 without WWW-Authenticate", "WWW-Authenticate: Bearer resource_metadata=", []string{"Cursor", "ChatGPT"},
		[]string{"Go SDK"}},
	{"D-6_no_resource_metadata", func(w *world) {
		w.challenge = func(string) string { return `Bearer realm="mcp"` }
		w.prmPath, w.prmRoot = false, false
	},
		asks, "challenge", doctor.Fail, rs, "no resource_metadata", "pass the whole header", []string{"Claude"}, nil},
	{"D-7_link_to_nothing", func(w *world) {
		w.challenge = func(string) string {
			return `Bearer resource_metadata="` + w.mcp.URL + `/nowhere", scope="read"`
		}
	}, asks, "challenge", doctor.Fail, rs, "answered with 404", "correct the link", []string{"Claude"}, nil},
	{"D-8_open_door", func(w *world) {
		w.open = true
		w.atMCP = func(rw http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Mcp-Protocol-Version") != "2025-11-25" || r.Method != http.MethodPost {
				return false
			}
			rw.WriteHeader(401)
			return true
		}
	}, asks, "challenge", doctor.Fail, rs, "tools/list with 401", "initialize included", []string{"Claude"}, nil},
	{"D-8_optional", func(w *world) { w.open = true }, asks, "challenge", doctor.Warn, rs, "never ask people",
		"optional",
		[]string{"Claude"}, nil},
	{"D-9_forbidden", func(w *world) {
		w.atMCP = only("/mcp", func(rw http.ResponseWriter, _ *http.Request) {
			writeJSON(rw, 403, map[string]any{"error": "forbidden"})
		})
	}, asks, "challenge", doctor.Fail, rs, "403", "answer 401", []string{"Claude"}, nil},
	{"D-10_path_forgotten", func(w *world) {}, doctor.Options{URL: "ORIGIN/"}, "reachable", doctor.Fail, doctor.User,
		"one answers at", "/mcp", []string{"Claude", "Cursor"}, nil},
	{"D-10_web_page", func(w *world) {
		w.atMCP = only("/", func(rw http.ResponseWriter, _ *http.Request) { writePage(rw, 200, "Welcome") })
	}, doctor.Options{URL: "ORIGIN/"}, "reachable", doctor.Fail, doctor.User, "web page", "use http",
		[]string{"Claude"}, nil},
	{"D-10_another_API", func(w *world) {
		w.atMCP = only("/", func(rw http.ResponseWriter, _ *http.Request) {
			writeJSON(rw, 200, map[string]any{"ok": true})
		})
	}, doctor.Options{URL: "ORIGIN/"}, "reachable", doctor.Fail, doctor.User, "200, application/json); one answers at",
		"use http", []string{"Claude"}, nil},
	{"D-10_refuses_initialize", func(w *world) {
		w.prmPath, w.prmRoot = false, false
		w.atMCP = only("/mcp", func(rw http.ResponseWriter, _ *http.Request) {
			writeJSON(rw, 400, map[string]any{"jsonrpc": "2.0", "id": nil, "error": map[string]any{"code": -32000}})
		})
	}, asks, "reachable", doctor.Fail, rs, "400, application/json and the error -32000", "look into the log",
		[]string{"Claude"}, nil},
	{"D-10_breaks_off", func(w *world) {
		w.atMCP = only("/mcp", func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Length", "99")
			writeJSON(rw, 200, map[string]any{"jsonrpc": "2.0"})
		})
	}, asks, "reachable", doctor.Fail, rs, "200, and the rest of the answer does not come", "look into the log",
		[]string{"Claude"}, nil},
	{"D-11_error_without_token", func(w *world) {
		old := w.challenge
		w.challenge = func(string) string { return old("any") }
	}, asks, "challenge", doctor.Warn, rs, "though no token was sent", "leave error out", nil, nil},
	{"D-12_metadata_behind_the_door", func(w *world) {
		w.atMCP = below("/.well-known/", func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("WWW-Authenticate", "Bearer")
			writeJSON(rw, 401, map[string]any{"error": "unauthorized"})
		})
	}, asks, "prm.path", doctor.Fail, rs, "asks for a token", "exempt", []string{"Claude"}, nil},
	{"D-13_page_for_a_document", func(w *world) {
		w.atAS = only("/.well-known/oauth-authorization-server", func(rw http.ResponseWriter,
			_ *http.Request) {
			writePage(rw, 200, "App")
		})
	}, asks, "as.oauth", doctor.Fail, network, "HTML page", "404", []string{"TypeScript SDK"}, nil},
	{"D-14_blocked", func(w *world) {
		w.atMCP = below("/.well-known/",
			func(rw http.ResponseWriter, _ *http.Request) { writePage(rw, 403, "Blocked") })
	}, asks, "prm.path", doctor.Fail, network, "blocked", "CDN", []string{"Claude"}, nil},
	{"D-14_bad_gateway", func(w *world) {
		w.atAS = below("/.well-known/",
			func(rw http.ResponseWriter, _ *http.Request) { writePage(rw, 502, "Bad gateway") })
	}, asks, "as.oauth", doctor.Fail, network, "502", "proxy", []string{"Claude"}, nil},
	{"D-15_only_at_root", func(w *world) {
		w.prmPath = false
		w.challenge = func(string) string { return `Bearer scope="read"` }
	}, asks, "prm.path", doctor.Warn, rs, "404", "both places", []string{"Go SDK"}, nil},
	{"D-15_only_at_path", func(w *world) {
		w.prmRoot = false
		w.challenge = func(string) string { return `Bearer scope="read"` }
	}, asks, "prm.root", doctor.Warn, rs, "404", "both places", []string{"VS Code"}, nil},
	{"D-16_only_openid", func(w *world) {
		w.atAS = only("/.well-known/oauth-authorization-server", func(rw http.ResponseWriter,
			_ *http.Request) {
			rw.WriteHeader(404)
		})
	}, asks, "as.oauth", doctor.Warn, as, "only at", "all well-known places", []string{"mcp-remote"}, nil},
	{"D-17_no_metadata", func(w *world) {
		w.prmPath, w.prmRoot = false, false
		w.challenge = func(string) string { return `Bearer scope="read"` }
	}, asks, "prm.path", doctor.Fail, rs, "no metadata of the resource", "publish", []string{"Claude", "Cursor"}, nil},
	{"D-18_another_host", func(*world) {}, asks, "prm.authorization_servers", doctor.OK, doctor.Client,
		"another host", "update such a client", []string{"Claude", "mcp-remote"}, []string{"VS Code"}},
	{"D-19_first_does_not_answer", func(w *world) {
		w.prm["authorization_servers"] = []string{w.mcp.URL + "/none", w.as.URL}
	}, asks, "prm.authorization_servers", doctor.Fail, rs, "does not answer", "first", []string{"Claude"}, nil},
	{"D-20_bot_rule", func(w *world) {
		w.atMCP = func(rw http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/mcp" || r.UserAgent() != "Claude-User" {
				return false
			}
			writePage(rw, 403, "Are you a robot?")
			return true
		}
	}, asks, "user_agents", doctor.Fail, network, "Claude-User gets 403", "WAF rule", []string{"Claude"},
		[]string{"ChatGPT"}},
	{"D-21_challenge_page", func(w *world) {
		w.atAS = func(rw http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/register" || r.Method != http.MethodPost {
				return false
			}
			writePage(rw, 403, "Are you a robot?")
			return true
		}
	}, enrols, "register", doctor.Fail, network, "page for people", "exempt the registration endpoint",
		[]string{"Cursor"}, []string{"Claude"}},
	{"D-22_private_name", func(*world) {}, doctor.Options{URL: "http://mcp.corp.example/mcp"}, "reachable", doctor.Fail,
		rs,
		"private address 10.1.2.3", "tunnel", []string{"Claude", "ChatGPT"}, []string{"VS Code"}},
	{"D-23_self_signed", func(w *world) {
		w.mcp.Close()
		w.mcp = httptest.NewTLSServer(http.HandlerFunc(w.serveMCP))
		w.url = w.mcp.URL + "/mcp"
		w.prm["resource"] = w.url
	}, asks, "tls", doctor.Fail, rs, "not trusted", "full chain", []string{"Claude", "Cursor"}, nil},
	{"D-24_slash", func(w *world) {
		w.atMCP = only("/mcp", func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, "/mcp/",
				http.StatusTemporaryRedirect)
		})
	}, asks, "redirects", doctor.Warn, network, "307", "exact URL", []string{"Claude"}, nil},
	{"D-24_another_host", func(w *world) {
		w.atMCP = only("/mcp", func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, strings.Replace(w.url, "127.0.0.1", "localhost", 1), http.StatusPermanentRedirect)
		})
	}, asks, "redirects", doctor.Fail, network, "on another host clients drop the token", "exact URL",
		[]string{"Claude"}, nil},
	{"D-25_post_becomes_get", func(w *world) {
		w.atMCP = only("/mcp", func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, "/mcp/",
				http.StatusMovedPermanently)
		})
	}, asks, "redirects", doctor.Fail, network, "turns POST into GET", "308", []string{"Claude", "Codex"}, nil},
	{"D-26_single_sign_on", func(w *world) {
		w.atMCP = only("/mcp", func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, "/sso/login?next=/mcp",
				http.StatusFound)
		})
	}, asks, "redirects", doctor.Fail, network, "sign-in page", "exempt", []string{"Claude"}, nil},
	{"D-27_header_stripped", func(w *world) {
		old := w.challenge
		w.challenge = func(string) string { return old("") }
	}, asks, "bogus_token", doctor.Warn, network, "like none at all", "pass the header Authorization", nil, nil},
	{"D-28_no_way_to_register", func(w *world) {
		delete(w.metadata, "registration_endpoint")
		delete(w.metadata, "client_id_metadata_document_supported")
	}, asks, "as.registration", doctor.Fail, as, "neither", "CIMD", []string{"Claude", "Cursor"}, nil},
	{"D-28_only_documents", func(w *world) { delete(w.metadata, "registration_endpoint") }, asks, "as.registration",
		doctor.Warn, as,
		"metadata document", "RFC 7591", []string{"Cursor", "Gemini CLI"}, []string{"Claude"}},
	{"D-29_no_public_clients", func(w *world) {
		w.metadata["token_endpoint_auth_methods_supported"] = []string{"client_secret_basic"}
	}, asks, "as.none", doctor.Warn, as, "client_secret_basic", `"none"`, []string{"Claude"}, []string{"Cursor"}},
	{"D-30_port_compared", func(w *world) { w.redirect = func(a, b string) bool { return a == b } }, enrols, "register",
		doctor.Fail, as,
		"another port", "RFC 8252", []string{"VS Code", "Codex"}, []string{"Claude"}},
	{"D-31_document_not_fetched", func(w *world) { w.knows = func(id string) bool { return w.clients[id] != "" } },
		enrols, "register",
		doctor.OK, network, "metadata document", "egress", []string{"Claude Code", "VS Code"}, []string{"Cursor"}},
	{"D-32_slash", func(w *world) { w.metadata["issuer"] = w.as.URL + "/" }, asks, "as.issuer", doctor.Fail, as,
		"by a slash", "one string", []string{"ChatGPT", "Python SDK"}, []string{"Go SDK"}},
	{"D-32_another_host", func(w *world) { w.metadata["issuer"] = "https://idp.example" }, asks, "as.issuer",
		doctor.Fail, as,
		"idp.example", "align", []string{"Go SDK", "Copilot CLI"}, []string{"Cursor"}},
	{"D-33_another_issuer", func(w *world) {
		w.accepts = func(map[string]any) bool { return false }
		w.claims = func(c map[string]any) { c["iss"] = w.as.URL + "/realm" }
	}, signsIn, "login.tools", doctor.Fail, rs, "its iss is", "issuer", []string{"Claude", "Cursor"}, nil},
	{"D-34_no_iss", func(w *world) {
		w.page = func(rw http.ResponseWriter, r *http.Request) bool {
			w.codes["x"] = r.Form
			http.Redirect(rw, r, r.Form.Get("redirect_uri")+"?"+url.Values{"code": {"x"},
				"state": {r.Form.Get("state")}}.Encode(), http.StatusFound)
			return true
		}
	}, signsIn, "login", doctor.Fail, as, "the response has none", "RFC 9207", []string{"TypeScript SDK", "Go SDK"},
		[]string{"Cursor"}},
	{"D-35_no_pkce", func(w *world) { delete(w.metadata, "code_challenge_methods_supported") }, asks, "as.pkce",
		doctor.Fail, as,
		"does not advertise PKCE", "S256", []string{"C# SDK", "Cursor", "ChatGPT", "Go SDK"},
		[]string{"TypeScript SDK"}},
	{"D-36_unknown_scopes", func(w *world) {
		w.prm["scopes_supported"] = []string{"read"}
		w.metadata["scopes_supported"] = []string{"api"}
	},
		asks, "prm.scopes", doctor.Warn, rs, "does not list", "align", nil, nil},
	{"D-36_invalid_scope", func(w *world) {
		w.metadata["scopes_supported"] = []string{"api"}
		w.page = refuse("invalid_scope", func(*http.Request) bool { return true })
	}, enrols, "prm.scopes", doctor.Fail, rs, "invalid_scope", "align", []string{"Claude"}, nil},
	{"D-37_no_scopes", func(w *world) {
		delete(w.prm, "scopes_supported")
		w.challenge = func(string) string {
			return `Bearer resource_metadata="` + w.mcp.URL + `/.well-known/oauth-protected-resource/mcp"`
		}
	}, asks, "prm.scopes", doctor.Warn, rs, "names a scope", "scopes_supported", []string{"mcp-remote"},
		[]string{"Claude Code"}},
	{"D-38_pool", func(w *world) {
		delete(w.prm, "scopes_supported")
		w.challenge = func(string) string {
			return `Bearer resource_metadata="` + w.mcp.URL + `/.well-known/oauth-protected-resource/mcp"`
		}
		w.metadata["scopes_supported"] = strings.Fields(strings.Repeat("s ", 40))
	}, asks, "prm.scopes", doctor.Warn, as, "40 scopes", "per resource", []string{"Claude", "Python SDK"}, nil},
	{"D-39_offline_access_refused", func(w *world) {
		w.page = refuse("invalid_scope", func(r *http.Request) bool {
			return strings.Contains(r.Form.Get("scope"),
				"offline_access")
		})
	}, enrols, "register", doctor.Fail, as, "offline_access", "ignore unknown scopes", []string{"Claude Code"},
		[]string{"Cursor"}},
	{"D-40_no_scope_in_the_challenge", func(w *world) {
		w.challenge = func(string) string {
			return `Bearer resource_metadata="` + w.mcp.URL + `/.well-known/oauth-protected-resource/mcp"`
		}
	}, asks, "challenge.scope", doctor.Warn, rs, "no scope", "add scope", []string{"Copilot CLI"}, []string{"Claude"}},
	{"D-41_bare_403", func(w *world) { w.callTool = func(rw http.ResponseWriter) { rw.WriteHeader(403) } }, signsIn,
		"login.tools",
		doctor.Fail, rs, "403", "insufficient_scope", []string{"Claude", "VS Code"}, []string{"Codex"}},
	{"D-42_expires_in_text", func(w *world) { w.answer = func(a map[string]any) { a["expires_in"] = "300" } }, signsIn,
		"login",
		doctor.Fail, as, "not a number", "JSON number", []string{"Rust SDK"}, nil},
	{"D-42_expires_in_absent", func(w *world) { w.answer = func(a map[string]any) { delete(a, "expires_in") } },
		signsIn, "login",
		doctor.Fail, as, "no expires_in", "JSON number", []string{"Rust SDK"}, nil},
	{"D-43_no_refresh_token", func(w *world) { w.answer = func(a map[string]any) { delete(a, "refresh_token") } },
		signsIn, "login.refresh",
		doctor.Warn, as, "no refresh token", "grant refresh tokens", []string{"Claude"}, nil},
	{"D-44_wrong_error", func(w *world) {
		w.atAS = func(rw http.ResponseWriter, r *http.Request) bool {
			if _ = r.ParseForm(); r.URL.Path != "/token" || r.Form.Get("refresh_token") == "refresh" ||
				r.Form.Get("code") != "" {
				return false
			}
			writeJSON(rw, 400, map[string]any{"error": "invalid_request"})
			return true
		}
	}, enrols, "login.refresh", doctor.Fail, as, "invalid_request", "invalid_grant", []string{"Codex", "Claude"},
		[]string{"Go SDK"}},
	{"D-45_resource_refused", func(w *world) {
		w.atAS = func(rw http.ResponseWriter, r *http.Request) bool {
			if _ = r.ParseForm(); r.URL.Path != "/token" || r.Form.Get("refresh_token") != "refresh" ||
				r.Form.Get("resource") == "" {
				return false
			}
			writeJSON(rw, 400, map[string]any{"error": "invalid_request"})
			return true
		}
	}, signsIn, "login.refresh", doctor.Fail, as, "with resource is refused", "accept resource",
		[]string{"Codex", "Gemini CLI"}, []string{"Go SDK"}},
	{"D-46_foreign_audience", func(w *world) { w.claims = func(c map[string]any) { c["aud"] = "https://api.example" } },
		signsIn,
		"login.audience", doctor.Fail, as, "the MCP server refuses it", "bind", []string{"Claude", "Cursor"}, nil},
	{"D-46_no_audience", func(w *world) { w.claims = func(c map[string]any) { delete(c, "aud") } }, signsIn,
		"login.audience", doctor.Fail, as, "no aud", "bind", []string{"Claude"}, nil},
	{"D-47_audience_unchecked", func(w *world) {
		w.accepts = func(map[string]any) bool { return true }
		w.atAS = func(rw http.ResponseWriter, r *http.Request) bool {
			if _ = r.ParseForm(); r.URL.Path != "/token" || r.Form.Get("refresh_token") != "refresh" ||
				r.Form.Get("resource") == w.url {
				return false
			}
			writeJSON(rw, 200, map[string]any{"access_token": newToken(map[string]any{"aud": r.Form.Get("resource")}),
				"expires_in": 300})
			return true
		}
	}, signsIn, "login.audience", doctor.Fail, rs, "does not check aud", "check that aud", nil, nil},
	{"D-48_clock", func(w *world) {
		w.atAS = func(rw http.ResponseWriter, _ *http.Request) bool {
			rw.Header().Set("Date", time.Now().Add(-20*time.Minute).UTC().Format(http.TimeFormat))
			return false
		}
	}, asks, "clock", doctor.Fail, doctor.Host, "behind", "NTP", []string{"Claude"}, nil},
	{"D-49_no_cors", func(w *world) { w.cors = func(http.Header) {} }, asks, "cors", doctor.Warn, rs,
		"no Access-Control-Allow-Origin", "Authorization", []string{"MCP Inspector"}, []string{"Claude"}},
	{"D-49_doubled", func(w *world) {
		w.cors = func(h http.Header) {
			h.Add("Access-Control-Allow-Origin", "*")
			h.Add("Access-Control-Allow-Origin", "*")
		}
	}, asks, "cors", doctor.Warn, rs, "doubled", "once", []string{"MCP Inspector"}, nil},
	{"D-50_too_many", func(w *world) {
		w.atMCP = only("/mcp", func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Retry-After", "60")
			writeJSON(rw, 429, map[string]any{"error": "slow_down"})
		})
	}, asks, "reachable", doctor.Fail, rs, "429 (Retry-After says 60)", "per client", []string{"Claude", "ChatGPT"},
		[]string{"VS Code"}},
	{"D-51_forgotten", func(w *world) { w.knows = func(string) bool { return false } }, enrols, "register", doctor.Fail,
		as,
		"just registered is refused", "persist", []string{"Claude", "Cursor"}, nil},
	{"D-52_form_action", func(w *world) {
		w.page = func(rw http.ResponseWriter, _ *http.Request) bool {
			rw.Header().Set("Content-Security-Policy", "default-src 'self'; form-action 'self'")
			writePage(rw, 200, `<form method="post"><button name="decision" value="allow">Allow</button></form>`)
			return true
		}
	}, enrols, "register", doctor.Fail, as, "form-action 'self'", "widen", []string{"VS Code"}, []string{"Claude"}},
	{"D-53_encrypted", func(w *world) {
		w.answer = func(a map[string]any) {
			a["access_token"] = "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.a.b.c.d"
		}
		w.accepts = func(map[string]any) bool { return true }
	}, signsIn, "login.audience", doctor.Fail, as, "encrypted", "JWS", []string{"Claude"}, nil},
	{"D-54_bad_token_answered", func(w *world) {
		w.atMCP = func(rw http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/mcp" || r.Header.Get("Authorization") == "" {
				return false
			}
			writeJSON(rw, 200, map[string]any{"jsonrpc": "2.0", "id": 1, "error": map[string]any{"code": -32000,
				"message": "bad token"}})
			return true
		}
	}, asks, "bogus_token", doctor.Fail, rs, "answered with 200", "answer 401", []string{"Claude"}, nil},
	{"D-54_any_token_opens", func(w *world) {
		w.atMCP = func(rw http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Authorization") != "" {
				r.Header.Set("Authorization", "Bearer "+newToken(map[string]any{"aud": w.url}))
			}
			return false
		}
	}, asks, "bogus_token", doctor.Fail, rs, "does not verify tokens", "answer 401", []string{"Claude"}, nil},
	{"D-55_get_404", func(w *world) {
		w.atMCP = func(rw http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/mcp" && r.Method == http.MethodGet {
				rw.WriteHeader(404)
			}
			return r.URL.Path == "/mcp" && r.Method == http.MethodGet
		}
	}, asks, "get", doctor.Fail, rs, "404", "405", []string{"TypeScript SDK", "MCP Inspector"}, []string{"Go SDK"}},
	{"D-56_old_session", func(w *world) {
		w.sessions = true
		w.atMCP = func(rw http.ResponseWriter, r *http.Request) bool {
			if s := r.Header.Get("Mcp-Session-Id"); s == "" || s == "s1" {
				return false
			}
			writeJSON(rw, 400, map[string]any{"error": "bad session"})
			return true
		}
	}, signsIn, "session", doctor.Warn, rs, "400", "404", []string{"Claude"}, nil},
	{"D-57_no_method_header", func(w *world) { w.open = true; w.prmPath, w.prmRoot = false, false }, asks, "reachable",
		doctor.OK,
		doctor.Client, "-32020", "update", nil, nil},
}

func only(path string, answer http.HandlerFunc) func(http.ResponseWriter, *http.Request) bool {
	return func(rw http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == path {
			answer(rw, r)
		}
		return r.URL.Path == path
	}
}

func below(prefix string, answer http.HandlerFunc) func(http.ResponseWriter, *http.Request) bool {
	return func(rw http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, prefix) {
			answer(rw, r)
		}
		return strings.HasPrefix(r.URL.Path, prefix)
	}
}

// refuse sends some authorization requests back with an error.
func refuse(code string, which func(*http.Request) bool) func(http.ResponseWriter, *http.Request) bool {
	return func(rw http.ResponseWriter, r *http.Request) bool {
		if !which(r) || r.Form.Get("redirect_uri") == "" {
			return false
		}
		http.Redirect(rw, r, r.Form.Get("redirect_uri")+"?"+url.Values{"error": {code},
			"state": {r.Form.Get("state")}}.Encode(), http.StatusFound)
		return true
	}
}

// The doctor names each planted fault: its check, the party that has to mend it, how, and the clients that it breaks.
func TestDoctor(t *testing.T) {
	rows := map[string]bool{}
	for _, tt := range faults {
		number, _, _ := strings.Cut(tt.name, "_")
		rows[number] = true
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			tt.plant(w)
			o := tt.options
			if number == "D-22" {
				o.Lookup = func(context.Context, string) ([]netip.Addr, error) {
					return []netip.Addr{netip.MustParseAddr("10.1.2.3")}, nil
				}
				o.Transport = &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
					return (&net.Dialer{}).DialContext(ctx, network, w.mcp.Listener.Addr().String())
				}}
			}
			o.URL = strings.Replace(o.URL, "ORIGIN", w.mcp.URL, 1)
			report := w.run(o)
			i := slices.IndexFunc(report.Checks, func(c doctor.Check) bool {
				return c.ID == tt.id && c.Status == tt.status && c.Party == tt.party &&
					strings.Contains(c.Found, tt.found)
			})
			if i < 0 {
				t.Fatalf("no %s of %s for %s that says %q:\n%s", tt.status, tt.id, tt.party, tt.found, explain(report))
			}
			c := report.Checks[i]
			if !strings.Contains(c.Fix, tt.fix) || c.Expected == "" || c.Source == "" {
				t.Errorf("fix %q (want %q), expected %q, source %q", c.Fix, tt.fix, c.Expected, c.Source)
			}
			for _, name := range tt.clients {
				if !slices.Contains(c.Clients, name) {
					t.Errorf("clients %v, want %s among them", c.Clients, name)
				}
			}
			for _, name := range tt.spared {
				if slices.Contains(c.Clients, name) {
					t.Errorf("clients %v, want %s not among them", c.Clients, name)
				}
			}
			if tt.status == doctor.Fail && report.Verdict != doctor.Broken {
				t.Errorf("verdict %s", report.Verdict)
			}
		})
	}
	for _, row := range doctor.Rows() {
		if !rows[fmt.Sprintf("D-%d", row.Number)] {
			t.Errorf("no fault is planted for row %d", row.Number)
		}
	}
}
