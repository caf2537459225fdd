package adminapi_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/client"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
)

// once is a body that calls before when it is first read.
type once struct {
	io.Reader
	before func()
}

func (o *once) Read(p []byte) (int, error) {
	if o.before != nil {
		o.before()
		o.before = nil
	}
	return o.Reader.Read(p)
}

// A token that ends while the body of its request is on its way changes nothing: a thief could otherwise begin a
// request and finish it after the token was revoked.
func TestAccessEndsMeanwhile(t *testing.T) {
	s := servertest.StartMCP(t)
	ops := program(t, s, "cardea:groups:write", "cardea:users:write")
	owner := personal(t, s, identity.Owner, "cardea:*")
	transport := &http.Transport{ExpectContinueTimeout: time.Minute} // the body is sent once the server reads it
	defer transport.CloseIdleConnections()
	post := func(by api, path, body string, before func()) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/admin/api/v1"+path,
			&once{strings.NewReader(body), before})
		if err != nil {
			t.Fatal(err)
		}
		r.ContentLength = int64(len(body))
		r.Header.Set("Authorization", "Bearer "+by.token)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Expect", "100-continue")
		resp, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	nothing := func() {}
	for _, c := range []struct {
		by         api
		path, body string
		before     func()
		want       int
	}{
		{ops, "/groups", `{"name":"one"}`, nothing, http.StatusCreated},
		{owner, "/groups", `{"name":"two"}`, nothing, http.StatusCreated},
		{ops, "/groups", `{"name":"three"}`, func() {
			s.Update(func(tx *store.Tx) error { return tx.DisableClient(ops.ClientID) })
		}, http.StatusForbidden},
		{ops, "/groups", `{"name":"four"}`, nothing, http.StatusUnauthorized},
		{owner, "/users", `{"email":"eve@example.com","password":"correct horse battery"}`, func() {
			s.Update(func(tx *store.Tx) error { return tx.DisableClient(owner.ClientID) })
		}, http.StatusForbidden},
	} {
		if got := post(c.by, c.path, c.body, c.before); got != c.want {
			t.Errorf("%s %s: status %d, want %d", c.path, c.body, got, c.want)
		}
	}
}

// An invitation of a program ends with the right of the program to invite, and is not that of another program of the
// same id.
func TestInvitationOfProgram(t *testing.T) {
	s := servertest.StartMCP(t)
	o := &admin.Operations{DB: s.DB, Issuer: s.URL, Directory: &client.Directory{DB: s.DB}}
	change := servertest.ChangeClient
	for what, end := range map[string]func(*store.Tx, string) error{
		"is as it was": nil,
		"is disabled":  (*store.Tx).DisableClient,
		"is deleted":   (*store.Tx).DeleteClient,
		"is deleted and created again": func(tx *store.Tx, id string) error {
			c, err := tx.Client(id)
			if err != nil {
				return err
			}
			if err := tx.DeleteClient(id); err != nil {
				return err
			}
			c.Incarnation, c.CreatedAt = "", tx.Now()
			return tx.CreateClient(c, "")
		},
		"is bound to another MCP server": change(func(c *oauth.Client) { c.Resources = []string{servertest.MCP} }),
		"is bound to none":               change(func(c *oauth.Client) { c.Resources = nil }),
		"may only read":                  change(func(c *oauth.Client) { c.Allowed = []string{"cardea:users:read"} }),
		"has another grant type": change(func(c *oauth.Client) {
			c.GrantTypes, c.RedirectURIs = []oauth.GrantType{oauth.AuthorizationCode}, []string{"https://a.example/cb"}
		}),
	} {
		ops := program(t, s, "cardea:users:write")
		invited := ops.call("POST", "/users/invite", `{"email":"eve@example.com"}`)
		if invited.Status != http.StatusCreated {
			t.Fatalf("%d %s", invited.Status, invited.Body)
		}
		_, token, _ := strings.Cut(invited.Text("link"), "#")
		s.Clock.Advance(time.Second)
		var want error
		if end != nil {
			want = admin.ErrInvitationEnded
			s.Update(func(tx *store.Tx) error { return end(tx, ops.ClientID) })
		}
		if _, err := o.OpenInvitation(t.Context(), token); !errors.Is(err, want) {
			t.Errorf("the program %s: %v, want %v", what, err, want)
		}
	}
}
