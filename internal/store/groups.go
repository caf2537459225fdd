package store

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/identity"
)

const groupColumns = "id, name, description, created_at, second_factor"

// CreateGroup stores a new group with all its fields, including CreatedAt. It returns ErrConflict if its id or its name
// is taken.
func (tx *Tx) CreateGroup(g *identity.Group) error {
	if err := tx.create("INSERT INTO groups ("+groupColumns+") VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
		args{g.ID, g.Name, g.Description, g.CreatedAt.UnixMicro(), bit(g.SecondFactor)}); err != nil {
		return err
	}
	return groupNames.add(tx, namesOfGroup(g))
}

// Group returns the group with the given name, or ErrNotFound.
func (tx *Tx) Group(name string) (*identity.Group, error) {
	found, err := all(tx, "SELECT "+groupColumns+" FROM groups WHERE name = $1", args{name}, scanGroup)
	return only(found, err)
}

// LockGroup is like Group, and keeps other transactions from changing or deleting the group until this one ends.
func (tx *Tx) LockGroup(name string) (*identity.Group, error) {
	found, err := all(tx, "UPDATE groups SET id = id WHERE name = $1 RETURNING "+groupColumns, args{name}, scanGroup)
	return only(found, err)
}

// Groups returns a page of the groups and the cursor of the next page, or "".
func (tx *Tx) Groups(page Page) (groups []*identity.Group, next string, err error) {
	if page.Begins != "" {
		return begun(tx, groupNames, nil, page, groupColumns, scanGroup, func(g *identity.Group) string { return g.ID })
	}
	return listing[*identity.Group]{query: "SELECT " + groupColumns + " FROM groups",
		at: "created_at", id: "id", scan: scanGroup,
		key: func(g *identity.Group) (time.Time, string) { return g.CreatedAt, g.ID }}.page(tx, new(where), page)
}

// UpdateGroup stores the description of a group and whether its members need a second factor. It returns ErrNotFound if
// there is no such group.
func (tx *Tx) UpdateGroup(g *identity.Group) error {
	return tx.one("UPDATE groups SET description = $2, second_factor = $3 WHERE id = $1",
		args{g.ID, g.Description, bit(g.SecondFactor)})
}

// DeleteGroup deletes a group and its memberships. It returns ErrNotFound if there is no such group.
func (tx *Tx) DeleteGroup(id string) error {
	var name string
	if err := tx.row("DELETE FROM groups WHERE id = $1 RETURNING name", args{id}, &name); err != nil {
		return err
	}
	resources, err := tx.Resources()
	for _, r := range resources {
		if slices.Contains(r.Limiting(), name) {
			tx.ended(OfResource, r.ID)
		}
	}
	return err
}

// AddMember puts a user into a group. It returns false if the user was in it before. Both must exist.
func (tx *Tx) AddMember(groupID, userID string) (bool, error) {
	n, err := tx.exec("INSERT INTO group_members (group_id, user_id, added_at) VALUES ($1, $2, $3) "+
		"ON CONFLICT DO NOTHING", args{groupID, userID, micros(tx.now)})
	if n > 0 {
		tx.ended(OfUser, userID)
	}
	return n > 0, err
}

// RemoveMember takes a user out of a group. It returns false if the user was not in it.
func (tx *Tx) RemoveMember(groupID, userID string) (bool, error) {
	n, err := tx.exec("DELETE FROM group_members WHERE group_id = $1 AND user_id = $2", args{groupID, userID})
	if n > 0 {
		tx.ended(OfUser, userID)
	}
	return n > 0, err
}

// Member is a user in a group.
type Member struct {
	identity.User
	AddedAt time.Time
}

// Members returns a page of the users in a group, in the order in which they were added, and the cursor of the next
// page, or "".
func (tx *Tx) Members(groupID string, page Page) (members []*Member, next string, err error) {
	w := new(where)
	w.add("m.group_id = ?", groupID)
	query := "SELECT m.added_at, " + columnsOf("u", userColumns) +
		" FROM group_members m JOIN users u ON u.id = m.user_id"
	scanMember := func(scan func(...any) error) (*Member, error) {
		m := new(Member)
		err := scan(append([]any{instant{&m.AddedAt}}, userFields(&m.User)...)...)
		return m, err
	}
	return listing[*Member]{query: query, at: "m.added_at", id: "m.user_id", scan: scanMember,
		key: func(m *Member) (time.Time, string) { return m.AddedAt, m.ID }}.page(tx, w, page)
}

// CountMembers returns how many users are in a group.
func (tx *Tx) CountMembers(groupID string) (n int, err error) {
	err = tx.row("SELECT count(*) FROM group_members WHERE group_id = $1", args{groupID}, &n)
	return n, err
}

// UserGroups returns the names of the groups of each of the users, in alphabetical order.
func (tx *Tx) UserGroups(userIDs ...string) (map[string][]string, error) {
	groups := map[string][]string{}
	if len(userIDs) == 0 {
		return groups, nil
	}
	places, values := make([]string, len(userIDs)), make(args, len(userIDs))
	for i, id := range userIDs {
		places[i], values[i] = "$"+strconv.Itoa(i+1), id
	}
	err := tx.rows("SELECT m.user_id, g.name FROM group_members m JOIN groups g ON g.id = m.group_id "+
		"WHERE m.user_id IN ("+
		strings.Join(places, ", ")+") ORDER BY g.name", values, func(scan func(...any) error) error {
		var user, name string
		err := scan(&user, &name)
		groups[user] = append(groups[user], name)
		return err
	})
	return groups, err
}

func scanGroup(scan func(...any) error) (*identity.Group, error) {
	g := new(identity.Group)
	err := scan(&g.ID, &g.Name, line{&g.Description}, instant{&g.CreatedAt}, flag{&g.SecondFactor})
	return g, err
}
