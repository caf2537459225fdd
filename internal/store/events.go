package store

import (
	"encoding/json"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/store/engine"
)

const eventColumns = "at, id, action, outcome, reason, description, client_id, user_id, grant_id, resource, scope, " +
	"detail, request_id, address, user_agent, actor_type, actor_id, actor_name, changes"

var newEvents = newBulk("events", eventColumns, "")

// insertEvents sets the times of the events and writes them.
func (db *DB) insertEvents(tx *engine.Tx, events []audit.Event) error {
	db.date(events)
	rows := make(args, 0, len(events)*newEvents.width)
	for _, e := range events {
		rows = append(rows, e.At.UnixMicro(), e.ID, e.Action, string(e.Outcome), e.Reason, e.Description, e.ClientID,
			e.UserID, e.GrantID,
			e.Resource, e.Scope, e.DetailJSON(), e.RequestID, e.Address, e.UserAgent,
			string(e.Actor.Type), e.Actor.ID, e.Actor.Name, e.ChangesJSON())
	}
	if _, err := newEvents.insert(tx, db.dialect, rows); err != nil {
		return err
	}
	db.recent.add(events, rows)
	return nil
}

func scanEvent(scan func(...any) error) (e audit.Event, err error) {
	var changes struct{ Before, After json.RawMessage }
	err = scan(instant{&e.At}, &e.ID, &e.Action, &e.Outcome, &e.Reason, &e.Description, &e.ClientID, &e.UserID,
		&e.GrantID,
		&e.Resource, &e.Scope, object{&e.Detail}, &e.RequestID, &e.Address, &e.UserAgent, &e.Actor.Type, &e.Actor.ID,
		&e.Actor.Name, object{&changes})
	e.Before, e.After = changes.Before, changes.After
	return e, err
}
