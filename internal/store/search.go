package store

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"

	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
)

// names is a table with the names by which the records of another are searched.
type names struct {
	table, of string
	id        string // the column that refers to a record
	origin    bool   // there is a column with the record's origin
	new       *bulk
}

var (
	clientNames   = newNames("client_names", "clients", "client_id", true)
	userNames     = newNames("user_names", "users", "user_id", false)
	resourceNames = newNames("resource_names", "resources", "resource_id", false)
	groupNames    = newNames("group_names", "groups", "group_id", false)
)

func newNames(table, of, id string, origin bool) names {
	columns := id + ", key"
	if origin {
		columns += ", origin"
	}
	return names{table, of, id, origin, newBulk(table, columns, " ON CONFLICT DO NOTHING")}
}

// MaxBegins is the longest Page.Begins, in bytes.
const MaxBegins = 200

// maxNameKey is how much of a name is searched, in bytes; more than MaxBegins becomes in any form of it.
const maxNameKey = 1000

// nameKey returns the form of a name by which it is searched.
func nameKey(name string) []byte {
	key := identity.Fold(name)
	return []byte(key[:min(len(key), maxNameKey)])
}

// named is a record with the names by which it is searched.
type named struct {
	id, origin string
	names      []string
}

// add stores the names of records. It does not change those that are there.
func (n names) add(tx *Tx, records ...named) error {
	rows := make(args, 0, len(records)*n.new.width)
	for _, r := range records {
		for _, name := range r.names {
			key := nameKey(name)
			if len(key) == 0 {
				continue
			}
			rows = append(rows, r.id, key)
			if n.origin {
				rows = append(rows, r.origin)
			}
		}
	}
	_, err := n.new.insert(tx.on, tx.db.dialect, rows)
	return err
}

// replace stores the names of a record in place of those that are there.
func (n names) replace(tx *Tx, r named) error {
	if _, err := tx.exec("DELETE FROM "+n.table+" WHERE "+n.id+" = $1", args{r.id}); err != nil {
		return err
	}
	return n.add(tx, r)
}

// begun returns a page of the records of which a name begins with page.Begins, each once, in the order of these names,
// and the cursor of the next page, or "". columns are those of the record, and parts are as those of where.first.
func begun[T any](tx *Tx, n names, parts []string, page Page, columns string, scan func(func(...any) error) (T, error),
	id func(T) string) (found []T, cursor string, err error) {
	first := nameKey(page.Begins)
	if len(first) == 0 || len(page.Begins) > MaxBegins {
		return nil, "", nil
	}
	end := append([]byte{}, first...)
	end[len(end)-1]++ // no byte of a text is the last one there is
	w := new(where)
	w.add("n.key >= ? AND n.key < ?", first, end)
	w.add("NOT EXISTS (SELECT 1 FROM "+n.table+" o WHERE o."+n.id+" = n."+n.id+" AND o.key >= ? AND o.key < n.key)",
		first)
	if page.After != "" {
		key, after, err := readNameCursor(page.After)
		if err != nil {
			return nil, "", err
		}
		w.add("(n.key, n."+n.id+") > (?, ?)", key, after)
	}
	limit := page.limit()
	var keys [][]byte
	query := w.first("SELECT n.key, n."+n.id+" AS record, "+columnsOf(n.of, columns)+" FROM "+n.table+" n JOIN "+n.of+
		" ON "+n.of+".id = n."+n.id, parts, "key, record", limit+1)
	found, err = all(tx, query, w.args, func(s func(...any) error) (T, error) {
		var key []byte
		var record string
		entry, err := scan(func(into ...any) error { return s(append([]any{&key, &record}, into...)...) })
		keys = append(keys, key)
		return entry, err
	})
	if err != nil || len(found) <= limit {
		return found, "", err
	}
	found = found[:limit]
	return found, nameCursor(keys[limit-1], id(found[limit-1])), nil
}

// nameCursor returns the cursor of the page that begins after the record with the given name and id.
func nameCursor(key []byte, id string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(id + "\x00" + string(key)))
}

func readNameCursor(cursor string) (key []byte, id string, err error) {
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	id, last, found := strings.Cut(string(text), "\x00")
	if err != nil || !found {
		return nil, "", oauth.Refuse(oauth.InvalidRequest,
			"cursor is not valid: use the one that came with the previous page")
	}
	return []byte(last), id, nil
}

// columnsOf returns columns of the table with the given name in a join.
func columnsOf(table, columns string) string {
	return table + "." + strings.ReplaceAll(columns, ", ", ", "+table+".")
}

// namesFilled is the setting that says that the names are stored of all records.
const namesFilled = "names_filled"

// fillNames stores the names of the records that an earlier version stored.
func (db *DB) fillNames(ctx context.Context) error {
	filled := false
	if err := db.View(ctx, func(tx *Tx) error {
		_, err := tx.Setting(namesFilled)
		filled = err == nil
		if errors.Is(err, ErrNotFound) {
			err = nil
		}
		return err
	}); err != nil || filled {
		return err
	}
	for _, fill := range []func(*Tx, Page) (next string, err error){
		filler(clientNames, func(tx *Tx, p Page) ([]*oauth.Client, string, error) {
			return tx.Clients(ClientFilter{}, p)
		}, namesOfClient),
		filler(userNames, (*Tx).Users, namesOfUser),
		filler(resourceNames, (*Tx).ResourcePage, namesOfResource),
		filler(groupNames, (*Tx).Groups, namesOfGroup),
	} {
		for page := (Page{Limit: maxLimit}); ; {
			if err := db.Update(ctx, func(tx *Tx) (err error) {
				page.After, err = fill(tx, page)
				return err
			}); err != nil {
				return err
			}
			if page.After == "" {
				break
			}
		}
	}
	return db.Update(ctx, func(tx *Tx) error {
		_, err := tx.SetSettingOnce(namesFilled, "yes")
		return err
	})
}

// filler returns a function that stores the names of a page of records and returns the cursor of the next page.
func filler[T any](n names, list func(*Tx, Page) ([]T, string, error),
	of func(T) named) func(*Tx, Page) (string, error) {
	return func(tx *Tx, page Page) (string, error) {
		records, next, err := list(tx, page)
		if err != nil {
			return "", err
		}
		var all []named
		for _, r := range records {
			all = append(all, of(r))
		}
		return next, n.add(tx, all...)
	}
}

// namesOfClient leaves out the id of a client that registered itself, because each registration would pay for it. It is
// found by the whole of its id.
func namesOfClient(c *oauth.Client) named {
	names := []string{c.Name}
	if c.Origin != oauth.ByRegistration {
		names = append(names, c.ID)
	}
	return named{c.ID, string(c.Origin), names}
}

// namesOfUser has the e-mail address also in the form that sign-ins compare, whose domain may be another text.
func namesOfUser(u *identity.User) named {
	return named{u.ID, "", []string{u.Email, identity.EmailKey(u.Email), u.Name, u.ID}}
}

func namesOfResource(r *oauth.Resource) named {
	return named{r.ID, "", []string{r.Name, r.Identifier, r.ID}}
}

func namesOfGroup(g *identity.Group) named { return named{g.ID, "", []string{g.Name}} }
