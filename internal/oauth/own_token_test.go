package oauth_test

import (
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// A client's own token belongs to the client and the resource that existed when it was issued.
func TestIsOwnToken(t *testing.T) {
	made := time.Unix(1_900_000_000, 0)
	client := &oauth.Client{ID: "mcp_1", Incarnation: "inc_1", CreatedAt: made}
	older := &oauth.Client{ID: "mcp_1", CreatedAt: made} // from before incarnations existed
	resource := &oauth.Resource{ID: "res_1", CreatedAt: made}
	again := &oauth.Client{ID: "mcp_1", Incarnation: "inc_2", CreatedAt: made}
	elsewhere := &oauth.Resource{ID: "res_2", CreatedAt: made.Add(time.Minute)}
	marked := oauth.OwnTokenPrefix(client, resource) + "x"
	for _, test := range []struct {
		name   string
		claims oauth.Claims
		client *oauth.Client
		at     *oauth.Resource
		want   bool
	}{
		{"its own", oauth.Claims{ID: marked}, client, resource, true},
		{"the client was created again", oauth.Claims{ID: marked}, again, resource, false},
		{"the client is older", oauth.Claims{ID: marked}, older, resource, false},
		{"the resource was created again", oauth.Claims{ID: marked}, client, elsewhere, false},
		{"unmarked, of an older client", oauth.Claims{ID: "tok_x", IssuedAt: made.Unix()}, older, resource, true},
		{"unmarked, of a newer client", oauth.Claims{ID: "tok_x", IssuedAt: made.Unix()}, client, resource, false},
		{"unmarked, from before its resource", oauth.Claims{ID: "tok_x", IssuedAt: made.Unix()}, older, elsewhere,
			false},
		{"unmarked, from before its client", oauth.Claims{ID: "tok_x", IssuedAt: made.Unix() - 1}, older, resource,
			false},
		{"no jti", oauth.Claims{IssuedAt: made.Unix()}, client, resource, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.claims.IsOwnToken(test.client, test.at); got != test.want {
				t.Errorf("IsOwnToken = %v, want %v", got, test.want)
			}
		})
	}
}
