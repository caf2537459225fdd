package main

import (
	"fmt"
	"net/url"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/store"
)

// concludeWith records event if what it tells of was done, and passes on why not.
func concludeWith(tx *store.Tx, event audit.Event, err error) error {
	if err != nil {
		return err
	}
	return tx.Conclude(event, nil)
}

// deletion is what a delete command prints.
type deletion struct {
	What   string `json:"deleted"` // "client", "resource" or "user"
	ID     string `json:"id"`
	Name   string `json:"name"`
	Grants int    `json:"grants_ended"`
}

func (d deletion) print(sh *shell, o output) error {
	return o.print(sh, d, func(t *table) {
		t.row(fmt.Sprintf("deleted the %s %s (%s); %s ended", d.What, d.ID, d.Name, count(d.Grants, "grant")))
	})
}

// everyPage returns what list gives page by page.
func everyPage[T any](list func(store.Page) ([]T, string, error)) ([]T, error) {
	var all []T
	page := store.Page{Limit: 1000}
	for {
		items, next, err := list(page)
		all = append(all, items...)
		if err != nil || next == "" {
			return all, err
		}
		page.After = next
	}
}

func hostOf(identifier string) string {
	u, err := url.Parse(identifier)
	if err != nil {
		return identifier
	}
	return u.Host
}
