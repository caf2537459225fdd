package discovery_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/scope"
)

const (
	oauthDocument  = "/.well-known/oauth-authorization-server"
	openidDocument = "/.well-known/openid-configuration"
)

func list(t testing.TB, document map[string]any, name string) []string {
	t.Helper()
	var texts []string
	values, ok := document[name].([]any)
	if !ok {
		t.Fatalf("%s is %v", name, document[name])
	}
	for _, v := range values {
		texts = append(texts, v.(string))
	}
	return texts
}

func TestMetadata(t *testing.T) {
	s := servertest.StartMCP(t)
	a := s.Agent(t, nil)
	reply := a.Get(oauthDocument)
	methods := []any{"none", "client_secret_basic", "client_secret_post", "private_key_jwt"}
	algs := []any{"ES256", "RS256", "PS256", "EdDSA"}
	want := map[string]any{
		"issuer":                 s.URL,
		"authorization_endpoint": s.URL + "/oauth2/authorize",
		"token_endpoint":         s.URL + "/oauth2/token",
		"registration_endpoint":  s.URL + "/oauth2/register",
		"revocation_endpoint":    s.URL + "/oauth2/revoke",
		"introspection_endpoint": s.URL + "/oauth2/introspect",
		"jwks_uri":               s.URL + "/.well-known/jwks",
		"scopes_supported": []any{"mcp:tools:weather", "mcp:tools:email:send",
			"offline_access"},
		"response_types_supported": []any{"code"},
		"response_modes_supported": []any{"query"},
		"grant_types_supported": []any{"authorization_code", "refresh_token",
			"client_credentials"},
		"token_endpoint_auth_methods_supported":                    methods,
		"revocation_endpoint_auth_methods_supported":               methods,
		"introspection_endpoint_auth_methods_supported":            methods[1:],
		"token_endpoint_auth_signing_alg_values_supported":         algs,
		"revocation_endpoint_auth_signing_alg_values_supported":    algs,
		"introspection_endpoint_auth_signing_alg_values_supported": algs,
		"code_challenge_methods_supported":                         []any{"S256"},
		"authorization_response_iss_parameter_supported":           true,
		"client_id_metadata_document_supported":                    true,
		"acr_values_supported":                                     []any{"aal1", "aal2"},
		"subject_types_supported":                                  []any{"public"},
		"id_token_signing_alg_values_supported":                    []any{"ES256"},
		"request_parameter_supported":                              false,
		"request_uri_parameter_supported":                          false,
	}
	if diff := cmp.Diff(want, reply.JSON()); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
	t.Run("MD-05 what is not served is not advertised", func(t *testing.T) {
		// RFC 9207: iss is in every response, for servertest checks each for it.
		agent := s.Agent(t, s.Client())
		agent.Connect(s.Browser(t), s.User("md05@example.com"))
		if _, ok := reply.JSON()["client_id_metadata_document_supported"]; !ok {
			agent.ClientID = "https://agent.example.com/client.json"
			s.Browser(t).Authorize(agent.Authorization()).ErrorPage(http.StatusBadRequest)
		}
		for _, name := range []string{"request", "request_uri"} {
			agent := s.Agent(t, s.Client())
			page := s.Browser(t).Authorize(agent.Authorization(servertest.With(name, "https://a.example/request")))
			page.Refused(name + "_not_supported")
		}
	})
	t.Run("a new resource brings its scopes", func(t *testing.T) {
		s.Resource("https://other.example.com/mcp", "other:read")
		got := list(t, a.Get(oauthDocument).JSON(), "scopes_supported")
		if !strings.Contains(fmt.Sprint(got), "other:read") {
			t.Errorf("scopes_supported %v", got)
		}
	})
	t.Run("a resource with its own algorithm brings it", func(t *testing.T) {
		r := s.Resource("https://rsa.example.com/mcp", "rsa:read")
		r.SigningAlg = "RS256"
		s.Update(func(tx *store.Tx) error { return tx.UpdateResource(r) })
		for _, document := range []string{oauthDocument, openidDocument} {
			got := list(t, a.Get(document).JSON(), "id_token_signing_alg_values_supported")
			if diff := cmp.Diff([]string{"ES256", "RS256"}, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", document, diff)
			}
		}
	})
	t.Run("registration off", func(t *testing.T) {
		s := servertest.StartMCP(t, func(c *config.Config) { c.Registration.DCR = "off" })
		if got, ok := s.Agent(t, nil).Get(oauthDocument).JSON()["registration_endpoint"]; ok {
			t.Errorf("registration_endpoint %v", got)
		}
		if reply := s.Agent(t, nil).Register(nil); reply.Status != http.StatusNotFound {
			t.Errorf("registration answers %d", reply.Status)
		}
	})
}

