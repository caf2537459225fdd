package console_test

import (
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
)

const keySet = `{"keys":[{"kty":"EC","crv":"P-256","alg":"ES256","kid":"one",` +
	`"x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`

// What the API can set of a client, a form sets too, without JavaScript, and shows when it is opened again. What is
// refused keeps what was typed.
func TestClientFields(t *testing.T) {
	s := servertest.StartMCP(t)
	o := &admin.Operations{DB: s.DB, Issuer: s.URL}
	b := staff(t, s, identity.Operator)
	create := func(kind string, fields ...servertest.Tweak) *servertest.Page {
		page := b.Get("/admin/clients/new")
		return page.Submit(page.Form("name"), append([]servertest.Tweak{servertest.With("name", "Robot"),
			servertest.With("kind", kind)}, fields...)...)
	}
	only := func(name string) admin.Client {
		t.Helper()
		found, _, err := o.Clients(t.Context(), root, admin.ClientQuery{Origin: oauth.ByOperator},
			store.Page{Begins: name})
		if err != nil || len(found) != 1 {
			t.Fatalf("%d clients whose name begins with %s, %v", len(found), name, err)
		}
		return found[0]
	}
	mcp := servertest.With("resource", servertest.MCP)
	keys := servertest.With("jwks", keySet)

	// A machine with keys.
	for want, page := range map[string]*servertest.Page{
		"“Access tokens live for” is a length of time": create("machine", mcp, keys,
			servertest.With("access_token_ttl", "a while")),
		"“Access tokens live for” must be from 1s to 24h": create("machine", mcp, keys,
			servertest.With("access_token_ttl", "48h")),
		"“Public keys” and “Address of the keys” exclude each other": create("machine", mcp, keys,
			servertest.With("jwks_uri", "https://app.example.com/jwks.json")),
		"has no keys either":                                     create("public", keys, servertest.With("redirect_uris", "http://127.0.0.1/cb")),
		"machine&#39;s client needs “MCP servers”":               create("machine", keys),
		"“All MCP servers” and “MCP servers” exclude each other": create("machine", mcp, keys, servertest.With("any_resource", "on")),
	} {
		says(t, page, 422, want, "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", `value="Robot"`, "<details open>")
	}
	says(t, create("machine", mcp, servertest.With("jwks", "{not JSON")), 422, "“Public keys”: ", "{not JSON")
	says(t, create("machine", mcp, keys, servertest.With("access_token_ttl", "5m")), 200, "The client is created",
		"Access tokens live for", "5m", "<code>one</code>")
	robot := only("Robot")
	if robot.Method != oauth.MethodPrivateKeyJWT || robot.AccessTokenTTL.String() != "5m" ||
		strings.Join(robot.KeyIDs, " ") != "one" {
		t.Errorf("%+v", robot)
	}
	edit := func(fields ...servertest.Tweak) *servertest.Page {
		page := b.Get("/admin/clients/" + robot.ID + "/edit")
		return page.Submit(page.Form("name"), fields...)
	}
	version, _ := admin.ETag(robot)
	says(t, edit(), 200, "Saved") // as it is shown
	if same, _ := admin.ETag(only("Robot")); same != version {
		t.Errorf("saved as it was, it is another: %+v", only("Robot"))
	}
	says(t, edit(servertest.With("jwks", "")), 422, "Give the public keys")
	says(t, edit(servertest.With("jwks", ""), servertest.With("jwks_uri", "https://app.example.com/jwks.json"),
		servertest.With("access_token_ttl", "")), 200, "https://app.example.com/jwks.json")
	if robot = only("Robot"); len(robot.JWKS) > 0 || robot.JWKSURI != "https://app.example.com/jwks.json" ||
		robot.AccessTokenTTL != 0 {
		t.Errorf("%+v", robot)
	}

	// A machine for all MCP servers stays one when something else is changed.
	says(t, edit(servertest.Without("resource"), servertest.With("any_resource", "on")), 200, "Saved")
	says(t, edit(servertest.With("name", "Robot 2")), 200, "Saved", "Robot 2")
	if robot = only("Robot"); len(robot.Resources) > 0 || robot.Name != "Robot 2" {
		t.Errorf("%+v", robot)
	}
	says(t, edit(servertest.Without("any_resource"), mcp), 200, "Saved")
	if robot = only("Robot"); strings.Join(robot.Resources, " ") != servertest.MCP {
		t.Errorf("%+v", robot)
	}
}

