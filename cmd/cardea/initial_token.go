package main

import (
	"context"
	"strconv"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/adminapi"
)

type initialCommands struct {
	Create initialCreate `cmd:"" help:"Create a token. It is shown once."`
	List   initialList   `cmd:"" help:"List the tokens."`
	Revoke initialRevoke `cmd:"" help:"Revoke a token. The clients that were registered with it stay."`
}

func uses(v admin.InitialAccessToken) string {
	if v.MaxUses == 0 {
		return strconv.Itoa(v.Uses)
	}
	return strconv.Itoa(v.Uses) + " of " + strconv.Itoa(v.MaxUses)
}

func drawInitialToken(v admin.InitialAccessToken, t *table) {
	t.Row("id", v.ID)
	if v.Token != "" {
		t.Row("token", v.Token+"  (shown this once: keep it)")
	}
	t.Row("name", v.Name)
	t.Row("state", v.State)
	t.Row("used", uses(v))
	t.Row("created", v.CreatedAt.String())
	t.Row("expires", v.ExpiresAt.String())
}

type initialCreate struct {
	Name string        `required:"" placeholder:"NAME" help:"What it is for, such as the team that gets it."`
	Uses int           `default:"1" placeholder:"N" help:"How many clients it registers; 0 means any number."`
	TTL  time.Duration `name:"ttl" default:"24h" placeholder:"DURATION" help:"How long it is valid; 0 means that it does not expire."`
	output
}

// Help returns what the help shows below the usage.
func (c *initialCreate) Help() string {
	return `If registration.dcr is token, clients can register only with such a token:

	curl https://auth.example.com/oauth2/register -H "Authorization: Bearer cardea_iat_…" \
	    -H "Content-Type: application/json" -d '{"client_name":"App","redirect_uris":["https://app.example.com/callback"]}'`
}

func (c *initialCreate) Run(ctx context.Context, sh *shell) error {
	in := adminapi.NewInitialToken{Name: c.Name, MaxUses: c.Uses, TTL: admin.Span(c.TTL)}
	return ask(ctx, sh, c.output, drawInitialToken, adminapi.CreateInitialAccessToken,
		adminapi.Creation[adminapi.NewInitialToken]{Body: in})
}

type initialList struct{ output }

func (c *initialList) Run(ctx context.Context, sh *shell) error {
	none := "there is no initial access token yet; make one with: cardea initial-access-token create --name NAME"
	return list(ctx, sh, sh.operate, c.output, none, drawInitialTokens, adminapi.ListInitialAccessTokens, plainListing)
}

func drawInitialTokens(views []admin.InitialAccessToken, t *table) {
	t.Head("ID", "NAME", "STATE", "USED", "CREATED", "EXPIRES")
	t.Fold(16, "NAME")
	for _, v := range views {
		t.Row(v.ID, v.Name, v.State, uses(v), v.CreatedAt.String(), v.ExpiresAt.String())
	}
}

type initialRevoke struct {
	ID string `arg:"" name:"id" help:"The token, by its id."`
	output
}

func (c *initialRevoke) Run(ctx context.Context, sh *shell) error {
	return ask(ctx, sh, c.output, drawInitialToken, adminapi.RevokeInitialAccessToken, adminapi.ByID{ID: c.ID})
}
