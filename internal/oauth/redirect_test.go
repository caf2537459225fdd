package oauth_test

import (
	"testing"

	"github.com/cardea-auth/cardea/internal/oauth"
)

func TestCheckRedirectURI(t *testing.T) {
	schemes := []string{"cursor"}
	accepted := map[string]string{ // and their normalised form
		"https://a.example/cb":                               "https://a.example/cb",
		"HTTPS://A.Example:443/CB?X=%2F":                     "https://a.example:443/CB?X=%2F",
		"http://LOCALHOST/":                                  "http://localhost/",
		"http://[::1]:8000/cb":                               "http://[::1]:8000/cb",
		"http://app.localhost:8000/cb":                       "http://app.localhost:8000/cb",
		"com.example.app:/cb":                                "com.example.app:/cb",
		"Com.Example.App:cb":                                 "com.example.app:cb",
		"xn--p1ai.example:/cb":                               "xn--p1ai.example:/cb",
		"cursor://anysphere.cursor-mcp/oauth/callback":       "cursor://anysphere.cursor-mcp/oauth/callback",
		"https://xn--bcher-kva.example/cb?tenant=1&scope=a+": "https://xn--bcher-kva.example/cb?tenant=1&scope=a+",
	}
	for uri, want := range accepted {
		if got, err := oauth.CheckRedirectURI(uri, schemes); err != nil || got != want {
			t.Errorf("CheckRedirectURI(%q) = %q, %v, want %q", uri, got, err, want)
		}
	}
	refused := []string{
		"search-ms:query=x", "ms-msdt:/id", "itms-services://?action=x", "chrome-extension://abc/x",
		"smb://evil.example/x", "shell:x", "tel:1",
		"vscode://x/y", "cursors://x", "x-apple.systempreferences:com.apple.preference", "microsoft.windows.camera:",
		"ms-settings.privacy:x",
		"z39.50r://a.example/x", "com.:/cb", ".com.example:/cb", "com..example:/cb", "javascript:alert(1)",
		"c.example:/cb",
		"http://localho%C5%BFt/", "http://localho\u017ft/", "http://%C5%BF.localhost/", "https://%E2%84%AA.example/",
		"http://localhost./",
		"http://-x.localhost/", "http://.localhost/", "http://localhost.evil.example/", "https://a.example:/cb",
		"cursor://%41/x",
	}
	for _, uri := range refused {
		if got, err := oauth.CheckRedirectURI(uri, schemes); err == nil {
			t.Errorf("CheckRedirectURI(%q) = %q, want a refusal", uri, got)
		}
	}
}

func TestSameRedirectURI(t *testing.T) {
	tests := []struct {
		authorized, named string
		want              bool
	}{
		{"http://127.0.0.1:33418/", "http://127.0.0.1:33418", true},
		{"https://a.example:443/cb", "https://A.example/cb", true},
		{"https://a.example/cb", "https://a.example/cb/", false},
		{"http://127.0.0.1:1/cb", "http://127.0.0.1:2/cb", false},
		{"http://127.0.0.1:80/cb", "http://127.0.0.1/cb", true},
		{"com.example.app:/cb", "com.example.app:/cb", true},
		{"com.example.app:/cb", "com.example.app:/other", false},
		{"https://a.example/cb", "", false},
	}
	for _, test := range tests {
		if got := oauth.SameRedirectURI(test.authorized, test.named); got != test.want {
			t.Errorf("SameRedirectURI(%q, %q) = %t", test.authorized, test.named, got)
		}
	}
}

// FuzzRedirectURI looks for a URI that does not match its own registered form, or whose registered form changes when it
// is registered again.
func FuzzRedirectURI(f *testing.F) {
	for _, uri := range []string{"https://a.example/cb", "HTTP://LOCALHOST:80", "com.example.app:/cb",
		"http://localho%C5%BFt/", "https://a.example?x", "http://[::1]:1/"} {
		f.Add(uri)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		form, err := oauth.CheckRedirectURI(uri, nil)
		if err != nil {
			return
		}
		if again, err := oauth.CheckRedirectURI(form, nil); err != nil || again != form {
			t.Errorf("%q is registered as %q, and that as %q: %v", uri, form, again, err)
		}
		if !oauth.MatchRedirectURI([]string{form}, uri) {
			t.Errorf("%q does not match its own form %q", uri, form)
		}
	})
}
