package upstream

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// metadata is what an OpenID provider says of itself (OpenID Connect Discovery §3).
type metadata struct {
	provider *oidc.Provider
	issuer   string // of its ID tokens; it has {tenantid} if every tenant has its own
	readAt   time.Time

	Authorization string   `json:"authorization_endpoint"`
	Token         string   `json:"token_endpoint"`
	UserInfo      string   `json:"userinfo_endpoint"`
	Keys          string   `json:"jwks_uri"`
	Scopes        []string `json:"scopes_supported"`
	Methods       []string `json:"token_endpoint_auth_methods_supported"`
	// Iss says that every response has iss (RFC 9207 §3).
	Iss bool `json:"authorization_response_iss_parameter_supported"`
}

// keepMetadata is how long metadata is used.
const keepMetadata = time.Hour

// tenant stands for the tenant in the issuer of a provider of many.
const tenant = "{tenantid}"

// personal is the tenant of Microsoft's personal accounts.
const personal = "9188040d-6c67-4c5b-b112-36a304b66dad"

// tokenIssuer returns the issuer in the provider's metadata, which is not Issuer if it is Microsoft's for many tenants.
func (c Config) tokenIssuer() string {
	u, err := url.Parse(c.Issuer)
	if c.Preset != "microsoft" || err != nil {
		return c.Issuer
	}
	name, rest, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	switch name {
	case "common", "organizations":
		name = tenant
	case "consumers":
		name = personal
	}
	return u.Scheme + "://" + u.Host + "/" + name + "/" + rest
}

// discover returns the provider's metadata, which it reads once an hour. Those who wait for the same attempt share its
// failure.
func (p *Provider) discover(ctx context.Context) (*metadata, error) {
	asked := p.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.found != nil && asked.Sub(p.found.readAt) < keepMetadata:
		return p.found, nil
	case p.failure != nil && p.failedAt.After(asked):
		return nil, p.failure
	}
	p.found, p.failure = p.read(ctx)
	p.failedAt = p.now()
	return p.found, p.failure
}

// read reads the provider's metadata.
func (p *Provider) read(ctx context.Context) (*metadata, error) {
	ctx, cancel := context.WithTimeout(oidc.ClientContext(context.WithoutCancel(ctx), p.client), patience)
	defer cancel()
	m := &metadata{issuer: p.tokenIssuer(), readAt: p.now()}
	if m.issuer != p.Issuer {
		ctx = oidc.InsecureIssuerURLContext(ctx, m.issuer) // compared with what each ID token says (issuedBy)
	}
	var err error
	if m.provider, err = oidc.NewProvider(ctx, p.Issuer); err != nil {
		return nil, &Error{p, Unreachable, err}
	}
	if err := m.provider.Claims(m); err != nil {
		return nil, &Error{p, Unreachable, err}
	}
	for name, endpoint := range map[string]string{"authorization_endpoint": m.Authorization, "token_endpoint": m.Token,
		"jwks_uri": m.Keys} {
		if endpoint, _, _ := strings.Cut(endpoint, "?"); CheckURL(endpoint) != nil {
			return nil, p.fail(Unreachable, "%s in the metadata is %.100q, which is not an https URL", name, endpoint)
		}
	}
	if m.UserInfo != "" && CheckURL(m.UserInfo) != nil {
		return nil, p.fail(Unreachable, "userinfo_endpoint in the metadata is %.100q, which is not an https URL",
			m.UserInfo)
	}
	return m, nil
}

// config returns the client that this server is at the provider.
func (p *Provider) config(m *metadata) *oauth2.Config {
	c := &oauth2.Config{ClientID: p.ClientID, ClientSecret: p.ClientSecret, RedirectURL: p.RedirectURI,
		Endpoint: oauth2.Endpoint{AuthURL: m.Authorization, TokenURL: m.Token, AuthStyle: oauth2.AuthStyleInParams},
		Scopes:   []string{oidc.ScopeOpenID, "profile", "email"}}
	if p.ClientSecret != "" && (len(m.Methods) == 0 || slices.Contains(m.Methods, "client_secret_basic")) {
		c.Endpoint.AuthStyle = oauth2.AuthStyleInHeader // the default of OpenID Connect Core §9
	}
	if p.CheckAtRefresh && presets[p.Preset].offline == nil {
		c.Scopes = append(c.Scopes, oidc.ScopeOfflineAccess)
	}
	if p.GroupsClaim != "" && slices.Contains(m.Scopes, "groups") {
		c.Scopes = append(c.Scopes, "groups")
	}
	return c
}

