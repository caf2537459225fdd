package main

import (
	"context"
	"strconv"
	"strings"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/adminapi"
)

type clientApprove struct {
	ID    string  `arg:"" name:"client_id" help:"The client."`
	Group *string `placeholder:"NAME" xor:"whom" help:"Only for the members of this group, as long as they are in it."`
	Once  *string `placeholder:"USER" xor:"whom" help:"Only for this person, by e-mail or id, and one consent within a week."`
	output
}

// Help returns what the help shows below the usage.
func (c *clientApprove) Help() string {
	return "Without --group and --once, the client is approved for everybody. A person who waits for it goes on " +
		"at once, if the approval is for them (registration.approval)."
}

func (c *clientApprove) Run(ctx context.Context, sh *shell) error {
	in := adminapi.Change[*admin.Approval]{ID: c.ID, Body: &admin.Approval{Group: c.Group, Once: c.Once}}
	return ask(ctx, sh, c.output, drawClient, adminapi.ApproveClient, in)
}

type clientUnapprove struct {
	ID        string  `arg:"" name:"client_id" help:"The client."`
	Group     *string `placeholder:"NAME" help:"Only the approval for the members of this group; all approvals if none is given."`
	EndGrants bool    `help:"End every grant of the client too."`
	output
}

// Help returns what the help shows below the usage.
func (c *clientUnapprove) Help() string {
	return "Nobody vouches for the client any more: its consent page says so, and no consent is remembered. With " +
		"registration.approval: required, the next person who comes with it waits. What people have allowed it goes " +
		"on, unless --end-grants is given."
}

func (c *clientUnapprove) Run(ctx context.Context, sh *shell) error {
	in := adminapi.Change[*admin.Withdrawal]{ID: c.ID, Body: &admin.Withdrawal{Group: c.Group, EndGrants: c.EndGrants}}
	return ask(ctx, sh, c.output, drawUnapproval, adminapi.UnapproveClient, in)
}

func drawUnapproval(v admin.Unapproval, t *table) {
	drawClient(v.Client, t)
	if v.Grants > 0 {
		t.Row("ended", count(v.Grants, "grant"))
	}
}

type clientDismiss struct{ namedClient }

func (c *clientDismiss) Run(ctx context.Context, sh *shell) error {
	return c.run(ctx, sh, adminapi.DismissClient)
}

func drawWaiting(views []admin.WaitingClient, t *table) {
	t.Head("CLIENT ID", "NAME", "SITES", "WHO", "MCP SERVER", "SCOPE", "PEOPLE", "FIRST ASKED", "LAST ASKED")
	t.Fold(16, "NAME", "SITES", "MCP SERVER", "SCOPE")
	for _, v := range views {
		t.Row(v.ID, dash(v.Name), dash(strings.Join(v.Sites, " ")), dash(v.User),
			dash(v.Resource), dash(v.Scope), strconv.FormatInt(v.People, 10), v.FirstAskedAt.String(),
			v.LastAskedAt.String())
	}
}

type clientBlock struct {
	ID      string   `arg:"" name:"client_id" help:"The client: its id, or the URL of its metadata document."`
	Site    []string `sep:"none" placeholder:"DOMAIN" xor:"sites" help:"Site of the client to shut out with it. Repeatable; all its sites if none is given."`
	NoSites bool     `xor:"sites" help:"Shut out only the client itself, and all with its name, redirect URIs and software_id."`
	Reason  string   `placeholder:"TEXT" help:"Why, for other operators."`
	output
}

// Help returns what the help shows below the usage.
func (c *clientBlock) Help() string {
	return `Every grant of the client and every token ends at once, and it cannot come back under another id: no client is
let in that has a redirect URI or a metadata document on one of its sites, or the same name, redirect URIs and
software_id, unless it is approved. The sites are printed. If one of them belongs to somebody else, unblock the client
and block it with --site or --no-sites.`
}

func (c *clientBlock) Run(ctx context.Context, sh *shell) error {
	terms := admin.BlockTerms{Sites: c.Site, Reason: c.Reason}
	if c.NoSites {
		terms.Sites = []string{}
	}
	return ask(ctx, sh, c.output, drawBlock, adminapi.BlockClient,
		adminapi.Change[*admin.BlockTerms]{ID: c.ID, Body: &terms})
}

func drawBlock(v admin.Block, t *table) {
	t.Row("block", v.ID)
	t.Row("client id", v.ClientID)
	t.Row("name", dash(v.Name))
	for _, site := range v.Sites {
		t.Row("site", site)
	}
	t.Row("reason", dash(v.Reason))
	t.Row("blocked", v.CreatedAt.String())
	if v.GrantsEnded > 0 {
		t.Row("ended", count(v.GrantsEnded, "grant"))
	}
}

type clientUnblock struct {
	ID string `arg:"" name:"client_id" help:"The client that was blocked, or the id of the block."`
	output
}

func (c *clientUnblock) Run(ctx context.Context, sh *shell) error {
	return ask(ctx, sh, c.output, drawBlock, adminapi.UnblockClient, adminapi.ByID{ID: c.ID})
}

type clientBlocks struct{ output }

func (c *clientBlocks) Run(ctx context.Context, sh *shell) error {
	return list(ctx, sh, sh.operate, c.output, "no client is blocked", drawBlocks, adminapi.ListBlocks, plainListing)
}

func drawBlocks(views []admin.Block, t *table) {
	t.Head("BLOCK", "CLIENT ID", "NAME", "SITES", "BLOCKED", "REASON")
	t.Fold(16, "NAME", "SITES", "REASON")
	for _, v := range views {
		t.Row(v.ID, v.ClientID, dash(v.Name), dash(strings.Join(v.Sites, " ")), v.CreatedAt.String(),
			dash(v.Reason))
	}
}
