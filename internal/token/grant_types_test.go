package token_test

import (
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
)

func TestGrantTypesServed(t *testing.T) {
	s := servertest.StartWeather(t)
	a := s.Agent(t, s.Client(servertest.Confidential))
	var advertised []any
	for _, g := range oauth.GrantTypes() {
		advertised = append(advertised, string(g))
		switch reply := a.Token(url.Values{"grant_type": {string(g)}}); reply.Text("error") {
		case "unsupported_grant_type", "server_error":
			t.Errorf("%s is in the table and not served: %s", g, reply.Body)
		}
	}
	diff := cmp.Diff(advertised, a.Get("/.well-known/oauth-authorization-server").JSON()["grant_types_supported"])
	if diff != "" {
		t.Errorf("grant_types_supported (-table +metadata):\n%s", diff)
	}
	for _, g := range []string{"password", "implicit", "AUTHORIZATION_CODE", "authorization_code "} {
		a.Token(url.Values{"grant_type": {g}}).Refused(400, "unsupported_grant_type")
	}
}
