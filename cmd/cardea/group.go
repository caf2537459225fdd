package main

import (
	"context"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/table"
)

type groupCommands struct {
	Create groupCreate `cmd:"" help:"Make a group."`
	List   groupList   `cmd:"" help:"List the groups."`
	Show   groupShow   `cmd:"" help:"Show a group and the people in it."`
	Delete groupDelete `cmd:"" help:"Delete a group; the people in it stay."`
	Add    groupAdd    `cmd:"" help:"Put a person into a group."`
	Remove groupRemove `cmd:"" help:"Take a person out of a group."`
}

// namedGroup is the argument of a command about one group.
type namedGroup struct {
	Group string `arg:"" help:"The group, by its name."`
	output
}

func drawGroup(v admin.Group, t *table.Table) {
	t.Row("name", v.Name)
	t.Row("description", table.Dash(v.Description))
	t.Row("created", v.CreatedAt.String())
}

type groupCreate struct {
	namedGroup
	Description string `placeholder:"TEXT" help:"What it is for."`
}

func (c *groupCreate) Run(ctx context.Context, sh *shell) error {
	return one(ctx, sh, c.output, drawGroup, func(o *admin.Operations, by admin.Caller) (admin.Group, error) {
		return o.CreateGroup(ctx, by, c.Group, c.Description)
	})
}

type groupList struct{ output }

func (c *groupList) Run(ctx context.Context, sh *shell) error {
	none := "there is no group yet; create one with: cardea group create NAME"
	return every(ctx, sh, c.output, none, drawGroups, func(o *admin.Operations, by admin.Caller, p store.Page) ([]admin.Group, string, error) {
		return o.Groups(ctx, by, p)
	})
}

func drawGroups(views []admin.Group, t *table.Table) {
	t.Row("NAME", "DESCRIPTION", "CREATED")
	t.Fold(16, "DESCRIPTION")
	for _, v := range views {
		t.Row(v.Name, table.Dash(v.Description), v.CreatedAt.String())
	}
}

type groupShow struct{ namedGroup }

func (c *groupShow) Run(ctx context.Context, sh *shell) error {
	return one(ctx, sh, c.output, drawMembers, func(o *admin.Operations, by admin.Caller) (whole admin.GroupMembers, err error) {
		for page := (store.Page{Limit: 1000}); ; {
			part, next, err := o.Group(ctx, by, c.Group, page)
			if err != nil {
				return whole, err
			}
			part.Members = append(whole.Members, part.Members...)
			whole = part
			if page.After = next; next == "" {
				return whole, nil
			}
		}
	})
}

func drawMembers(v admin.GroupMembers, t *table.Table) {
	drawGroup(v.Group, t)
	t.Row("members", count(len(v.Members), "member"))
	for _, m := range v.Members {
		t.Row("", m.Email, table.Dash(m.Name))
	}
}

type groupDelete struct{ namedGroup }

func (c *groupDelete) Run(ctx context.Context, sh *shell) error {
	return one(ctx, sh, c.output, drawDeletion, func(o *admin.Operations, by admin.Caller) (admin.Deletion, error) {
		return o.DeleteGroup(ctx, by, c.Group)
	})
}

// membership is the arguments of a command about one person in a group.
type membership struct {
	Group string `arg:"" help:"The group, by its name."`
	User  string `arg:"" help:"The person, by e-mail address or id."`
	output
}

func drawMembership(v admin.Membership, t *table.Table) {
	if v.Member {
		t.Row(v.User + " is in " + v.Group)
	} else {
		t.Row(v.User + " is not in " + v.Group)
	}
}

type groupAdd struct{ membership }

func (c *groupAdd) Run(ctx context.Context, sh *shell) error {
	return one(ctx, sh, c.output, drawMembership, func(o *admin.Operations, by admin.Caller) (admin.Membership, error) {
		return o.AddMember(ctx, by, c.Group, c.User)
	})
}

type groupRemove struct{ membership }

func (c *groupRemove) Run(ctx context.Context, sh *shell) error {
	return one(ctx, sh, c.output, drawMembership, func(o *admin.Operations, by admin.Caller) (admin.Membership, error) {
		return o.RemoveMember(ctx, by, c.Group, c.User)
	})
}