// Start returns the address to which the browser is sent, or an *Error.
func (p *Provider) Start(ctx context.Context, trip Trip) (string, error) {
	if p.Preset == "github" {
		return p.startGitHub(trip), nil
	}
	m, err := p.discover(ctx)
	if err != nil {
		return "", err
	}
	options := []oauth2.AuthCodeOption{oauth2.SetAuthURLParam("nonce", trip.Nonce),
		oauth2.S256ChallengeOption(trip.Verifier)}
	params := url.Values{}
	if p.CheckAtRefresh {
		maps.Copy(params, presets[p.Preset].offline)
		if slices.Contains(p.config(m).Scopes, oidc.ScopeOfflineAccess) {
			params.Set("prompt", "consent") // OpenID Connect Core §11
		}
	}
	if trip.Again {
		params.Set("prompt", strings.TrimSpace(presets[p.Preset].again+" "+params.Get("prompt")))
	}
	if trip.LoginHint != "" {
		params.Set("login_hint", trip.LoginHint)
	}
	if trip.MaxAge != nil {
		params.Set("max_age", strconv.FormatInt(*trip.MaxAge, 10))
	}
	for name := range params {
		options = append(options, oauth2.SetAuthURLParam(name, params.Get(name)))
	}
	return p.config(m).AuthCodeURL(trip.State, options...), nil
}

// Finish returns who has signed in, from the query with which the browser came back and the nonce and verifier of its
// trip. It returns an *Error if that is not proven.
func (p *Provider) Finish(ctx context.Context, query url.Values, nonce, verifier string) (*Person, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	ctx = oidc.ClientContext(ctx, p.client) // which is also that of oauth2
	if p.Preset == "github" {
		return p.finishGitHub(ctx, query, verifier)
	}
	m, err := p.discover(ctx)
	if err != nil {
		return nil, err
	}
	expected := m.issuer
	if strings.Contains(expected, tenant) {
		expected = "" // known from the ID token
	}
	if err := p.returned(query, expected, m.Iss); err != nil {
		return nil, err
	}
	token, err := p.config(m).Exchange(ctx, query.Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		return nil, p.failed(err)
	}
	c, err := p.verified(ctx, m, token, nonce)
	if err != nil {
		return nil, err
	}
	if iss := query.Get("iss"); iss != "" && iss != c.text("iss") {
		return nil, p.fail(Invalid, "the response has iss %.200q, and the ID token %.200q", iss, c.text("iss"))
	}
	if err := p.complete(ctx, m, token, c); err != nil {
		return nil, err
	}
	return p.person(c, token), nil
}

// verified returns the claims of the ID token (OpenID Connect Core §3.1.3.7).
func (p *Provider) verified(ctx context.Context, m *metadata, token *oauth2.Token, nonce string) (claims, error) {
	raw, _ := token.Extra("id_token").(string)
	if raw == "" {
		return nil, p.fail(Invalid, "the token response has no ID token")
	}
	verifier := m.provider.VerifierContext(ctx, &oidc.Config{ClientID: p.ClientID, SkipIssuerCheck: true})
	t, err := verifier.Verify(ctx, raw)
	if err != nil {
		return nil, &Error{p, Invalid, err}
	}
	c := claims{}
	if err := t.Claims(&c); err != nil {
		return nil, &Error{p, Invalid, err}
	}
	azp := c.text("azp")
	switch {
	case !issuedBy(m.issuer, t.Issuer, c.text("tid")):
		return nil, p.fail(Invalid, "the ID token was issued by %.200q, not %q", t.Issuer, m.issuer)
	case t.Nonce != nonce:
		return nil, p.fail(Invalid, "the ID token has another nonce, so it belongs to another sign-in")
	case t.Subject == "" || len(t.Subject) > 255:
		return nil, p.fail(Invalid, "the ID token has no usable sub")
	case len(t.Audience) > 1 && azp == "", azp != "" && azp != p.ClientID:
		return nil, p.fail(Invalid, "the ID token is for another client: azp is %.100q", azp)
	}
	return c, nil
}

