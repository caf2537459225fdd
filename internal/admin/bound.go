package admin

import (
	"slices"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

// isBuiltIn reports whether one of the identifiers is of a built-in resource.
func (o *Operations) isBuiltIn(identifiers ...string) bool {
	return slices.Contains(identifiers, o.Issuer+APIPath) || slices.Contains(identifiers, o.Issuer+MCPPath)
}

// IsCredentials reports whether c is credentials for the administration: it is bound to a built-in resource.
func (o *Operations) IsCredentials(c Client) bool { return o.isBuiltIn(c.Resources...) }

// withinRights returns nil if by may do all that c may do to this installation in its own name. Otherwise it returns a
// refusal, because nobody gives others, or a client whose secret they learn, more than they hold. Clients that act for a
// person are bounded by that person's role.
func (o *Operations) withinRights(tx *store.Tx, by Caller, c *oauth.Client) error {
	if !isMachine(c) || !o.isBuiltIn(c.Resources...) {
		return nil
	}
	by, err := by.now(tx)
	if err != nil {
		return err
	}
	for _, noun := range Nouns {
		for _, to := range []access{read, write} {
			if len(c.Allowed) > 0 && !c.Allowed.Covers(scopeFor(noun, to)) {
				continue
			}
			if by.may(noun, to) != nil {
				return forbidden("the client could %s %s of this installation, which you may not; limit its scope to what you may do, or bind it to other resources",
					to, noun)
			}
		}
	}
	return nil
}