func TestForgedHeaders(t *testing.T) {
	s := servertest.StartMCP(t)
	a := s.Agent(t, nil)
	documents := map[string]string{}
	for _, path := range []string{oauthDocument, openidDocument, "/.well-known/jwks"} {
		documents[path] = string(a.Get(path).Body)
	}
	headers := map[string]string{
		"Host": "evil.example", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https",
		"X-Forwarded-Port": "1", "X-Forwarded-Prefix": "/evil", "X-Forwarded-Server": "evil.example",
		"Forwarded": "for=1.2.3.4;host=evil.example;proto=https", "X-Original-Url": "/evil",
		"X-Original-Host": "evil.example", "X-Rewrite-Url": "/evil", "X-Host": "evil.example",
		"X-Http-Host-Override": "evil.example", "Cf-Connecting-Ip": "1.2.3.4", "True-Client-Ip": "1.2.3.4",
		"X-Envoy-Original-Path": "/evil", "Origin": "https://evil.example",
	}
	for name, value := range headers {
		t.Run("MD-01 MD-10 "+name, func(t *testing.T) {
			for path, want := range documents {
				reply := s.Agent(t, nil).Get(path, servertest.Header(name, value))
				if string(reply.Body) != want || reply.Status != http.StatusOK {
					t.Errorf("%s: %d %s", path, reply.Status, reply.Body)
				}
				for field, values := range reply.Header {
					if strings.Contains(fmt.Sprint(values), "evil") {
						t.Errorf("%s: %s is %v", path, field, values)
					}
				}
			}
		})
	}
}

func TestIssuerWithPath(t *testing.T) {
	s := servertest.StartMCP(t, func(c *config.Config) { c.Issuer += "/tenants/one" })
	host := s.URL
	issuer := host + "/tenants/one"
	get := func(path string) *servertest.Reply {
		s.URL = host
		return s.Agent(t, nil).Get(path)
	}
	for _, path := range []string{oauthDocument + "/tenants/one", openidDocument + "/tenants/one",
		"/tenants/one" + openidDocument, "/tenants/one" + oauthDocument,
		oauthDocument + "/tenants/one/", "//tenants/one/" + openidDocument} {
		t.Run("MD-02 "+path, func(t *testing.T) {
			document := get(path).JSON()
			if document["issuer"] != issuer {
				t.Errorf("issuer is %v, want %s", document["issuer"], issuer)
			}
			for name, value := range document {
				if text, ok := value.(string); ok && !strings.HasPrefix(text, issuer) {
					t.Errorf("%s is %q, outside of the issuer", name, text)
				}
			}
		})
	}
	for _, path := range []string{
		oauthDocument + "/tenants/two", openidDocument + "/tenants/two", "/tenants/two" + openidDocument,
		oauthDocument + "/tenants", oauthDocument + "/tenants/one/x", oauthDocument + "/tenants/%6fne",
		oauthDocument + "/tenants%2fone", oauthDocument + "/x/../tenants/one", oauthDocument + "/TENANTS/one",
		"/tenants/two/oauth2/token", "/oauth2/authorize",
	} {
		t.Run("MD-02 unknown "+path, func(t *testing.T) {
			if reply := get(path); reply.Status != http.StatusNotFound {
				t.Errorf("status %d: %s", reply.Status, reply.Body)
			}
		})
	}
	t.Run("MD-02 the whole way", func(t *testing.T) {
		s.URL = issuer
		agent := s.Agent(t, nil)
		agent.Register(nil)
		tokens := agent.Connect(s.Browser(t), s.User("ada@example.com"))
		if claims := servertest.Claims(t, tokens.Access); claims.Issuer != issuer {
			t.Errorf("iss is %q", claims.Issuer)
		}
		jwks := agent.Get("/.well-known/jwks")
		if jwks.Status != http.StatusOK || !strings.Contains(string(jwks.Body), `"kid"`) {
			t.Errorf("JWKS: %d %s", jwks.Status, jwks.Body)
		}
	})
	for _, path := range []string{"/tenants/one", "/tenants/one/"} {
		t.Run("the issuer itself "+path, func(t *testing.T) {
			reply := get(path)
			if reply.Status != http.StatusOK || !strings.Contains(string(reply.Body), "/tenants/one/login") {
				t.Errorf("%d %s, want the page that says what runs here", reply.Status, reply.Body)
			}
		})
	}
}

