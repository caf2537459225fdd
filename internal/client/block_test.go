package client_test

import (
	"testing"

	"github.com/cardea-auth/cardea/internal/client"
	"github.com/cardea-auth/cardea/internal/oauth"
)

// document returns a client with a metadata document at the URL id, which was read unless it has no name.
func document(id, name string, redirects ...string) *oauth.Client {
	c := &oauth.Client{ID: id, Origin: oauth.ByDocument}
	c.Name, c.RedirectURIs = name, redirects
	return c
}

// A block keeps a client out whose document comes back, and nobody else.
func TestBlockOf(t *testing.T) {
	const local = "http://127.0.0.1:5555/callback"
	for _, test := range []struct {
		name    string
		blocked *oauth.Client
		out, in []*oauth.Client
	}{
		{"a document that was never read", document("https://evil.example/client.json", ""), []*oauth.Client{
			document("https://evil.example/other.json", ""),
			document("https://EVIL.example.:8443/client.json", ""),
			document("https://www.evil.example/client.json", "Fresh", local),
		}, []*oauth.Client{
			document("https://honest.example/client.json", ""),
			document("https://evil.example.org/client.json", ""),
			document("https://honest.example/client.json", "Honest", local),
		}},
		{"a document that was read", document("https://evil.example/client.json", "Evil App", local), []*oauth.Client{
			document("https://other.example/client.json", "evil\u200b  app\ufe0f", "http://127.0.0.1/callback"),
		}, []*oauth.Client{
			document("https://other.example/client.json", ""),
			document("https://other.example/client.json", "Honest", local),
		}},
		{"a document on this computer", document("http://127.0.0.1:9000/client.json", "Evil", local), []*oauth.Client{
			document("http://127.0.0.1:9000/other.json", ""),
			document("http://LOCALHOST:9000/client.json", "Fresh", "http://127.0.0.1/other"),
			document("http://[::1]:9000/client.json", ""),
			document("http://127.0.0.1:9001/client.json", "Evil", local),
		}, []*oauth.Client{
			document("http://127.0.0.1:9001/client.json", ""),
			document("https://honest.example/client.json", "Honest", "http://127.0.0.1:9000/callback"),
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			blocks := []*oauth.Block{{ClientID: test.blocked.ID, Marks: client.MarksOf(test.blocked)}}
			for want, clients := range map[bool][]*oauth.Client{true: append(test.out, test.blocked), false: test.in} {
				for _, c := range clients {
					if got := client.BlockOf(blocks, c) != nil; got != want {
						t.Errorf("%s with the name %q is kept out: %v, want %v", c.ID, c.Name, got, want)
					}
				}
			}
		})
	}
}
