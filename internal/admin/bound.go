package admin

import (
	"slices"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

// withinRights returns nil if by may do all that c may do to this installation in its own name. Otherwise it returns a
// refusal, because nobody gives others, or a client whose secret they learn, more than they hold. Clients that act for a
// person are bounded by that person's role.
func (o *Operations) withinRights(tx *store.Tx, by Caller, c *oauth.Client) error {
	if !isMachine(c) || !slices.Contains(c.Resources, o.Issuer+APIPath) && !slices.Contains(c.Resources, o.Issuer+MCPPath) {
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
