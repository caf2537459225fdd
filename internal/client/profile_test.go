package client_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/client"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
)

// profiled has, for each profile by name, the client that needs it, the redirect URIs that it allows and some that it
// does not.
var profiled = map[string]struct {
	id         string
	registered []string
	answered   []string
	not        []string
}{
	"callback-id-below-the-registered-path": {
		id:         "https://chatgpt.com/oauth/codex/client.json",
		registered: []string{"http://127.0.0.1/callback", "http://localhost/callback"},
		answered:   []string{"http://127.0.0.1:41234/callback/Xy_-9", "http://localhost:1/callback/a"},
		not: []string{
			"http://127.0.0.1:41234/callback/", "http://127.0.0.1:41234/callback/a/b", "http://127.0.0.1:41234/other/a",
			"http://127.0.0.1:41234/callback/..",
			"http://127.0.0.1:41234/callback/%2e%2e", "http://127.0.0.1:41234/callback/a?x=1",
			"http://127.0.0.1:41234/callback/a#x", "http://evil.example/callback/a",
			"https://127.0.0.1/callback/a", "http://127.0.0.1:41234/callbacka",
			"http://127.0.0.1@evil.example/callback/a", "http://[::1]:1/callback/a",
		},
	},
	"callback-path-that-is-not-listed": {
		id:         "https://github.com/copilot/cli/client-metadata.json",
		registered: []string{"http://127.0.0.1:33418/"},
		answered:   []string{"http://127.0.0.1:41234/callback"},
		not: []string{
			"http://127.0.0.1:41234/callback/", "http://127.0.0.1:41234/callback/a", "http://127.0.0.1:41234/other",
			"http://localhost:41234/callback",
			"https://127.0.0.1:41234/callback", "http://127.0.0.1.evil.example/callback",
		},
	},
	"callback-on-either-domain": {
		id:         "https://claude.ai/oauth/mcp-oauth-client-metadata",
		registered: []string{"https://claude.ai/api/mcp/auth_callback"},
		answered:   []string{"https://claude.com/api/mcp/auth_callback"},
		not: []string{"https://claude.com/api/mcp/auth_callback/", "https://claude.com/",
			"https://claude.com.evil.example/api/mcp/auth_callback", "http://claude.com/api/mcp/auth_callback"},
	},
}

func TestProfiles(t *testing.T) {
	for _, p := range client.Profiles {
		t.Run(p.Name, func(t *testing.T) {
			want, ok := profiled[p.Name]
			if !ok || p.Reason == "" || p.LookAgain.IsZero() || len(p.ClientIDs)+len(p.RedirectHosts) == 0 {
				t.Fatalf("a profile needs a reason, look_again, a client to which it applies, and a case here: %+v", p)
			}
			pinned := t.TempDir()
			document := `{"client_id":"` + want.id + `","client_name":"Agent","redirect_uris":["` +
				strings.Join(want.registered, `","`) + `"]}`
			if err := os.WriteFile(filepath.Join(pinned, "agent.json"), []byte(document), 0o600); err != nil {
				t.Fatal(err)
			}
			s := servertest.StartWeather(t, func(c *config.Config) { c.Registration.PinnedDir = pinned })
			ada := s.User("ada@example.com")
			agent := s.Agent(t, nil)
			agent.ClientID = want.id
			for _, agent.RedirectURI = range want.answered {
				tokens := agent.Connect(s.Browser(t), ada)
				agent.Refresh(tokens.Refresh).Tokens()
			}
			for _, agent.RedirectURI = range want.not {
				s.Browser(t).Authorize(agent.Authorization()).ErrorPage(400)
			}
			agent.RedirectURI = want.registered[0]
			agent.Connect(s.Browser(t), ada)

			uses := map[string]int64{}
			s.Update(func(tx *store.Tx) error {
				all, err := tx.ProfileUses()
				for _, use := range all {
					uses[use.Name] = use.Uses
				}
				return err
			})
			if len(uses) != 1 || uses[p.Name] != int64(len(want.answered)) {
				t.Errorf("counted %v, want %d of %s", uses, len(want.answered), p.Name)
			}
			events := s.Events("authorize.code")
			if events[1].Detail["profile"] != p.Name || events[0].Detail["profile"] != "" {
				t.Errorf("the audit event does not name the profile: %+v", events[:2])
			}

			// The profile does not apply to other clients.
			other := s.Agent(t,
				s.Client(servertest.RedirectURIs("http://127.0.0.1/", "http://localhost/",
					"https://agent.example.com/callback")))
			for _, other.RedirectURI = range want.answered {
				s.Browser(t).Authorize(other.Authorization()).ErrorPage(400)
			}
		})
	}
	t.Run("by the host of a registered redirect URI", func(t *testing.T) {
		c := &oauth.Client{ID: "mcp_1",
			Metadata: oauth.Metadata{RedirectURIs: []string{"https://claude.ai/api/mcp/auth_callback"}}}
		if ok, profile := client.MatchRedirectURI(c, "https://claude.com/api/mcp/auth_callback"); !ok || profile == "" {
			t.Errorf("MatchRedirectURI = %v, %q; want true by a profile", ok, profile)
		}
		c.RedirectURIs = []string{"https://claude.ai.evil.example/api/mcp/auth_callback"}
		if ok, _ := client.MatchRedirectURI(c, "https://claude.com/api/mcp/auth_callback"); ok {
			t.Error("another host will do")
		}
	})
}

// products are names of clients in use.
var products = regexp.MustCompile(`(?i)\b(claude|chatgpt|codex|copilot|vs ?code|gemini|antigravity|opencode|zed|perplexity|windsurf)\b`)

// TestNoClientInTheCode finds exceptions for certain clients outside profiles.yaml. The demo may name them because it
// tells people how to connect their clients, and the doctor because it tells which of them a fault keeps out.
func TestNoClientInTheCode(t *testing.T) {
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if path == filepath.Join("..", "demo") || path == filepath.Join("..", "doctor") {
			return fs.SkipDir
		}
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if err == nil {
			if found := products.Find(text); found != nil {
				t.Errorf("%s names %s: an exception for one client must be an entry of profiles.yaml", path, found)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
