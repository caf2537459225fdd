package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/store"
)

// Checks ask providers, when an agent refreshes, whether they still know its person (Config.CheckAtRefresh). All fields
// must be set.
type Checks struct {
	DB        *store.DB
	Vault     Vault
	Providers []*Provider

	mu      sync.Mutex
	running map[string]*asking // by identity
}

// asking is a question that several may wait for.
type asking struct {
	done    chan struct{}
	verdict Verdict
	err     error
}

// Verdict is what a provider says of a person.
type Verdict string

// The verdicts.
const (
	Known   Verdict = "known"
	Unknown Verdict = "unknown" // the provider refuses to speak for the person any more
	Silent  Verdict = "silent"  // the provider cannot be asked
)

// Verdicts are what the providers of a person say, by the id of the identity.
type Verdicts map[string]Verdict

// Errors of Checks.Confirm.
var (
	ErrUnknown = errors.New("upstream: the identity provider no longer knows the person")
	ErrSilent  = errors.New("upstream: the identity provider has not answered for too long")
)

// asks returns the provider of an identity if the check asks it, and otherwise nil.
func (c *Checks) asks(i *identity.Identity) *Provider {
	at := slices.IndexFunc(c.Providers, func(p *Provider) bool { return p.ID == i.Provider && p.CheckAtRefresh })
	if at < 0 {
		return nil
	}
	return c.Providers[at]
}

// Needed reports whether at least one provider is asked.
func (c *Checks) Needed() bool {
	return slices.ContainsFunc(c.Providers, func(p *Provider) bool { return p.CheckAtRefresh })
}

// Ask asks the providers about a user. It takes at most 10 seconds and must not be called in a transaction. Questions
// about one identity are asked one at a time, and those who wait for the same one share its answer, because a refresh
// token may be good for one use.
func (c *Checks) Ask(ctx context.Context, userID string) (Verdicts, error) {
	var identities []*identity.Identity
	err := c.DB.View(ctx, func(tx *store.Tx) (err error) {
		identities, err = tx.Identities(userID)
		return err
	})
	verdicts := Verdicts{}
	for _, i := range identities {
		if p := c.asks(i); p != nil && err == nil {
			verdicts[i.ID], err = c.once(ctx, p, i)
		}
	}
	return verdicts, err
}

// Confirm returns nil if an agent of the user may go on: each provider that the check asks knows the person, or has
// been silent for no longer than its OfflineGrace. Otherwise it returns ErrUnknown or ErrSilent.
func (c *Checks) Confirm(tx *store.Tx, userID string, verdicts Verdicts) error {
	identities, err := tx.Identities(userID)
	if err != nil {
		return err
	}
	for _, i := range identities {
		p := c.asks(i)
		switch {
		case p == nil, verdicts[i.ID] == Known:
		case verdicts[i.ID] == Unknown:
			return ErrUnknown
		case tx.Now().Sub(i.ConfirmedAt) >= p.OfflineGrace: // silent, or not asked
			return ErrSilent
		}
	}
	return nil
}

// once asks p about i, unless somebody else is doing that.
func (c *Checks) once(ctx context.Context, p *Provider, i *identity.Identity) (Verdict, error) {
	c.mu.Lock()
	if a, ok := c.running[i.ID]; ok {
		c.mu.Unlock()
		select {
		case <-a.done:
			return a.verdict, a.err
		case <-ctx.Done():
			return Silent, nil
		}
	}
	if c.running == nil {
		c.running = map[string]*asking{}
	}
	a := &asking{done: make(chan struct{})}
	c.running[i.ID] = a
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.running, i.ID)
		c.mu.Unlock()
		close(a.done)
	}()
	// The answer is written even if the agent does not wait for it, because it may hold the only good refresh token.
	a.verdict, a.err = c.ask(context.WithoutCancel(ctx), p, i.ID)
	return a.verdict, a.err
}

