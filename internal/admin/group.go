package admin

import (
	"context"
	"errors"
	"regexp"
	"slices"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

// Group is a set of people with a name, as operators see it.
type Group struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Description string `json:"description"`
	// SecondFactor is whether its members need a second factor to sign in.
	SecondFactor bool   `json:"second_factor"`
	CreatedAt    Moment `json:"created_at"`
}

func viewGroup(g *identity.Group) Group {
	return Group{ID: g.ID, Name: g.Name, Description: g.Description, SecondFactor: g.SecondFactor,
		CreatedAt: Moment{g.CreatedAt}}
}

// Member is a person in a group.
type Member struct {
	ID         string `json:"id"`
	Email      string `json:"email"`
	Name       string `json:"name"`
	AddedAt    Moment `json:"added_at"`
	DisabledAt Moment `json:"disabled_at"`
}

func viewMember(m *store.Member) Member {
	return Member{ID: m.ID, Email: m.Email, Name: m.Name, AddedAt: Moment{m.AddedAt}, DisabledAt: Moment{m.DisabledAt}}
}

// GroupMembers is a group with a page of the people in it.
type GroupMembers struct {
	Group
	Members []Member `json:"members"`
}

// Membership is a person and a group after the person was put into it, or taken out of it.
type Membership struct {
	Group  string `json:"group"`
	User   string `json:"user"` // e-mail address
	Member bool   `json:"member"`
}

// groupName is what a group may be called: names stand in addresses, tokens and flags.
var groupName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// maxDescription is the longest description of a group, in bytes.
const maxDescription = 500

// apply changes g to the terms that are given.
func (t GroupTerms) apply(g *identity.Group) error {
	if t.Description != nil {
		text := *t.Description
		if !identity.IsLine(text, maxDescription) {
			return invalid("description", "{description} must be one line of at most %d bytes", maxDescription)
		}
		g.Description = text
	}
	if t.SecondFactor != nil {
		g.SecondFactor = *t.SecondFactor
	}
	return nil
}

// CreateGroup creates an empty group with the terms that are given.
func (o *Operations) CreateGroup(ctx context.Context, by Caller, name string,
	terms GroupTerms) (view Group, err error) {
	if !groupName.MatchString(name) {
		return Group{}, invalid("name", "{name} of a group is 1 to 64 letters (a to z), digits, dots, dashes and "+
			"underscores, and begins with a letter or a digit")
	}
	made := &identity.Group{ID: oauth.NewID("grp_"), Name: name}
	if err := terms.apply(made); err != nil {
		return Group{}, err
	}
	err = o.change(ctx, by, Groups, "group.create", &view, func(tx *store.Tx) (audit.Event, error) {
		made.CreatedAt = tx.Now()
		err := tx.CreateGroup(made)
		if errors.Is(err, store.ErrConflict) {
			err = conflict(Groups, "name", name, "the group %s already exists")
		}
		view = viewGroup(made)
		return audit.Group("create", name, "").Changed(nil, view), err
	})
	return view, err
}

// Groups returns a page of the groups and the cursor of the next, "" for none.
func (o *Operations) Groups(ctx context.Context, by Caller, page store.Page) (views []Group, next string, err error) {
	err = o.look(ctx, by, Groups, func(tx *store.Tx) error {
		if err := checkBegins(page); err != nil {
			return err
		}
		groups, cursor, err := tx.Groups(page)
		views, next, err = viewed(viewGroup, groups, cursor, err)
		return err
	})
	return views, next, err
}

// Group returns the group with the given name with a page of its members, in the order in which they were added, and
// the cursor of the next page, "" for none.
func (o *Operations) Group(ctx context.Context, by Caller, name string,
	page store.Page) (view GroupMembers, next string, err error) {
	err = o.look(ctx, by, Groups, func(tx *store.Tx) error {
		g, err := findGroup(tx.Group, name)
		if err != nil {
			return err
		}
		view.Group = viewGroup(g)
		members, cursor, err := tx.Members(g.ID, page)
		view.Members, next, err = viewed(viewMember, members, cursor, err)
		return err
	})
	return view, next, err
}

// changeGroup runs fn on the group with the given name, which no other transaction changes or deletes meanwhile, and
// records the event that fn returns.
func (o *Operations) changeGroup(ctx context.Context, by Caller, verb, name string, view any,
	fn func(*store.Tx, *identity.Group) (audit.Event, error)) error {
	return o.change(ctx, by, Groups, "group."+verb, view, func(tx *store.Tx) (audit.Event, error) {
		g, err := findGroup(tx.LockGroup, name)
		if err == nil {
			err = o.matches(viewGroup(g))
		}
		if err != nil {
			return audit.Event{}, err
		}
		return fn(tx, g)
	})
}

