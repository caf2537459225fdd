package main

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

type initialCommands struct {
	Create initialCreate `cmd:"" help:"Make a token; it is shown once."`
	List   initialList   `cmd:"" help:"List the tokens."`
	Revoke initialRevoke `cmd:"" help:"End a token; the clients it registered stay."`
}

// initialView is an initial access token as commands print it.
type initialView struct {
	ID        string `json:"id"`
	Token     string `json:"token,omitempty"` // only when it was made just now
	Name      string `json:"name"`
	State     string `json:"state"` // "live", "revoked", "expired" or "used up"
	Uses      int    `json:"uses"`
	MaxUses   int    `json:"max_uses"` // 0: any number
	CreatedAt moment `json:"created_at"`
	ExpiresAt moment `json:"expires_at"`
	RevokedAt moment `json:"revoked_at"`
}

func viewInitialToken(t *oauth.InitialAccessToken, now time.Time) initialView {
	return initialView{
		ID: t.ID, Name: t.Name, State: t.State(now), Uses: t.Uses, MaxUses: t.MaxUses,
		CreatedAt: moment{t.CreatedAt}, ExpiresAt: moment{t.ExpiresAt}, RevokedAt: moment{t.RevokedAt},
	}
}

func (v initialView) used() string {
	if v.MaxUses == 0 {
		return strconv.Itoa(v.Uses)
	}
	return strconv.Itoa(v.Uses) + " of " + strconv.Itoa(v.MaxUses)
}

func (v initialView) draw(t *table) {
	t.row("id", v.ID)
	if v.Token != "" {
		t.row("token", v.Token+"  (shown this once: keep it)")
	}
	t.row("name", v.Name)
	t.row("state", v.State)
	t.row("used", v.used())
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
	return `With registration.dcr set to token, clients register with it alone:

	curl https://auth.example.com/oauth2/register -H "Authorization: Bearer cardea_iat_…" \
	    -H "Content-Type: application/json" -d '{"client_name":"App","redirect_uris":["https://app.example.com/callback"]}'`
}

func (c *initialCreate) Run(ctx context.Context, sh *shell) error {
	switch {
	case c.Uses < 0:
		return usageError("--uses must not be negative; 0 is any number")
	case c.TTL < 0:
		return usageError("--ttl must not be negative; 0 is for ever")
	}
	token := oauth.NewSecret(oauth.InitialTokenPrefix)
	made := &oauth.InitialAccessToken{ID: oauth.NewID("iat_"), Hash: oauth.Hash(token), Name: c.Name, MaxUses: c.Uses}
	err := sh.update(ctx, func(tx *store.Tx) error {
		made.CreatedAt = tx.Now()
		if c.TTL > 0 {
			made.ExpiresAt = tx.Now().Add(c.TTL)
		}
		return concludeWith(tx, audit.InitialAccessToken("create", made.ID, made.Name), tx.CreateInitialToken(made))
	})
	if err != nil {
		return err
	}
	view := viewInitialToken(made, made.CreatedAt)
	view.Token = token
	return c.print(sh, view, view.draw)
}

type initialList struct{ output }

func (c *initialList) Run(ctx context.Context, sh *shell) error {
	views := []initialView{}
	err := sh.view(ctx, func(tx *store.Tx) error {
		tokens, err := everyPage(tx.InitialTokens)
		for _, t := range tokens {
			views = append(views, viewInitialToken(t, tx.Now()))
		}
		return err
	})
	if err != nil {
		return err
	}
	return c.print(sh, views, func(t *table) {
		t.row("ID", "NAME", "STATE", "USED", "CREATED", "EXPIRES")
		for _, v := range views {
			t.row(v.ID, v.Name, v.State, v.used(), v.CreatedAt.String(), v.ExpiresAt.String())
		}
	})
}

type initialRevoke struct {
	ID string `arg:"" name:"id" help:"The token, by its id."`
	output
}

func (c *initialRevoke) Run(ctx context.Context, sh *shell) error {
	var view initialView
	err := sh.update(ctx, func(tx *store.Tx) error {
		t, err := tx.InitialToken(c.ID)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return advise("there is no initial access token %s; cardea initial-access-token list shows them", c.ID)
		case err != nil:
			return err
		}
		if t.RevokedAt.IsZero() {
			if err := concludeWith(tx, audit.InitialAccessToken("revoke", t.ID, t.Name), tx.RevokeInitialToken(t.ID)); err != nil {
				return err
			}
			t.RevokedAt = tx.Now()
		}
		view = viewInitialToken(t, tx.Now())
		return nil
	})
	if err != nil {
		return err
	}
	return c.print(sh, view, view.draw)
}
