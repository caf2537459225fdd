package store

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/scope"
)

// Tool is a tool of a resource: as an operator has reviewed it, and as it was seen last.
type Tool struct {
	Name       string
	Hash       string // of the reviewed definition; "" if it was never reviewed
	Definition string // JSON; "" if it was never reviewed
	Scopes     scope.Set
	Risk       oauth.Risk
	ReviewedAt time.Time // zero: never
	SeenHash   string    // "" if it was not there
	Seen       string    // JSON; "" if it is as reviewed, or was not there
	SeenAt     time.Time // since when it is so
}

const toolColumns = "name, hash, definition, scopes, risk, reviewed_at, seen_hash, seen, seen_at"

// Tools returns the tools of the resource with the given id, in the order of their names.
func (tx *Tx) Tools(resourceID string) ([]*Tool, error) {
	tools, err := all(tx, "SELECT "+toolColumns+" FROM resource_tools WHERE resource_id = $1", args{resourceID},
		func(scan func(...any) error) (*Tool, error) {
			t := new(Tool)
			err := scan(&t.Name, &t.Hash, &t.Definition, words[scope.Set]{&t.Scopes}, &t.Risk, instant{&t.ReviewedAt},
				&t.SeenHash, &t.Seen, instant{&t.SeenAt})
			return t, err
		})
	slices.SortFunc(tools, func(a, b *Tool) int { return strings.Compare(a.Name, b.Name) }) // in every collation alike
	return tools, err
}

// ToolScopes returns the tools of the resource with the given id that were reviewed and that the server had when it was
// seen last, in the order of their names, without their definitions.
func (tx *Tx) ToolScopes(resourceID string) ([]*Tool, error) {
	tools, err := all(tx, "SELECT name, hash, scopes, seen_hash FROM resource_tools "+
		"WHERE resource_id = $1 AND hash <> '' AND seen_hash <> ''", args{resourceID},
		func(scan func(...any) error) (*Tool, error) {
			t := new(Tool)
			err := scan(&t.Name, &t.Hash, words[scope.Set]{&t.Scopes}, &t.SeenHash)
			return t, err
		})
	slices.SortFunc(tools, func(a, b *Tool) int { return strings.Compare(a.Name, b.Name) })
	return tools, err
}

// Definitions returns the reviewed definitions of tools of the resource with the given id, by their names.
func (tx *Tx) Definitions(resourceID string, names ...string) (map[string]string, error) {
	found := map[string]string{}
	if len(names) == 0 {
		return found, nil
	}
	places, values := make([]string, len(names)), args{resourceID}
	for i, name := range names {
		values = append(values, name)
		places[i] = "$" + strconv.Itoa(len(values))
	}
	err := tx.rows("SELECT name, definition FROM resource_tools WHERE resource_id = $1 AND name IN ("+
		strings.Join(places, ", ")+")", values, func(scan func(...any) error) error {
		var name, definition string
		err := scan(&name, &definition)
		found[name] = definition
		return err
	})
	return found, err
}

// PutTool stores t in place of what is stored under its name. The resource must be stored, and locked.
func (tx *Tx) PutTool(resourceID string, t *Tool) error {
	_, err := tx.exec("INSERT INTO resource_tools (resource_id, "+toolColumns+") VALUES ($1, $2, $3, $4, $5, $6, $7, "+
		"$8, $9, $10) ON CONFLICT (resource_id, name) DO UPDATE SET hash = excluded.hash, definition = "+
		"excluded.definition, scopes = excluded.scopes, risk = excluded.risk, reviewed_at = excluded.reviewed_at, "+
		"seen_hash = excluded.seen_hash, seen = excluded.seen, seen_at = excluded.seen_at",
		args{resourceID, t.Name, t.Hash, t.Definition, t.Scopes.String(), string(t.Risk), micros(t.ReviewedAt),
			t.SeenHash, t.Seen, t.SeenAt.UnixMicro()})
	return err
}

// DeleteTool deletes a tool of the resource with the given id. It returns ErrNotFound if there is none.
func (tx *Tx) DeleteTool(resourceID, name string) error {
	return tx.one("DELETE FROM resource_tools WHERE resource_id = $1 AND name = $2", args{resourceID, name})
}
