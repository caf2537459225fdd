package authorize

import (
	"errors"
	"net/http"
	"net/url"
	"slices"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/client"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
	"github.com/cardea-auth/cardea/scope"
)

// Consent answers GET /consent: the page that asks a person whether this agent
// may. Who is not signed in freshly enough is sent to sign in first.
func (e *Endpoint) Consent(r *http.Request) (web.Answer, error) {
	query, err := web.Query(r, "scope")
	if err == nil && (query.Has("decision") || query.Has("csrf")) {
		err = oauth.RefuseStatus(http.StatusMethodNotAllowed, oauth.InvalidRequest, "consent is given by the form of this page alone")
	}
	if err != nil {
		return nil, e.Strangers.Refuse(r, audit.Consent("", "", "", ""), err)
	}
	q, c, err := e.open(r, query.Get("request"))
	if err != nil {
		return nil, err
	}
	session, user, err := e.Login.Session(r)
	switch {
	case err != nil:
		return nil, err
	case session == nil || !q.Satisfied(session.SignedInAt, e.DB.Now()):
		return e.page("/login", q)
	}
	back := &response{redirectURI: q.RedirectURI, state: string(q.State), issuer: e.Issuer}
	remembered, err := e.remembered(r, q, c, user)
	switch {
	case err != nil:
		return nil, err
	case remembered: // after a sign-in
		return e.grant(r, q, c, session, q.Scope, back, true)
	}
	return e.ask(r, q, c, user, query.Get("request"))
}

// ask shows the page.
func (e *Endpoint) ask(r *http.Request, q *oauth.AuthorizationRequest, c *oauth.Client, user *identity.User, sealed string) (web.Answer, error) {
	target, err := e.resource(r, q)
	if err != nil {
		return nil, err
	}
	before, err := e.consented(r, q, c, target, user)
	if err != nil {
		return nil, err
	}
	page := web.Consent{
		Client:   web.CardOf(c, q.RedirectURI),
		Email:    user.Email,
		Resource: web.ResourceCard{Name: target.Name, Identifier: target.Identifier},
		Request:  sealed,
		CSRF:     e.Pages.Token(r, consentPurpose(q, user)),
	}
	if e.Logos.PNG(r, c, user.ID) != nil {
		page.Client.Logo = "/consent/logo?request=" + url.QueryEscape(sealed)
	}
	for _, name := range q.Scope {
		page.Scopes = append(page.Scopes, web.ScopeLine{
			Name:        name,
			Description: target.Describe(name),
			New:         len(before) > 0 && !before.Covers(name),
		})
	}
	return page, nil
}

// Logo answers GET /consent/logo: the picture of the client on the consent page.
func (e *Endpoint) Logo(r *http.Request) (web.Answer, error) {
	query, err := web.Query(r)
	if err != nil {
		return nil, e.Strangers.Refuse(r, audit.Consent("", "", "", ""), err)
	}
	q, c, err := e.open(r, query.Get("request"))
	if err != nil {
		return nil, err
	}
	_, user, err := e.Login.Session(r)
	if err != nil {
		return nil, err
	}
	if user != nil {
		if picture := e.Logos.PNG(r, c, user.ID); picture != nil {
			return web.Picture(picture), nil
		}
	}
	return nil, oauth.RefuseStatus(http.StatusNotFound, "not_found", "%s has no logo", q.ClientID)
}

// consentPurpose binds the form's token to the request and to the person whom
// the page named: if another signs in meanwhile, it is worth nothing.
func consentPurpose(q *oauth.AuthorizationRequest, user *identity.User) string {
	return "consent " + q.ID + " " + user.ID
}

// Decide answers POST /consent: the person's decision, which counts once.
func (e *Endpoint) Decide(r *http.Request) (web.Answer, error) {
	form, err := web.Form(r, "scope")
	if err != nil {
		return nil, e.Strangers.Refuse(r, audit.Consent("", "", "", ""), err)
	}
	q, c, err := e.open(r, form.Get("request"))
	if err != nil {
		return nil, err
	}
	session, user, err := e.Login.Session(r)
	if err != nil {
		return nil, err
	}
	event := audit.Consent(q.ClientID, "", q.Resource, "")
	switch {
	case session == nil || !e.Pages.Check(r, consentPurpose(q, user), form.Get("csrf")):
		err = oauth.Refuse(oauth.AccessDenied, "this form belongs to another page, browser or account: go back to the application and start again")
		return nil, e.Strangers.Refuse(r, event, err)
	case !q.Satisfied(session.SignedInAt, e.DB.Now()):
		return e.page("/login", q)
	}
	back := &response{redirectURI: q.RedirectURI, state: string(q.State), issuer: e.Issuer}
	allowed := ticked(q, form["scope"])
	switch decision := form.Get("decision"); {
	case decision == "deny", decision == "allow" && len(allowed) == 0 && len(q.Scope) > 0:
		return e.deny(r, q, user, back)
	case decision == "allow":
		return e.grant(r, q, c, session, allowed, back, false)
	}
	event.UserID = user.ID
	return nil, e.Strangers.Refuse(r, event, oauth.Refuse(oauth.InvalidRequest, "decision must be allow or deny"))
}

