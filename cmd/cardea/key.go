package main

import (
	"context"
	"errors"
	"strings"

	"github.com/cardea-auth/cardea/internal/keys"
	"github.com/cardea-auth/cardea/internal/oauth"
)

type keyCommands struct {
	List   keyList   `cmd:"" help:"List the signing keys."`
	Rotate keyRotate `cmd:"" help:"Publish a new signing key; it signs as soon as every verifier had time to fetch it."`
	Retire keyRetire `cmd:"" help:"Take a key that leaked out of the key set at once: every token it signed is refused."`
}

func drawKeys(infos []keys.Info) func(*table) {
	return func(t *table) {
		t.row("KID", "ALG", "STATE", "SIGNS FROM", "SIGNS UNTIL", "PUBLISHED UNTIL")
		for _, k := range infos {
			t.row(k.KID, k.Alg, k.State, moment{k.ActiveAt}.String(), moment{k.RetiredAt}.String(), moment{k.ExpiresAt}.String())
		}
	}
}

// withRing runs fn on the signing keys of the configured database.
func withRing(ctx context.Context, sh *shell, fn func(*installation, *keys.Ring) error) error {
	i, err := sh.open(ctx)
	if err != nil {
		return err
	}
	ring, err := i.ring(ctx)
	if err == nil {
		err = fn(i, ring)
	}
	return errors.Join(err, i.close())
}

type keyList struct{ output }

func (c *keyList) Run(ctx context.Context, sh *shell) error {
	return withRing(ctx, sh, func(_ *installation, ring *keys.Ring) error {
		infos, err := ring.List(ctx)
		if err != nil {
			return err
		}
		return c.print(sh, append([]keys.Info{}, infos...), drawKeys(infos))
	})
}

type keyRotate struct {
	Alg string `placeholder:"ALG" help:"Algorithm whose key is rotated; tokens.signing_alg if none is given."`
	Now bool   `help:"Let the new key sign at once, for an emergency: verifiers that cache the key set may refuse its tokens for some minutes."`
	output
}

func (c *keyRotate) Run(ctx context.Context, sh *shell) error {
	if c.Alg != "" && !oauth.IsSigningAlg(c.Alg) {
		return usageError("--alg is unknown; use one of " + strings.Join(oauth.SigningAlgs, ", "))
	}
	return withRing(ctx, sh, func(i *installation, ring *keys.Ring) error {
		alg := c.Alg
		if alg == "" {
			alg = i.config.Tokens.SigningAlg
		}
		info, err := ring.Rotate(ctx, alg, c.Now)
		if err != nil {
			return err
		}
		return c.print(sh, info, drawKeys([]keys.Info{info}))
	})
}

type keyRetire struct {
	KID string `arg:"" name:"kid" help:"The key."`
	output
}

func (c *keyRetire) Run(ctx context.Context, sh *shell) error {
	return withRing(ctx, sh, func(_ *installation, ring *keys.Ring) error {
		info, err := ring.Retire(ctx, c.KID)
		switch {
		case errors.Is(err, keys.ErrNoKey):
			return advise("there is no key %s; cardea key list shows them", c.KID)
		case err != nil:
			return err
		}
		return c.print(sh, info, drawKeys([]keys.Info{info}))
	})
}