func TestEverythingAdvertisedWorks(t *testing.T) {
	s := servertest.StartMCP(t)
	ada := s.User("ada@example.com")
	document := s.Agent(t, nil).Get(oauthDocument).JSON()

	t.Run("MD-04 grants", func(t *testing.T) {
		confidential := s.Client(servertest.Confidential,
			func(c *oauth.Client) { c.GrantTypes = append(c.GrantTypes, oauth.ClientCredentials) })
		agent := s.Agent(t, confidential)
		tokens := agent.Connect(s.Browser(t), ada)
		requests := map[string]func() *servertest.Reply{
			"authorization_code": func() *servertest.Reply {
				return agent.Exchange(s.Browser(t).Authorize(agent.Authorization()).Through(ada).Code())
			},
			"refresh_token":      func() *servertest.Reply { return agent.Refresh(tokens.Refresh) },
			"client_credentials": func() *servertest.Reply { return agent.ClientCredentials() },
		}
		advertised := list(t, document, "grant_types_supported")
		if len(advertised) != len(requests) {
			t.Errorf("%v are advertised, %d are tried", advertised, len(requests))
		}
		for _, grant := range advertised {
			t.Run(grant, func(t *testing.T) {
				if request, ok := requests[grant]; !ok {
					t.Error("advertised and not tried")
				} else if reply := request(); reply.Status != http.StatusOK {
					t.Errorf("%d %s", reply.Status, reply.Body)
				}
			})
		}
		for _, grant := range []string{
			"password", "implicit", "urn:ietf:params:oauth:grant-type:token-exchange",
			"urn:ietf:params:oauth:grant-type:jwt-bearer", "urn:ietf:params:oauth:grant-type:saml2-bearer",
			"urn:ietf:params:oauth:grant-type:device_code", "urn:openid:params:grant-type:ciba",
			"Authorization_Code", "nonsense",
		} {
			t.Run("refused "+grant, func(t *testing.T) {
				s.Agent(t, confidential).
					Token(url.Values{"grant_type": {grant}, "username": {ada.Email}, "password": {ada.Password},
						"assertion": {tokens.Access}, "subject_token": {tokens.Access}}).
					Refused(400, "unsupported_grant_type")
			})
		}
	})

	key := servertest.NewKey(t, "", "ES256")
	// ways are all client authentication methods there are a name for.
	ways := map[string]func(id, secret string) []servertest.Tweak{
		"none": func(id, _ string) []servertest.Tweak { return []servertest.Tweak{servertest.With("client_id", id)} },
		"client_secret_basic": func(id, secret string) []servertest.Tweak {
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
			r.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
			return []servertest.Tweak{servertest.Header("Authorization", r.Header.Get("Authorization"))}
		},
		"client_secret_post": func(id, secret string) []servertest.Tweak {
			return []servertest.Tweak{servertest.With("client_id", id), servertest.With("client_secret", secret)}
		},
		"private_key_jwt": func(id, _ string) []servertest.Tweak {
			signer := s.Agent(t, nil)
			signer.ClientID, signer.Key = id, key
			return []servertest.Tweak{servertest.Assert(signer.Assertion())}
		},
	}
	for _, endpoint := range []string{"token", "revocation", "introspection"} {
		for _, alg := range list(t, document, endpoint+"_endpoint_auth_signing_alg_values_supported") {
			t.Run("MD-04 "+endpoint+" "+alg, func(t *testing.T) {
				key := servertest.NewKey(t, "", alg)
				machine := func(c *oauth.Client) { c.GrantTypes = []oauth.GrantType{oauth.ClientCredentials} }
				agent := s.Agent(t, s.Client(servertest.ResourceServer(servertest.MCP),
					servertest.Signed(servertest.KeySet(t, key)), machine))
				agent.Key = key
				path := strings.TrimPrefix(document[endpoint+"_endpoint"].(string), s.URL)
				params := url.Values{"token": {"nothing"}, "grant_type": {"client_credentials"},
					"resource": {servertest.MCP}}
				reply := agent.Post(path, params, servertest.Assert(agent.Assertion()))
				if reply.Status != http.StatusOK {
					t.Errorf("%d %s", reply.Status, reply.Body)
				}
			})
		}
		advertised := list(t, document, endpoint+"_endpoint_auth_methods_supported")
		for method, way := range ways {
			t.Run("MD-04 "+endpoint+" "+method, func(t *testing.T) {
				kind := func(c *oauth.Client) {
					if c.Method = oauth.Method(method); method == "private_key_jwt" {
						c.JWKS = servertest.KeySet(t, key)
					}
				}
				owner := s.Client(kind)
				if endpoint == "introspection" {
					owner = s.Client(servertest.ResourceServer(servertest.MCP), kind)
				}
				agent := s.Agent(t, owner)
				var params url.Values
				switch endpoint {
				case "token":
					code := s.Browser(t).Authorize(agent.Authorization()).Through(ada).Code()
					params = url.Values{"grant_type": {"authorization_code"}, "code": {code},
						"redirect_uri": {agent.RedirectURI}, "code_verifier": {agent.Verifier}}
				default:
					params = url.Values{"token": {"nothing"}}
				}
				path := strings.TrimPrefix(document[endpoint+"_endpoint"].(string), s.URL)
				reply := agent.Post(path, params, way(owner.ID, owner.Secret)...)
				if works := reply.Status == http.StatusOK; works != slices.Contains(advertised, method) {
					t.Errorf("advertised are %v, the answer is %d %s", advertised, reply.Status, reply.Body)
				}
			})
		}
	}

	t.Run("MD-04 scopes", func(t *testing.T) {
		for _, name := range list(t, document, "scopes_supported") {
			agent := s.Agent(t, s.Client())
			tokens := agent.Connect(s.Browser(t), ada, servertest.With("scope", name))
			got := scope.Set(strings.Fields(tokens.Scope))
			if name == "offline_access" {
				if tokens.Refresh == "" {
					t.Error("offline_access brings no refresh token")
				}
				continue
			}
			if fmt.Sprint(got) != name {
				t.Errorf("asked for %s, got %q", name, tokens.Scope)
			}
		}
		agent := s.Agent(t, s.Client())
		tokens := agent.Connect(s.Browser(t), ada, servertest.With("scope", "admin mcp:tools:weather mcp:tools:*"))
		if tokens.Scope != "mcp:tools:weather" {
			t.Errorf("scopes that are not advertised: %q", tokens.Scope)
		}
	})
	t.Run("MD-04 response types, modes and challenges", func(t *testing.T) {
		agent := s.Agent(t, s.Client())
		for _, kind := range []string{"token", "id_token", "code token", "code id_token", "none"} {
			s.Browser(t).Authorize(agent.Authorization(servertest.With("response_type", kind))).
				Refused("unsupported_response_type")
		}
		for _, mode := range []string{"fragment", "form_post", "query.jwt", "web_message"} {
			s.Browser(t).Authorize(agent.Authorization(servertest.With("response_mode", mode))).
				Refused("invalid_request")
		}
		for _, mode := range list(t, document, "response_modes_supported") {
			s.Browser(t).Authorize(agent.Authorization(servertest.With("response_mode", mode))).Through(ada).Code()
		}
		for _, method := range []string{"plain", "s256", "S512"} {
			s.Browser(t).Authorize(agent.Authorization(servertest.With("code_challenge_method", method))).
				Refused("invalid_request")
		}
	})
}

