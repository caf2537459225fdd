package main

import (
	"context"
	"strconv"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/store"
)

type initialCommands struct {
	Create initialCreate `cmd:"" help:"Make a token; it is shown once."`
	List   initialList   `cmd:"" help:"List the tokens."`
	Revoke initialRevoke `cmd:"" help:"End a token; the clients it registered stay."`
}

func uses(v admin.InitialAccessToken) string {
	if v.MaxUses == 0 {
		return strconv.Itoa(v.Uses)
	}
	return strconv.Itoa(v.Uses) + " of " + strconv.Itoa(v.MaxUses)
}

func drawInitialToken(v admin.InitialAccessToken, t *table) {
	t.row("id", v.ID)
	if v.Token != "" {
		t.row("token", v.Token+"  (shown this once: keep it)")
	}
	t.row("name", v.Name)
	t.row("state", v.State)
	t.row("used", uses(v))
	t.row("created", v.CreatedAt.String())
	t.row("expires", v.ExpiresAt.String())
}

type initialCreate struct {
	Name string        `required:"" placeholder:"NAME" help:"What it is for, such as the team that gets it."`
	Uses int           `default:"1" placeholder:"N" help:"How many clients it registers; 0 is any number."`
	TTL  time.Duration `name:"ttl" default:"24h" placeholder:"DURATION" help:"How long it lives; 0 is for ever."`
	output
}

// Help is shown below the usage.
func (c *initialCreate) Help() string {
	return `With registration.dcr set to token, clients register with such a token only:

	curl https://auth.example.com/oauth2/register -H "Authorization: Bearer cardea_iat_…" \
	    -H "Content-Type: application/json" -d '{"client_name":"App","redirect_uris":["https://app.example.com/callback"]}'`
}

func (c *initialCreate) Run(ctx context.Context, sh *shell) error {
	return one(ctx, sh, c.output, drawInitialToken, func(o *admin.Operations, by admin.Caller) (admin.InitialAccessToken, error) {
		return o.CreateInitialAccessToken(ctx, by, c.Name, c.Uses, c.TTL)
	})
}

type initialList struct{ output }

func (c *initialList) Run(ctx context.Context, sh *shell) error {
	return every(ctx, sh, c.output, drawInitialTokens, func(o *admin.Operations, by admin.Caller, p store.Page) ([]admin.InitialAccessToken, string, error) {
		return o.InitialAccessTokens(ctx, by, p)
	})
}

func drawInitialTokens(views []admin.InitialAccessToken, t *table) {
	t.row("ID", "NAME", "STATE", "USED", "CREATED", "EXPIRES")
	for _, v := range views {
		t.row(v.ID, v.Name, v.State, uses(v), v.CreatedAt.String(), v.ExpiresAt.String())
	}
}

type initialRevoke struct {
	ID string `arg:"" name:"id" help:"The token, by its id."`
	output
}

func (c *initialRevoke) Run(ctx context.Context, sh *shell) error {
	return one(ctx, sh, c.output, drawInitialToken, func(o *admin.Operations, by admin.Caller) (admin.InitialAccessToken, error) {
		return o.RevokeInitialAccessToken(ctx, by, c.ID)
	})
}
