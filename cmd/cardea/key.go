package main

import (
	"context"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/keys"
)

type keyCommands struct {
	List   keyList   `cmd:"" help:"List the signing keys."`
	Rotate keyRotate `cmd:"" help:"Publish a new signing key; it signs as soon as every verifier had time to fetch it."`
	Retire keyRetire `cmd:"" help:"Take a key that leaked out of the key set at once: every token it signed is refused."`
}

func drawKeys(infos ...keys.Info) func(*table) {
	return func(t *table) {
		t.row("KID", "ALG", "STATE", "SIGNS FROM", "SIGNS UNTIL", "PUBLISHED UNTIL")
		for _, k := range infos {
			t.row(k.KID, k.Alg, k.State, admin.Moment{Time: k.ActiveAt}.String(), admin.Moment{Time: k.RetiredAt}.String(), admin.Moment{Time: k.ExpiresAt}.String())
		}
	}
}

type keyList struct{ output }

func (c *keyList) Run(ctx context.Context, sh *shell) error {
	return sh.operateKeys(ctx, func(o *admin.Operations, by admin.Caller) error {
		infos, err := o.Keys(ctx, by)
		if err != nil {
			return err
		}
		return c.print(sh, infos, drawKeys(infos...))
	})
}

type keyRotate struct {
	Alg string `placeholder:"ALG" help:"Algorithm whose key is rotated; tokens.signing_alg if none is given."`
	Now bool   `help:"Let the new key sign at once, for an emergency: verifiers that cache the key set may refuse its tokens for some minutes."`
	output
}

func (c *keyRotate) Run(ctx context.Context, sh *shell) error {
	return sh.operateKeys(ctx, func(o *admin.Operations, by admin.Caller) error {
		info, err := o.RotateKey(ctx, by, c.Alg, c.Now)
		if err != nil {
			return err
		}
		return c.print(sh, info, drawKeys(info))
	})
}

type keyRetire struct {
	KID string `arg:"" name:"kid" help:"The key."`
	output
}

func (c *keyRetire) Run(ctx context.Context, sh *shell) error {
	return sh.operateKeys(ctx, func(o *admin.Operations, by admin.Caller) error {
		info, err := o.RetireKey(ctx, by, c.KID)
		if err != nil {
			return err
		}
		return c.print(sh, info, drawKeys(info))
	})
}
