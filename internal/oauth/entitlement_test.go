package oauth_test

import (
	"testing"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/scope"
)

func TestEntitledTo(t *testing.T) {
	r := &oauth.Resource{Scopes: []oauth.ResourceScope{
		{Name: "a:read"}, {Name: "a:write", Groups: []string{"staff", "admins"}},
		{Name: "b:*", Groups: []string{"staff"}}, {Name: "b:c"},
	}}
	staff, nobody := []string{"staff"}, []string(nil)
	for _, c := range []struct {
		groups      []string
		asked, want string
	}{
		{nobody, "a:read a:write", "a:read"},
		{staff, "a:read a:write", "a:read a:write"},
		{[]string{"admins"}, "a:write b:c", "a:write"},
		{nobody, "a:*", "a:read"},
		{staff, "a:*", "a:*"},
		{nobody, "b:c", ""}, // the wildcard above it is for a group
		{nobody, "b:*", ""},
		{staff, "b:* b:c", "b:* b:c"},
		{nobody, "offline_access a:read", "offline_access a:read"},
	} {
		asked, err := scope.Parse(c.asked)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.EntitledTo(c.groups, asked).String(); got != c.want {
			t.Errorf("%v may have %q of %q, want %q", c.groups, got, c.asked, c.want)
		}
	}
}