// GroupTerms say what a group is for, and what its members need. What is nil stays as it is.
type GroupTerms struct {
	Description  *string `json:"description"`
	SecondFactor *bool   `json:"second_factor"`
}

// UpdateGroup changes a group to the terms that are given. Its name stays, because tokens and resources refer to it by
// name. If the group has these terms already, nothing is written or recorded.
func (o *Operations) UpdateGroup(ctx context.Context, by Caller, name string,
	terms GroupTerms) (view Group, err error) {
	err = o.changeGroup(ctx, by, "update", name, &view, func(tx *store.Tx, g *identity.Group) (audit.Event, error) {
		before := viewGroup(g)
		if err := terms.apply(g); err != nil {
			return audit.Event{}, err
		}
		if view = viewGroup(g); view == before {
			return audit.Event{}, nil
		}
		return audit.Group("update", g.Name, "").Changed(before, view), tx.UpdateGroup(g)
	})
	return view, err
}

// DeleteGroup deletes a group, but not the people in it. It refuses to delete a group to which an MCP server or a scope
// is limited, because a later group of the same name would open it.
func (o *Operations) DeleteGroup(ctx context.Context, by Caller, name string) (done Deletion, err error) {
	err = o.changeGroup(ctx, by, "delete", name, &done, func(tx *store.Tx, g *identity.Group) (audit.Event, error) {
		resources, err := tx.Resources()
		if err != nil {
			return audit.Event{}, err
		}
		for _, r := range resources {
			if slices.Contains(r.Limiting(), g.Name) {
				return audit.Event{}, conflict(Groups, "", g.Name, "the group %s says who may use an MCP server; "+
					"change that first, with: cardea resource update "+r.ID)
			}
		}
		members, err := tx.CountMembers(g.ID)
		if err != nil {
			return audit.Event{}, err
		}
		done = Deletion{What: "group", ID: g.ID, Name: g.Name, Members: members}
		return audit.Group("delete", g.Name, "").Changed(viewGroup(g), nil), tx.DeleteGroup(g.ID)
	})
	return done, err
}

// AddMember puts the person with the given id or e-mail address into a group. It changes nothing if the
// person is in the group already.
func (o *Operations) AddMember(ctx context.Context, by Caller, name, user string) (Membership, error) {
	return o.changeMember(ctx, by, "add", name, user, (*store.Tx).AddMember)
}

// RemoveMember takes the person with the given id or e-mail address out of a group. It is not an error if they are not
// in it.
func (o *Operations) RemoveMember(ctx context.Context, by Caller, name, user string) (Membership, error) {
	return o.changeMember(ctx, by, "remove", name, user, (*store.Tx).RemoveMember)
}

func (o *Operations) changeMember(ctx context.Context, by Caller, verb, name, user string,
	do func(tx *store.Tx, groupID, userID string) (bool, error)) (m Membership, err error) {
	err = o.changeGroup(ctx, by, verb, name, &m, func(tx *store.Tx, g *identity.Group) (event audit.Event, err error) {
		if o.rehearses() && by.check(tx, Groups, Write) != nil { // the answer tells whether there is such an account
			if err := by.check(tx, Users, Read); err != nil {
				return event, err
			}
		}
		u, err := tx.LockUser(user) // so that it is not deleted meanwhile
		if errors.Is(err, store.ErrNotFound) {
			err = noUser(user)
		}
		if err != nil {
			return event, err
		}
		m = Membership{Group: g.Name, User: u.Email, Member: verb == "add"}
		changed, err := do(tx, g.ID, u.ID)
		if changed {
			event = audit.Group(verb, g.Name, u.ID).Changed(Membership{g.Name, u.Email, !m.Member}, m)
		}
		return event, err
	})
	return m, err
}

// lockNamed returns the groups with the given names, each once and in alphabetical order, so that of two transactions
// that need the same groups one waits for the other. No other transaction changes or deletes them until tx ends.
func lockNamed(tx *store.Tx, names []string) ([]*identity.Group, error) {
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	groups := make([]*identity.Group, len(names))
	for i, name := range names {
		var err error
		if groups[i], err = findGroup(tx.LockGroup, name); err != nil {
			return nil, err
		}
	}
	return groups, nil
}

// namesOf returns the names of groups.
func namesOf(groups []*identity.Group) []string {
	names := make([]string, len(groups))
	for i, g := range groups {
		names[i] = g.Name
	}
	return names
}

func findGroup(find func(string) (*identity.Group, error), name string) (*identity.Group, error) {
	g, err := find(name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, notFound(Groups, name, "there is no group %s")
	}
	return g, err
}