var tenantID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// issuedBy reports whether iss is the issuer want, which may be the pattern of the issuers of many tenants: then it
// must be that of the tenant tid.
func issuedBy(want, iss, tid string) bool {
	if before, after, many := strings.Cut(want, tenant); many {
		return tenantID.MatchString(tid) && iss == before+tid+after
	}
	return iss == want
}

// complete adds to the claims of the ID token what only the userinfo endpoint says (OpenID Connect Core §5.3).
func (p *Provider) complete(ctx context.Context, m *metadata, token *oauth2.Token, c claims) error {
	_, hasEmail := c["email"]
	hasGroups := p.GroupsClaim == "" || c.find(p.GroupsClaim) != nil
	if m.UserInfo == "" || hasEmail && hasGroups {
		return nil
	}
	info, err := m.provider.UserInfo(ctx, oauth2.StaticTokenSource(token))
	if err != nil {
		return &Error{p, Unreachable, err}
	}
	more := claims{}
	if err := info.Claims(&more); err != nil {
		return &Error{p, Unreachable, err}
	}
	if more.text("sub") != c.text("sub") {
		return p.fail(Invalid, "the userinfo endpoint speaks of another sub than the ID token")
	}
	if hasEmail {
		delete(more, "email_verified") // it is about the other address
	} else {
		delete(c, "email_verified")
	}
	for name, value := range more {
		if _, has := c[name]; !has {
			c[name] = value
		}
	}
	return nil
}

// person returns who the claims are about.
func (p *Provider) person(c claims, token *oauth2.Token) *Person {
	verified := c.is("email_verified")
	if p.Preset == "microsoft" { // which has no email_verified, but says whether the domain belongs to the tenant
		verified = verified || slices.Contains([]string{"true", "1", `"1"`, `"true"`}, string(c["xms_edov"]))
	}
	return &Person{
		Issuer: c.text("iss"), Subject: c.text("sub"),
		Email: c.text("email"), Verified: verified,
		Name:       cmp.Or(c.text("name"), c.text("preferred_username")),
		Groups:     c.words(p.GroupsClaim),
		AuthTime:   c.seconds("auth_time"),
		credential: credentialOf(token),
	}
}

// claims are the claims about a person, as they were sent.
type claims map[string]json.RawMessage

// text returns a claim that is a string, and otherwise "".
func (c claims) text(name string) (s string) {
	if json.Unmarshal(c[name], &s) != nil {
		return ""
	}
	return s
}

// seconds returns a claim that is a time in seconds since 1970, and nil if there is none. What is not such a time is 0.
func (c claims) seconds(name string) *int64 {
	value, ok := c[name]
	if !ok || string(value) == "null" {
		return nil
	}
	var at float64 // which some providers write with a fraction
	if json.Unmarshal(value, &at) != nil || at < 0 || at > 1<<40 {
		return new(int64)
	}
	seconds := int64(at)
	return &seconds
}

// is reports whether a claim is the JSON value true.
func (c claims) is(name string) bool { return string(c[name]) == "true" }

// find returns the claim with that name, or at that path: realm_access.roles. It returns nil if there is none.
func (c claims) find(name string) json.RawMessage {
	if value, ok := c[name]; ok {
		return value
	}
	first, rest, nested := strings.Cut(name, ".")
	inner := claims{}
	if !nested || json.Unmarshal(c[first], &inner) != nil {
		return nil
	}
	return inner.find(rest)
}

// words returns a claim that is a list of strings, or one string.
func (c claims) words(name string) []string {
	if name == "" {
		return nil
	}
	value := c.find(name)
	var list []string
	if json.Unmarshal(value, &list) == nil {
		return list
	}
	var one string
	if json.Unmarshal(value, &one) != nil || one == "" {
		return nil
	}
	return []string{one}
}
