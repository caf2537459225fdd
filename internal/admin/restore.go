package admin

import (
	"context"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/store"
)

// Restored says what ended when an installation went back to an earlier state.
type Restored struct {
	State       Moment `json:"state"`        // the installation is as it was then
	EndedGrants bool   `json:"ended_grants"` // whether all grants ended; otherwise those that waited for a code
	Grants      int    `json:"grants"`       // number that ended
	Codes       int    `json:"codes"`
	Links       int    `json:"links"` // that were sent by mail, or given by an operator
	Invitations int    `json:"invitations"`
	Sessions    int    `json:"sessions"`
}

// Restored ends what must not count again after the database went back to the state of a time, as store.Tx.Rewind
// says, and records that. With endGrants, all grants end. Only a command may do it.
func (o *Operations) Restored(ctx context.Context, by Caller, state time.Time, endGrants bool) (r Restored, err error) {
	err = o.DB.Update(audit.WithActor(ctx, by.Actor), func(tx *store.Tx) error {
		if by.Actor.Type != audit.ByCommand {
			return forbidden("only a command on the machine of the installation restores it")
		}
		ended, err := tx.Rewind(endGrants)
		if err != nil {
			return err
		}
		r = Restored{State: Moment{state}, EndedGrants: endGrants, Grants: ended.Grants, Codes: ended.Codes,
			Links: ended.Links, Invitations: ended.Invitations, Sessions: ended.Sessions}
		return tx.Conclude(audit.Restored(state, ended.Grants, endGrants), nil)
	})
	return r, err
}
