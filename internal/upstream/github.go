package upstream

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"golang.org/x/oauth2"
)

// github is the client that this server is at GitHub, which speaks OAuth but not OpenID Connect.
func (p *Provider) github() *oauth2.Config {
	return &oauth2.Config{ClientID: p.ClientID, ClientSecret: p.ClientSecret, RedirectURL: p.RedirectURI,
		Endpoint: oauth2.Endpoint{AuthURL: p.Issuer + "/login/oauth/authorize",
			TokenURL: p.Issuer + "/login/oauth/access_token", AuthStyle: oauth2.AuthStyleInParams},
		Scopes: []string{"read:user", "user:email"}}
}

// api returns the address of the API, which GitHub Enterprise has on its own host.
func (p *Provider) api() string {
	if p.Issuer == presets["github"].issuer {
		return "https://api.github.com"
	}
	return p.Issuer + "/api/v3"
}

func (p *Provider) startGitHub(trip Trip) string {
	options := []oauth2.AuthCodeOption{oauth2.S256ChallengeOption(trip.Verifier)}
	if trip.LoginHint != "" {
		options = append(options, oauth2.SetAuthURLParam("login", trip.LoginHint))
	}
	if trip.Again {
		options = append(options, oauth2.SetAuthURLParam("prompt", presets["github"].again))
	}
	return p.github().AuthCodeURL(trip.State, options...)
}

func (p *Provider) finishGitHub(ctx context.Context, query url.Values, verifier string) (*Person, error) {
	issuer := p.Issuer
	if query.Get("iss") == p.Issuer+"/login/oauth" {
		issuer = query.Get("iss")
	}
	if err := p.returned(query, issuer, false); err != nil {
		return nil, err
	}
	token, err := p.github().Exchange(ctx, query.Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		return nil, p.failed(err)
	}
	var user struct {
		ID    int64  `json:"id"`
		Login string `json:"login"`
		Name  string `json:"name"`
	}
	if err := p.ask(ctx, token.AccessToken, "/user", &user); err != nil {
		return nil, err
	}
	if user.ID <= 0 {
		return nil, p.fail(Invalid, "the API does not say the id of the user")
	}
	who := &Person{Issuer: p.Issuer, Subject: strconv.FormatInt(user.ID, 10), Name: user.Name,
		credential: credentialOf(token)}
	if who.Name == "" {
		who.Name = user.Login
	}
	var addresses []struct {
		Email    string          `json:"email"`
		Primary  json.RawMessage `json:"primary"`
		Verified json.RawMessage `json:"verified"`
	}
	if err := p.ask(ctx, token.AccessToken, "/user/emails?per_page=100", &addresses); err != nil {
		return nil, err
	}
	for _, a := range addresses {
		if string(a.Primary) == "true" {
			who.Email, who.Verified = a.Email, string(a.Verified) == "true"
			break
		}
	}
	return who, nil
}

// errUnknownPerson means that the provider no longer accepts what it gave this server for a person.
var errUnknownPerson = fmt.Errorf("the API answered 401")

// ask reads a document of the API into v.
func (p *Provider) ask(ctx context.Context, token, path string, v any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.api()+path, nil)
	if err != nil {
		return &Error{p, Unreachable, err}
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Accept", "application/vnd.github+json")
	r.Header.Set("X-GitHub-Api-Version", "2022-11-28")
	resp, err := p.client.Do(r)
	if err != nil {
		return &Error{p, Unreachable, err}
	}
	defer func() { _ = resp.Body.Close() }()
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		return &Error{p, Rejected, errUnknownPerson}
	case resp.StatusCode != http.StatusOK:
		return p.fail(Unreachable, "the API answered %s to GET %s", resp.Status, path)
	}
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
		return p.fail(Unreachable, "the API answered GET %s with something else than JSON: %w", path, err)
	}
	return nil
}
