package admin

import (
	"context"
	"strings"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/store"
)

// Events returns a page of the events that match filter, and the cursor of the next page,
// "" if there is none. The filter's UserID may be an e-mail address.
func (o *Operations) Events(ctx context.Context, by Caller, filter store.EventFilter, page store.Page) (events []audit.Event, next string, err error) {
	err = o.look(ctx, by, Events, func(tx *store.Tx) (err error) {
		if strings.Contains(filter.UserID, "@") { // an id is not looked up, because its person may be deleted
			u, err := findUser(tx, filter.UserID)
			if err != nil {
				return err
			}
			filter.UserID = u.ID
		}
		events, next, err = tx.Events(filter, page)
		return err
	})
	return events, next, err
}
