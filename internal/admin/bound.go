package admin

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/scope"
)

// isBuiltIn reports whether one of the identifiers is of a built-in resource.
func (o *Operations) isBuiltIn(identifiers ...string) bool {
	return slices.Contains(identifiers, o.Issuer+APIPath) || slices.Contains(identifiers, o.Issuer+MCPPath)
}

// IsCredentials reports whether c is credentials for the administration: it is bound to a built-in resource.
func (o *Operations) IsCredentials(c Client) bool { return o.isBuiltIn(c.Resources...) }

// withinRights returns nil if by may do all that c may do to this installation in its own name. Otherwise it returns a
// refusal, because nobody gives others, or a client whose secret they learn, more than they hold, and nobody with an
// access token makes what goes on without it. Clients that act for a person are bounded by that person's role.
func (o *Operations) withinRights(tx *store.Tx, by Caller, c *oauth.Client) error {
	signsIn, err := tx.LoginClient()
	switch {
	case err == nil && signsIn == c.ID:
		return maySignIn(tx, by)
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return err
	}
	if !isMachine(c) || !o.isBuiltIn(c.Resources...) {
		return nil
	}
	if by.Scopes != nil {
		return forbidden("credentials for the administration are made, changed and given secrets in the console " +
			"or by a command on the machine, not with an access token, because they would outlive it")
	}
	if by, err = by.now(tx); err != nil {
		return err
	}
	if noun, to, over := by.exceeded(c.Allowed); over {
		return forbidden("the client could %s %s of this installation, which you may not; limit its scope to what "+
			"you may do, or bind it to other resources", to, noun)
	}
	return nil
}

// maySignIn returns nil if by may have the credentials that sign people in, because with them it could sign in as
// anybody, an owner too.
func maySignIn(tx *store.Tx, by Caller) error {
	by, err := by.now(tx)
	if err == nil && by.Actor.Type != audit.ByCommand && (by.role != identity.Owner || by.Scopes != nil) {
		err = forbidden("a program with the credentials that sign people in can sign in as anybody; only an owner " +
			"makes or changes them, in the console or by a command on the machine")
	}
	return err
}

// exceeded returns what a client with the scopes could do to this installation and c, which is what now returned, may
// not. over is false if there is nothing. No scopes are all of them.
func (c Caller) exceeded(scopes scope.Set) (noun Noun, to Access, over bool) {
	for _, noun := range Nouns {
		for _, to := range []Access{Read, Write} {
			if (len(scopes) == 0 || scopes.Covers(scopeFor(noun, to))) && c.may(noun, to) != nil {
				return noun, to, true
			}
		}
	}
	return "", "", false
}

// Outranked returns a function that reports whether a client could do more to this installation than by may, so that by
// may neither change nor enable it, nor make a secret for it. Like Allows, it tells a page what to offer.
func (o *Operations) Outranked(ctx context.Context, by Caller) (func(Client) bool, error) {
	err := o.DB.View(ctx, func(tx *store.Tx) (err error) {
		by, err = by.now(tx)
		return err
	})
	return func(c Client) bool {
		own := func(rule oauth.GrantRule) bool { return rule.OwnName }
		if c.Login {
			return by.Actor.Type != audit.ByCommand && by.role != identity.Owner
		}
		if !o.IsCredentials(c) || !oauth.AnyGrant(c.GrantTypes, own) {
			return false
		}
		_, _, over := by.exceeded(scope.Of(strings.Fields(c.Scope)...))
		return over
	}, err
}

// OwnScopes returns the scopes of the administration API that by may give to API credentials: those for what by may do.
func (o *Operations) OwnScopes(ctx context.Context, by Caller) (scopes []oauth.ResourceScope, err error) {
	err = o.look(ctx, by, Clients, func(tx *store.Tx) error {
		by, err := by.now(tx)
		for _, s := range builtInScopes {
			if _, _, over := by.exceeded(scope.Of(s.Name)); !over && err == nil {
				scopes = append(scopes, s)
			}
		}
		return err
	})
	return scopes, err
}
