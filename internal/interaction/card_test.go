package interaction_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/interaction"
)

func TestDestinationOf(t *testing.T) {
	for uri, want := range map[string]interaction.Destination{
		"http://127.0.0.1:5000/cb":       {Host: "127.0.0.1", Loopback: true},
		"http://[::1]:5000/cb":           {Host: "::1", Loopback: true},
		"http://localhost/cb":            {Host: "localhost", Loopback: true},
		"https://vscode.dev/redirect":    {Host: "vscode.dev"},
		"cursor://anysphere.cursor/cb":   {Scheme: "cursor"},
		"com.example.app:/oauth":         {Scheme: "com.example.app"},
		"http://127.0.0.1.evil.test/x":   {Host: "127.0.0.1.evil.test"},
		"https://user@evil.test:8443/cb": {Host: "evil.test:8443"},
		"://":                            {},
	} {
		if d := cmp.Diff(want, interaction.DestinationOf(uri)); d != "" {
			t.Errorf("%s: %s", uri, d)
		}
	}
}
