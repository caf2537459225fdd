package adminapi_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/adminapi"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/upstream"
)

// No GET answers with a secret, a hash of one, or a private key, even to whom everything is allowed.
func TestGetTellsNoSecrets_AD10(t *testing.T) {
	const there = "the secret at the provider"
	s := servertest.StartMCP(t, func(c *config.Config) {
		c.Login.Providers = []upstream.Config{{ID: "corp", Preset: "oidc", Issuer: "http://127.0.0.1:1",
			ClientID: "cardea", ClientSecret: there}}
	})
	ops := program(t, s, "cardea:*")
	secrets := map[string]string{"of the provider": there}
	secret := func(what, text string) {
		if text == "" {
			t.Fatalf("there is no secret %s", what)
		}
		secrets[what], secrets["the hash "+what] = text, oauth.Hash(text)
	}
	bot := ops.call("POST", "/clients",
		`{"client_name":"Bot","grant_types":["client_credentials"],"resources":["`+servertest.MCP+`"]}`)
	secret("of a client", bot.Text("client_secret"))
	initial := ops.call("POST", "/initial_access_tokens", `{"name":"Build"}`)
	secret("of an initial access token", initial.Text("token"))
	ada := s.User("ada@example.com")
	tokens := s.Agent(t, s.Client()).Connect(s.Browser(t), ada)
	secret("of a grant", tokens.Refresh)
	secret("of a grant's access", tokens.Access)
	ids := map[string]string{"clients": bot.Text("client_id"), "initial_access_tokens": initial.Text("id"),
		"users": ada.ID, "resources": servertest.MCP, "providers": "corp"}
	s.Update(func(tx *store.Tx) error {
		u, err := tx.User(ada.ID)
		if err != nil {
			return err
		}
		secrets["of a password"], secrets["the hash of a password"] = ada.Password, u.PasswordHash
		keys, err := tx.Keys()
		if err == nil {
			ids["keys"] = keys[0].KID
		}
		return err
	})
	first := func(noun string) string {
		items, _ := ops.call("GET", "/"+noun, "").JSON()["items"].([]any)
		if len(items) == 0 {
			t.Fatalf("there are no %s", noun)
		}
		id, _ := items[0].(map[string]any)["id"].(string)
		return id
	}
	for _, noun := range []string{"grants", "sessions", "events"} {
		ids[noun] = first(noun)
	}
	if reply := ops.call("POST", "/groups", `{"name":"staff"}`); reply.Status != http.StatusCreated {
		t.Fatalf("%d %s", reply.Status, reply.Body)
	}
	ids["groups"] = "staff"
	for _, spec := range adminapi.Specs() {
		if spec.Method != http.MethodGet {
			continue
		}
		path := spec.Path
		if at := strings.Index(path, "{"); at >= 0 {
			end := strings.Index(path, "}")
			path = path[:at] + url.PathEscape(ids[strings.Split(path, "/")[1]]) + path[end+1:]
		}
		reply := ops.call("GET", path, "")
		if reply.Status != http.StatusOK && spec.Path != "/users/invitations/{id}" {
			t.Errorf("%s: %d %s", path, reply.Status, reply.Body)
		}
		for what, text := range secrets {
			if strings.Contains(string(reply.Body), text) {
				t.Errorf("AD-10 %s tells the secret %s", path, what)
			}
		}
		for _, word := range []string{
			`"client_secret":`, `"password":`, `"password_hash"`, `"secret_hash"`, `"d":`, "argon2", "PRIVATE KEY",
		} {
			if strings.Contains(string(reply.Body), word) {
				t.Errorf("AD-10 %s has %s", path, word)
			}
		}
	}
}
