package console

import (
	"cmp"
	"net/url"
	"slices"
	"strings"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/web"
)

// accessRoutes are the pages of the grants and the sessions.
func (e *Endpoint) accessRoutes() []web.Route {
	return []web.Route{
		e.route("/admin/grants", e.show(e.grants), nil),
		e.form("/admin/grants/{id}/revoke", admin.Grants, "grant.revoke", e.confirmRevokeGrant, e.revokeGrant),
		e.route("/admin/sessions", e.show(e.sessions), nil),
		e.form("/admin/sessions/{id}/revoke", admin.Sessions, "session.revoke",
			e.confirmRevokeSession, e.revokeSession),
	}
}

// grantList is the body of the list of grants.
type grantList struct {
	Grants []admin.Grant
	admin.GrantQuery
	All  bool // those that are over are shown too
	Next string
}

func (l grantList) next() string { return l.Next }

func (e *Endpoint) grants(v *visit) (outcome, error) {
	list := grantList{All: v.query.Has("all"), GrantQuery: admin.GrantQuery{
		User: v.query.Get("user"), Client: v.query.Get("client"), Resource: v.query.Get("resource"),
		Live: !v.query.Has("all"),
	}}
	var err error
	list.Grants, list.Next, err = e.Operations.Grants(v.Context(), v.caller, list.GrantQuery, v.page())
	return screen{template: "grants.html", title: "Grants", body: list}.unknown(err)
}

func (e *Endpoint) confirmRevokeGrant(v *visit) (outcome, error) {
	g, err := e.Operations.Grant(v.Context(), v.caller, v.id())
	if err != nil {
		return nil, err
	}
	person, client := cmp.Or(g.User, "a deleted account"), calledClient(g.ClientName, g.ClientID)
	server, scopes := cmp.Or(g.Resource, "a deleted MCP server"), cmp.Or(g.Scope, "no scope, only to connect")
	return screen{template: "confirm.html", title: "Revoke a grant", body: confirmation{
		Question: "Revoke what " + person + " allowed " + client + "?",
		Ends: []string{
			"It is the grant " + g.ID + " at " + server + ", with: " + scopes + ".",
			"The access tokens of " + client + " from this grant are refused at once, and its refresh token too.",
			person + " can allow " + client + " again, and is asked when they next use it.",
			person + " stays signed in here. What they allowed other clients, or this client at other MCP " +
				"servers, stays.",
		},
		Button: "Revoke it", Back: "/admin/grants",
	}}, nil
}

func (e *Endpoint) revokeGrant(v *visit, _ url.Values) (outcome, error) {
	_, err := e.Operations.RevokeGrant(v.Context(), v.caller, v.id())
	return redirect{"/admin/grants", "grant.revoked"}, err
}

// proofs are what people prove by that they are who they say, by the names of RFC 8176.
var proofs = map[string]string{"pwd": "a password", "otp": "a code", "hwk": "a passkey", "swk": "a passkey",
	"email": "a mailed code"}

// proof returns with what a person signed in.
func proof(amr []string) string {
	var named []string
	for _, name := range amr {
		if name = cmp.Or(proofs[name], name); name != "mfa" && !slices.Contains(named, name) {
			named = append(named, name)
		}
	}
	return strings.Join(named, " and ")
}

// sessionList is the body of the list of sessions.
type sessionList struct {
	Sessions []admin.Session
	User     string
	Next     string
}

func (l sessionList) next() string { return l.Next }

func (e *Endpoint) sessions(v *visit) (outcome, error) {
	list := sessionList{User: v.query.Get("user")}
	var err error
	list.Sessions, list.Next, err = e.Operations.Sessions(v.Context(), v.caller, list.User, v.page())
	return screen{template: "sessions.html", title: "Sessions", body: list}.unknown(err)
}

func (e *Endpoint) confirmRevokeSession(v *visit) (outcome, error) {
	found, err := e.Operations.Session(v.Context(), v.caller, v.id())
	if err != nil {
		return nil, err
	}
	where := cmp.Or(web.DisplayName(found.UserAgent), "an unknown browser")
	if found.Address != "" {
		where += " from " + found.Address
	}
	return screen{template: "confirm.html", title: "End a session", body: confirmation{
		Question: "End the session of " + found.User + "?",
		Ends: []string{
			"It is in " + where + ", signed in " + human(found.CreatedAt) + ".",
			found.User + " is signed out in that browser and has to sign in again there.",
			"Agents that " + found.User + " connected stay connected: revoke their grants to end them.",
		},
		Button: "End it", Back: "/admin/sessions",
	}}, nil
}

func (e *Endpoint) revokeSession(v *visit, _ url.Values) (outcome, error) {
	_, err := e.Operations.RevokeSession(v.Context(), v.caller, v.id())
	return redirect{"/admin/sessions", "session.revoked"}, err
}
