package token_test

import (
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/guard"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
)

// A resource whose tokens have aud and scopes as lists gets them so in tokens and in introspection. All else is as with
// the standard shape: they have scope, and are accepted, introspected and revoked alike.
func TestShapes(t *testing.T) {
	s := open(t)
	machine := s.Client(servertest.Confidential, func(c *oauth.Client) {
		c.GrantTypes = []oauth.GrantType{oauth.ClientCredentials}
	})
	server := s.Agent(t, s.Client(servertest.Confidential, servertest.ResourceServer(servertest.MCP)))
	g, err := guard.New(guard.Config{Issuer: s.URL, Resource: servertest.MCP, Now: s.Clock.Now,
		Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	handler := g.Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := guard.FromContext(r.Context())
		w.Header().Set("X-Seen", token.Audience+" "+token.Scopes.String())
	}))
	seen := func(token string) string {
		r, w := httptest.NewRequest(http.MethodGet, servertest.MCP, nil), httptest.NewRecorder()
		r.Header.Set("Authorization", "Bearer "+token)
		handler.ServeHTTP(w, r)
		return w.Header().Get("X-Seen")
	}
	own := s.Agent(t, machine)
	public := s.Agent(t, s.Client())
	tokens := map[*servertest.Agent]func() string{
		public: func() string { return public.Connect(s.browser, s.ada).Access },
		own: func() string {
			return own.ClientCredentials(servertest.With("resource", servertest.MCP)).Text("access_token")
		},
	}
	for _, shape := range []oauth.TokenShape{oauth.ShapeStandard, oauth.ShapeLists, oauth.ShapeStandard} {
		s.Update(func(tx *store.Tx) error {
			return resourceAs(func(r *oauth.Resource) { r.TokenShape = shape })(tx, "")
		})
		for of, issue := range tokens {
			token, name := issue(), of.ClientID
			claims, answer := payload(t, token), server.Introspect(token).JSON()
			text, _ := claims["scope"].(string)
			aud, scopes := any(servertest.MCP), any(nil)
			if shape == oauth.ShapeLists {
				aud, scopes = []any{servertest.MCP}, list(text)
			}
			want := map[string]any{"scope": text, "aud": aud, "scopes": scopes}
			for place, got := range map[string]map[string]any{"token": claims, "introspection": answer} {
				some := map[string]any{"scope": got["scope"], "aud": got["aud"], "scopes": got["scopes"]}
				if diff := cmp.Diff(want, some); diff != "" || text == "" {
					t.Errorf("%s %s, %s (-want +got):\n%s", shape, name, place, diff)
				}
			}
			if got := seen(token); got != servertest.MCP+" "+text {
				t.Errorf("%s %s: the guard sees %q", shape, name, got)
			}
			of.Revoke(token)
			if server.Introspect(token).JSON()["active"] != false {
				t.Errorf("%s %s: it is active after it was revoked", shape, name)
			}
		}
	}
}

// A token of ours with an aud that names more than one resource, or none, is none of ours, because no resource has it.
func TestAudiences(t *testing.T) {
	for text, want := range map[string]string{
		`{"aud":"a"}`: "a", `{"aud":["a"]}`: "a", `{}`: "", `{"aud":[]}`: "!", `{"aud":["a","b"]}`: "!", `{"aud":1}`: "!",
		`{"aud":["a",1]}`: "!", `{"aud":{"a":"b"}}`: "!", `{"aud":[["a"]]}`: "!",
	} {
		var claims oauth.Claims
		err := json.Unmarshal([]byte(text), &claims)
		if (err != nil) != (want == "!") || err == nil && claims.Audience != want {
			t.Errorf("%s: %q, %v", text, claims.Audience, err)
		}
	}
}

// payload returns the claims of token as JSON has them.
func payload(t *testing.T, token string) (claims map[string]any) {
	t.Helper()
	text, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err == nil {
		err = json.Unmarshal(text, &claims)
	}
	if err != nil {
		t.Fatal(err)
	}
	return claims
}

// list returns the names in text, which spaces separate, as JSON has them.
func list(text string) []any {
	all := []any{}
	for name := range strings.FieldsSeq(text) {
		all = append(all, name)
	}
	return all
}