// ask asks p about the identity with the given id. If another process has replaced the credential in the meantime, it
// asks again with the new one.
func (c *Checks) ask(ctx context.Context, p *Provider, id string) (Verdict, error) {
	for range 3 {
		i, err := c.read(ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			return Unknown, nil
		}
		if err != nil {
			return Silent, err
		}
		old, err := unseal(c.Vault, i)
		if err != nil {
			return Silent, err
		}
		verdict, now := p.about(ctx, c.DB.Now(), i, old)
		if verdict == Unknown {
			after, err := c.read(ctx, id)
			if err == nil && after.Credential != i.Credential {
				continue
			}
		}
		if verdict != Known {
			return verdict, nil
		}
		sealed, err := seal(c.Vault, id, now)
		if err != nil {
			return Silent, err
		}
		return verdict, c.DB.Update(ctx, func(tx *store.Tx) error {
			_, err := tx.ConfirmIdentity(id, i.Credential, sealed)
			return err
		})
	}
	return Silent, nil
}

// read returns the identity with the given id, or store.ErrNotFound.
func (c *Checks) read(ctx context.Context, id string) (i *identity.Identity, err error) {
	err = c.DB.View(ctx, func(tx *store.Tx) error {
		i, err = tx.IdentityByID(id)
		return err
	})
	return i, err
}

// about asks the provider about the person of i, with the credential c. It returns the credential for the next time.
func (p *Provider) about(ctx context.Context, now time.Time, i *identity.Identity,
	c credential) (Verdict, credential) {
	ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, p.client), patience)
	defer cancel()
	if p.Preset == "github" && c.Refresh == "" {
		var user struct {
			ID int64 `json:"id"`
		}
		err := p.ask(ctx, c.Access, "/user", &user)
		switch {
		case errors.Is(err, errUnknownPerson):
			return Unknown, c
		case err != nil || c.Access == "":
			return Silent, c
		}
		return Known, c
	}
	config, m := p.github(), (*metadata)(nil)
	if p.Preset != "github" {
		var err error
		if m, err = p.discover(ctx); err != nil {
			return Silent, c
		}
		config = p.config(m)
	}
	if c.Refresh != "" {
		return p.refreshed(ctx, config, m, i, c)
	}
	if c.Access == "" || !c.Until.IsZero() && now.After(c.Until) || m.UserInfo == "" {
		return Silent, c // what it knows the person by has ended, and says nothing about the person
	}
	return p.told(ctx, m.UserInfo, i, c), c
}

// told asks the userinfo endpoint with an access token that has not expired.
func (p *Provider) told(ctx context.Context, endpoint string, i *identity.Identity, c credential) Verdict {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint, nil)
	if err != nil {
		return Silent
	}
	r.Header.Set("Authorization", "Bearer "+c.Access)
	resp, err := p.client.Do(r)
	if err != nil {
		return Silent
	}
	defer func() { _ = resp.Body.Close() }()
	said := claims{}
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		return Unknown
	case resp.StatusCode != http.StatusOK:
		return Silent
	case json.NewDecoder(resp.Body).Decode(&said) == nil && said.text("sub") == i.Subject:
		return Known
	}
	return Silent
}

// refreshed asks with the refresh token. An ID token in the answer must be about the same person (OpenID Connect Core
// §12.2).
func (p *Provider) refreshed(ctx context.Context, config *oauth2.Config, m *metadata, i *identity.Identity,
	c credential) (Verdict, credential) {
	token, err := config.TokenSource(ctx, &oauth2.Token{RefreshToken: c.Refresh}).Token()
	var answered *oauth2.RetrieveError
	switch {
	case errors.As(err, &answered) &&
		slices.Contains([]string{"invalid_grant", "bad_refresh_token"}, answered.ErrorCode):
		return Unknown, c
	case err != nil:
		return Silent, c
	}
	now := credentialOf(token).or(c)
	if raw, _ := token.Extra("id_token").(string); raw != "" && m != nil {
		verifier := m.provider.VerifierContext(ctx, &oidc.Config{ClientID: p.ClientID, SkipIssuerCheck: true})
		t, err := verifier.Verify(ctx, raw)
		if err != nil || t.Subject != i.Subject || t.Issuer != i.Issuer {
			return Unknown, now
		}
	}
	return Known, now
}