func TestDocumentHeaders(t *testing.T) {
	s := servertest.StartMCP(t)
	for _, path := range []string{oauthDocument, openidDocument, "/.well-known/jwks", "/.well-known/jwks.json"} {
		t.Run("MD-09 MD-10 "+path, func(t *testing.T) {
			a := s.Agent(t, nil)
			reply := a.Get(path, servertest.Header("Origin", "https://inspector.example"),
				servertest.Header("Cookie", "a=b"))
			for name, want := range map[string]string{
				"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Credentials": "",
				"Cache-Control": "public, max-age=300", "Set-Cookie": "",
			} {
				if got := reply.Header.Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			if kind := reply.Header.Get("Content-Type"); !strings.HasPrefix(kind, "application/json") {
				t.Errorf("Content-Type is %q", kind)
			}
			if !json.Valid(reply.Body) {
				t.Errorf("no JSON: %s", reply.Body)
			}
			preflight := a.Get(path, servertest.Method(http.MethodOptions),
				servertest.Header("Origin", "https://inspector.example"),
				servertest.Header("Access-Control-Request-Method", "GET"),
				servertest.Header("Access-Control-Request-Headers", "mcp-protocol-version"))
			if preflight.Status != http.StatusNoContent || preflight.Header.Get("Access-Control-Allow-Origin") != "*" ||
				preflight.Header.Get("Access-Control-Allow-Headers") != "mcp-protocol-version" {
				t.Errorf("preflight: %d %v", preflight.Status, preflight.Header)
			}
		})
	}
}