// One pair of credentials introspects for several MCP servers, and the form changes for which.
func TestServerCredentials(t *testing.T) {
	s := servertest.StartMCP(t)
	o := &admin.Operations{DB: s.DB, Issuer: s.URL}
	const files = "https://mcp.example.com/files"
	s.Resource(files, "files")
	b := staff(t, s, identity.Operator)
	page := b.Get("/admin/clients/new")
	page = page.Submit(page.Form("name"), servertest.With("name", "Gateway"), servertest.With("kind", "server"))
	says(t, page, 422, "Choose the MCP servers that these credentials are for.")
	page = page.Submit(page.Form("name"), servertest.With("kind", "server"),
		servertest.With("resource", servertest.MCP))
	says(t, page, 200, "The client is created")
	found, _, err := o.Clients(t.Context(), root, admin.ClientQuery{}, store.Page{Begins: "Gateway"})
	if err != nil || len(found) != 1 || strings.Join(found[0].ResourceServers, " ") != servertest.MCP {
		t.Fatalf("%+v, %v", found, err)
	}
	path := "/admin/clients/" + found[0].ID
	page = b.Get(path + "/edit")
	says(t, page, 200, `value="`+servertest.MCP+`" checked`, files)
	both := servertest.With("resource", servertest.MCP, files)
	says(t, page.Submit(page.Form("name"), both), 200, "Saved", "introspects tokens for <code>"+files+"</code>",
		"introspects tokens for <code>"+servertest.MCP+"</code>")
	says(t, page.Submit(page.Form("name"), servertest.Without("resource")), 422, "name at least one MCP server")
}

// What the form does not offer and a client is bound to stays when something else is changed.
func TestClientKeepsServers(t *testing.T) {
	s := servertest.StartMCP(t)
	o := &admin.Operations{DB: s.DB, Issuer: s.URL}
	api := s.URL + admin.APIPath
	c, err := o.CreateClient(t.Context(), root, admin.NewClient{ClientTerms: admin.ClientTerms{Name: new("Ops"),
		GrantTypes: []oauth.GrantType{oauth.ClientCredentials}, Resources: []string{api},
		Scope: new("cardea:clients:read")}})
	if err != nil {
		t.Fatal(err)
	}
	b := staff(t, s, identity.Owner)
	page := b.Get("/admin/clients/" + c.ID + "/edit")
	says(t, page, 200, api)
	says(t, page.Submit(page.Form("name"), servertest.With("name", "Operations")), 200, "Saved", "Operations", api)
}

// Only an owner makes credentials that sign people in, and nobody else sees their secret.
func TestSignInClient(t *testing.T) {
	s := servertest.StartMCP(t)
	create := func(b *servertest.Browser) *servertest.Page {
		page := b.Get("/admin/clients/new")
		return page.Submit(page.Form("name"), servertest.With("name", "Our app"), servertest.With("kind", "login"))
	}
	operator := staff(t, s, identity.Operator)
	says(t, create(operator), 403, "only an owner makes or changes them")
	owner := staff(t, s, identity.Owner)
	says(t, create(owner), 200, "cardea_cs_")
	says(t, create(owner), 422, "signs people in already", `value="Our app"`)
	page := owner.Get("/admin/clients?q=our")
	id := page.Body[strings.Index(page.Body, "/admin/clients/mcp_")+len("/admin/clients/"):]
	id = id[:strings.Index(id, `"`)]
	path := "/admin/clients/" + id
	says(t, owner.Get(path), 200, "it says who has signed in", path+"/edit", "/rotate-secret")
	lacks(t, operator.Get(path), path+"/edit", "/rotate-secret")
	page = operator.Get(path + "/rotate-secret")
	page = page.Submit(page.Form("csrf"))
	says(t, page, 403)
	lacks(t, page, "cardea_cs_")
	page = owner.Get(path + "/edit")
	lacks(t, page, `name="scopes"`, `name="redirect_uris"`)
	says(t, page.Submit(page.Form("name"), servertest.With("name", "Our application")), 200, "Saved", "Our application")
}
