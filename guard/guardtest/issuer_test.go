package guardtest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/guard"
	"github.com/cardea-auth/cardea/guard/guardtest"
)

// A test of an MCP server: a valid token is accepted, others are refused.
func Example() {
	issuer := guardtest.NewIssuer()
	defer issuer.Close()
	g, err := guard.New(guard.Config{Issuer: issuer.URL, Resource: "https://mcp.example.com/mcp"})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, token := range []string{
		issuer.Token(guardtest.Claims{Subject: "ada", Audience: "https://mcp.example.com/mcp"}),
		issuer.Token(guardtest.Claims{Subject: "ada", Audience: "https://other.example.com/mcp"}),
		issuer.Token(guardtest.Claims{Subject: "ada", Audience: "https://mcp.example.com/mcp", TTL: -time.Minute}),
		issuer.Token(guardtest.Claims{Audience: "https://mcp.example.com/mcp", Extra: map[string]any{"sub": nil}}),
	} {
		var refusal *guard.Error
		if verified, err := g.Verify(context.Background(), token); errors.As(err, &refusal) {
			fmt.Println(refusal.Status, refusal.Description)
		} else {
			fmt.Println(verified.Subject)
		}
	}
	// Output:
	// ada
	// 401 The token's audience is not https://mcp.example.com/mcp alone.
	// 401 The token has expired; refresh it.
	// 401 The token has no subject: sub is missing.
}

// A code and a refresh token work only once, and a wrong verifier is refused.
func TestGrants(t *testing.T) {
	issuer := guardtest.NewIssuer()
	defer issuer.Close()
	form := func(pairs ...string) url.Values {
		v := url.Values{"client_id": {issuer.ClientID}}
		for n := 0; n < len(pairs); n += 2 {
			v.Set(pairs[n], pairs[n+1])
		}
		return v
	}
	status := func(v url.Values) int {
		resp, err := http.PostForm(issuer.URL+"/oauth2/token", v)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	code := func() string {
		browser := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}}
		q := form("response_type", "code", "code_challenge_method", "S256", "redirect_uri", "http://127.0.0.1/cb",
			"code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM") // RFC 7636, appendix B
		resp, err := browser.Get(issuer.URL + "/oauth2/authorize?" + q.Encode())
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		_, after, _ := strings.Cut(resp.Header.Get("Location"), "code=")
		value, _, _ := strings.Cut(after, "&")
		return value
	}
	const verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	once := form("grant_type", "authorization_code", "redirect_uri", "http://127.0.0.1/cb", "code_verifier", verifier,
		"code", code())
	for name, c := range map[string]struct {
		form url.Values
		want int
	}{
		"wrong verifier": {form("grant_type", "authorization_code", "redirect_uri", "http://127.0.0.1/cb",
			"code_verifier", "x", "code", code()), 400},
		"wrong redirect": {form("grant_type", "authorization_code", "redirect_uri", "http://127.0.0.1/x",
			"code_verifier", verifier, "code", code()), 400},
		"no secret":          {form("grant_type", "client_credentials"), 400},
		"client credentials": {form("grant_type", "client_credentials", "client_secret", issuer.ClientSecret), 200},
		"unknown grant":      {form("grant_type", "password"), 400},
		"unknown refresh":    {form("grant_type", "refresh_token", "refresh_token", "x"), 400},
	} {
		if got := status(c.form); got != c.want {
			t.Errorf("%s: %d", name, got)
		}
	}
	if first, second := status(once), status(once); first != 200 || second != 400 {
		t.Errorf("a code: %d, then %d", first, second)
	}
}
