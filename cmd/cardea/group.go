package main

import (
	"cmp"
	"context"
	"io"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/adminapi"
)

type groupCommands struct {
	Create groupCreate `cmd:"" help:"Make a group."`
	List   groupList   `cmd:"" help:"List the groups."`
	Show   groupShow   `cmd:"" help:"Show a group and the people in it."`
	Update groupUpdate `cmd:"" help:"Change what a group is for, or whether its members need a second factor."`
	Delete groupDelete `cmd:"" help:"Delete a group; the people in it stay."`
	Add    groupAdd    `cmd:"" help:"Put a person into a group."`
	Remove groupRemove `cmd:"" help:"Take a person out of a group."`
}

// namedGroup is the argument of a command about one group.
type namedGroup struct {
	Group string `arg:"" help:"The group, by its name."`
	output
}

func drawGroup(v admin.Group, t *table) {
	t.Row("name", v.Name)
	t.Row("description", dash(v.Description))
	if v.SecondFactor {
		t.Row("second factor", "needed")
	}
	t.Row("created", v.CreatedAt.String())
}

type groupCreate struct {
	namedGroup
	Description  string `placeholder:"TEXT" help:"What it is for."`
	SecondFactor bool   `help:"Its members need a second factor to sign in."`
}

func (c *groupCreate) Run(ctx context.Context, sh *shell) error {
	in := adminapi.NewGroup{Name: c.Group}
	in.Description, in.SecondFactor = &c.Description, &c.SecondFactor
	return ask(ctx, sh, c.output, drawGroup, adminapi.CreateGroup, adminapi.Creation[adminapi.NewGroup]{Body: in})
}

type groupList struct {
	searched
	output
}

func (c *groupList) Run(ctx context.Context, sh *shell) error {
	none := "there is no group yet; create one with: cardea group create NAME"
	return list(ctx, sh, sh.operate, c.output, emptyList(c.Begins != "", "group", none), drawGroups,
		adminapi.ListGroups, c.listing)
}

func drawGroups(views []admin.Group, t *table) {
	t.Head("NAME", "DESCRIPTION", "CREATED")
	t.Fold(16, "DESCRIPTION")
	for _, v := range views {
		t.Row(v.Name, dash(v.Description), v.CreatedAt.String())
	}
}

type groupShow struct{ namedGroup }

func (c *groupShow) Run(ctx context.Context, sh *shell) error {
	return sh.reach(ctx, sh.operate, func(t adminapi.Target) error {
		p := newPrinter(c.output, sh, "nobody is in the group yet; put somebody in with: cardea group add "+
			c.Group+" E-MAIL",
			drawMembers)
		for in := (adminapi.GroupMembers{Listing: adminapi.Listing{Limit: 1000}, Name: c.Group}); ; {
			part, err := adminapi.ShowGroup.Call(ctx, t, in)
			if err == nil && in.Cursor == "" {
				err = c.begin(sh, p, part.Group)
			}
			if err == nil {
				err = p.add(part.Members)
			}
			if err != nil {
				return err
			}
			if in.Cursor = part.Next; part.Next == "" {
				return p.end()
			}
		}
	})
}

// begin prints the group itself, before its members.
func (c *groupShow) begin(sh *shell, p *printer[admin.Member], g admin.Group) error {
	if c.Output == "json" {
		return p.within(g, "members")
	}
	if err := c.print(sh, g, func(t *table) { drawGroup(g, t) }); err != nil {
		return err
	}
	_, err := io.WriteString(sh.out, "\n")
	return err
}

func drawMembers(views []admin.Member, t *table) {
	t.Head("MEMBER", "NAME", "STATE", "ADDED")
	t.Fold(16, "MEMBER", "NAME")
	for _, v := range views {
		state := "enabled"
		if !v.DisabledAt.IsZero() {
			state = "disabled"
		}
		t.Row(cmp.Or(v.Email, v.ID), dash(v.Name), state, v.AddedAt.String())
	}
}

type groupUpdate struct {
	namedGroup
	Description  *string `placeholder:"TEXT" help:"What it is for."`
	SecondFactor *bool   `help:"Its members need a second factor to sign in; --second-factor=false: no longer."`
}

func (c *groupUpdate) Run(ctx context.Context, sh *shell) error {
	in := adminapi.GroupChange{Name: c.Group}
	in.Body.Description, in.Body.SecondFactor = c.Description, c.SecondFactor
	return ask(ctx, sh, c.output, drawGroup, adminapi.UpdateGroup, in)
}

type groupDelete struct{ namedGroup }

func (c *groupDelete) Run(ctx context.Context, sh *shell) error {
	return ask(ctx, sh, c.output, drawDeletion, adminapi.DeleteGroup, adminapi.ByName{Name: c.Group})
}

// membership is the arguments of a command about one person in a group.
type membership struct {
	Group string `arg:"" help:"The group, by its name."`
	User  string `arg:"" help:"The person, by e-mail address or id."`
	output
}

func drawMembership(v admin.Membership, t *table) {
	if v.Member {
		t.Row(v.User + " is in " + v.Group)
	} else {
		t.Row(v.User + " is not in " + v.Group)
	}
}

type groupAdd struct{ membership }

func (c *groupAdd) Run(ctx context.Context, sh *shell) error {
	return ask(ctx, sh, c.output, drawMembership, adminapi.AddMember, adminapi.Membership{Name: c.Group, User: c.User})
}

type groupRemove struct{ membership }

func (c *groupRemove) Run(ctx context.Context, sh *shell) error {
	return ask(ctx, sh, c.output, drawMembership, adminapi.RemoveMember,
		adminapi.Membership{Name: c.Group, User: c.User})
}
