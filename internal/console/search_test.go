package console_test

import (
	"fmt"
	"testing"

	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
)

func TestListsAreSearched(t *testing.T) {
	s := servertest.StartMCP(t)
	found := s.Client(func(c *oauth.Client) { c.Name = "Zebra client" })
	self := s.Client(servertest.Unapproved, func(c *oauth.Client) { c.Name = "Own client" })
	for i := range 60 {
		s.Client(func(c *oauth.Client) { c.Name = fmt.Sprint("Other ", i) })
	}
	s.User("zoe@example.com")
	b := staff(t, s, identity.Operator)
	for query, want := range map[string]string{
		"q=zebra": "Zebra client", "q=" + found.ID: "Zebra client", "q=%20ZEB%20": "Zebra client",
		"origin=registration": "Own client", "q=own&origin=registration": "Own client",
	} {
		page := b.Get("/admin/clients?" + query)
		says(t, page, 200, want)
		lacks(t, page, "Other 1", "No client matches")
	}
	for _, query := range []string{"q=nothing", "q=zebra&origin=registration", "origin=nonsense",
		"q=" + self.ID + "&origin=operator", "q=%25"} {
		says(t, b.Get("/admin/clients?"+query), 200, "No client matches")
	}
	for _, query := range []string{"q=zoe", "q=ZOE@example.com"} {
		page := b.Get("/admin/people?" + query)
		says(t, page, 200, "zoe@example.com")
		lacks(t, page, `<bdi>Staff</bdi>`)
	}
	says(t, b.Get("/admin/people?q=nobody"), 200, "Nobody matches")
}