// ticked returns the scopes of the request that were left ticked; whatever else
// the form names was never asked for.
func ticked(q *oauth.AuthorizationRequest, names []string) scope.Set {
	var allowed scope.Set
	for _, name := range q.Scope {
		if slices.Contains(names, name) {
			allowed = append(allowed, name)
		}
	}
	return allowed
}

// open opens a sealed request for the browser that began it, and proves client
// and redirect URI anew: either may have changed since. So may what the client is
// allowed at the resource: what is not is asked for no longer.
func (e *Endpoint) open(r *http.Request, sealed string) (*oauth.AuthorizationRequest, *oauth.Client, error) {
	q, err := e.Pages.OpenRequest(r, sealed, e.DB.Now())
	if err != nil {
		return nil, nil, e.Strangers.Refuse(r, audit.AuthorizationRequest(""), err)
	}
	c, _, err := e.client(r, &parameters{url.Values{"client_id": {q.ClientID}, "redirect_uri": {q.RedirectURI}}})
	if err != nil {
		return nil, nil, e.Strangers.Refuse(r, audit.AuthorizationRequest(q.ClientID), err)
	}
	target, err := e.resource(r, q)
	if err != nil {
		return nil, nil, err
	}
	asked := len(q.Scope)
	q.Scope = slices.DeleteFunc(q.Scope, func(name string) bool { return name != oauth.OfflineAccess && !target.Permits(c, name) })
	if len(q.Scope) < asked && len(q.Scope.Minus(scope.Of(oauth.OfflineAccess))) == 0 {
		err := oauth.Refuse(oauth.InvalidScope, "nothing that the application asked for is allowed to it any more")
		return nil, nil, e.Strangers.Refuse(r, audit.AuthorizationRequest(q.ClientID), err)
	}
	return q, c, nil
}

// resource returns the resource that was asked for, and no other that its
// identifier would name once it is gone.
func (e *Endpoint) resource(r *http.Request, q *oauth.AuthorizationRequest) (*oauth.Resource, error) {
	resources, err := e.DB.Resources(r.Context())
	if err != nil {
		return nil, err
	}
	for _, resource := range resources {
		if resource.Identifier == q.Resource {
			return resource, nil
		}
	}
	err = oauth.Refuse(oauth.InvalidTarget, "the MCP server that was asked for is no longer registered here")
	return nil, e.Strangers.Refuse(r, audit.AuthorizationRequest(q.ClientID), err)
}

// remembered tells whether no page is needed: the person allowed this client, at
// this resource and redirect URI, everything it asks for, and that still stands;
// an operator vouches for the client; no program on the person's own computer can
// pose as it; and no other site sent the browser here, which may act for somebody
// else.
func (e *Endpoint) remembered(r *http.Request, q *oauth.AuthorizationRequest, c *oauth.Client, user *identity.User) (bool, error) {
	if !c.Approved() || oauth.LoopbackOnly([]string{q.RedirectURI}) || q.PromptConsent || q.CrossSite {
		return false, nil
	}
	target, err := e.resource(r, q)
	if err != nil {
		return false, err
	}
	before, err := e.consented(r, q, c, target, user)
	return len(before) > 0 && before.CoversAll(q.Scope...), err
}

// consented returns the scopes of the standing consents to the same request. What
// was allowed to a client with other redirect URIs or keys was not allowed to this
// one.
func (e *Endpoint) consented(r *http.Request, q *oauth.AuthorizationRequest, c *oauth.Client, target *oauth.Resource, user *identity.User) (scope.Set, error) {
	var all scope.Set
	err := e.DB.View(r.Context(), func(tx *store.Tx) error {
		stored, err := tx.Client(c.ID)
		if errors.Is(err, store.ErrNotFound) || err == nil && !stored.SameTrust(&c.Metadata) {
			return nil
		}
		if err != nil {
			return err
		}
		sets, err := tx.ConsentedScopes(user.ID, q.ClientID, target.ID, q.RedirectURI)
		for _, set := range sets {
			all = all.Union(set)
		}
		return err
	})
	return all, err
}

// grant records what the person allowed and sends the code (OAuth 2.1 §4.1.2).
func (e *Endpoint) grant(r *http.Request, q *oauth.AuthorizationRequest, c *oauth.Client, session *identity.Session, allowed scope.Set, back *response, remembered bool) (web.Answer, error) {
	target, err := e.resource(r, q)
	if err != nil {
		return nil, err
	}
	secret := oauth.NewSecret(oauth.CodePrefix)
	err = e.DB.Update(r.Context(), func(tx *store.Tx) error {
		err := decide(tx, q)
		if err == nil {
			err = stands(tx, q, c)
		}
		if err != nil {
			return tx.Conclude(audit.Consent(q.ClientID, session.UserID, q.Resource, allowed.String()), err)
		}
		g := &oauth.Grant{
			ID:          oauth.NewID("grt_"),
			ClientID:    c.ID,
			UserID:      session.UserID,
			ResourceID:  target.ID,
			RedirectURI: q.RedirectURI,
			Scope:       allowed,
			Refreshable: c.May(oauth.RefreshToken) && !declined(q, allowed),
			Secret:      oauth.NewSecret(""),
			SignedInAt:  session.SignedInAt,
			AMR:         session.AMR,
			CreatedAt:   tx.Now(),
			ExpiresAt:   tx.Now().Add(e.CodeTTL),
			EndsAt:      tx.Now().Add(e.GrantMax),
		}
		if target.RefreshMaxTTL > 0 {
			g.EndsAt = tx.Now().Add(target.RefreshMaxTTL)
		}
		if err := client.Save(tx, c); err != nil {
			return err
		}
		if err := tx.CreateGrant(g); err != nil {
			return err
		}
		code := &oauth.Code{Hash: oauth.Hash(secret), GrantID: g.ID, RedirectURI: q.RedirectURI, Challenge: q.Challenge, ExpiresAt: g.ExpiresAt}
		if err := tx.CreateCode(code); err != nil {
			return err
		}
		event := audit.Code(c.ID, g.UserID, g.ID, target.Identifier, allowed.String(), remembered)
		if _, profile := client.MatchRedirectURI(c, q.RedirectURI); profile != "" {
			event = event.With("profile", profile)
			if err := tx.ProfileUsed(profile); err != nil {
				return err
			}
		}
		return tx.Conclude(event, nil)
	})
	if err != nil {
		return nil, err
	}
	return web.SeeOther(back.to(url.Values{"code": {secret}})), nil
}

// stands refuses a client that another process disabled or deleted, or whose
// redirect URI it took away: what is in memory may be a moment old, and what was
// sent to that URI cannot be called back.
func stands(tx *store.Tx, q *oauth.AuthorizationRequest, c *oauth.Client) error {
	stored, err := tx.Client(c.ID)
	if c.Origin == oauth.ByDocument && (errors.Is(err, store.ErrNotFound) || err == nil && !stored.Disabled()) {
		return nil // its document says the rest
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		return errUnknownClient
	case err != nil:
		return err
	case stored.Disabled():
		return errDisabledClient
	}
	if ok, _ := client.MatchRedirectURI(stored, q.RedirectURI); !ok {
		return errRedirectURI
	}
	return nil
}

// declined tells whether the person unticked the wish to stay connected.
func declined(q *oauth.AuthorizationRequest, allowed scope.Set) bool {
	return q.Scope.Has(oauth.OfflineAccess) && !allowed.Has(oauth.OfflineAccess)
}

// deny records a no and tells the client (OAuth 2.1 §4.1.2.1).
func (e *Endpoint) deny(r *http.Request, q *oauth.AuthorizationRequest, user *identity.User, back *response) (web.Answer, error) {
	denial := oauth.Refuse(oauth.AccessDenied, "the person did not allow it")
	err := e.DB.Update(r.Context(), func(tx *store.Tx) error {
		event := audit.Consent(q.ClientID, user.ID, q.Resource, "")
		if err := decide(tx, q); err != nil {
			return tx.Conclude(event, err)
		}
		return tx.Conclude(event, denial)
	})
	if refusal, ok := oauth.AsRefusal(err); !ok || !errors.Is(err, denial) {
		return nil, err
	} else {
		return web.SeeOther(back.refusal(refusal)), nil
	}
}

// decide lets the first answer to a request count, and no other.
func decide(tx *store.Tx, q *oauth.AuthorizationRequest) error {
	first, err := tx.Decide(q.ID, q.BegunAt.Add(oauth.RequestLifetime))
	if err == nil && !first {
		err = oauth.Refuse(oauth.InvalidRequest, "this request was answered before: go back to the application and start again")
	}
	return err
}
