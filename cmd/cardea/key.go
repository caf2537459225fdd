package main

import (
	"context"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/adminapi"
	"github.com/cardea-auth/cardea/internal/keys"
)

type keyCommands struct {
	List   keyList   `cmd:"" help:"List the signing keys."`
	Rotate keyRotate `cmd:"" help:"Publish a new signing key. It signs as soon as every verifier has had time to fetch it."`
	Retire keyRetire `cmd:"" help:"Remove a leaked key from the key set at once, so that every token signed with it is refused."`
}

func drawKeys(infos []keys.Info, t *table) {
	t.Head("KID", "ALG", "STATE", "SIGNS FROM", "SIGNS UNTIL", "PUBLISHED UNTIL")
	for _, k := range infos {
		t.Row(k.KID, k.Alg, k.State, admin.Moment{Time: k.ActiveAt}.String(), admin.Moment{Time: k.RetiredAt}.String(),
			admin.Moment{Time: k.ExpiresAt}.String())
	}
	t.Fold(0) // nothing, but a row fits a narrow terminal as a block
}

type keyList struct{ output }

func (c *keyList) Run(ctx context.Context, sh *shell) error {
	const none = "there is no signing key yet; cardea serve makes the first one when it starts"
	return list(ctx, sh, sh.operateKeys, c.output, none, drawKeys, adminapi.ListKeys, searched{}.listing)
}

func drawKey(info keys.Info, t *table) { drawKeys([]keys.Info{info}, t) }

type keyRotate struct {
	Alg string `placeholder:"ALG" help:"Algorithm of the new key; tokens.signing_alg by default."`
	Now bool   `help:"Let the new key sign at once, in an emergency. Verifiers that cache the key set may refuse its tokens for some minutes."`
	output
}

func (c *keyRotate) Run(ctx context.Context, sh *shell) error {
	in := adminapi.Creation[*admin.Rotation]{Body: &admin.Rotation{Alg: c.Alg, Now: c.Now}}
	return askWith(ctx, sh, sh.operateKeys, c.output, drawKey, adminapi.RotateKey, in)
}

type keyRetire struct {
	KID string `arg:"" name:"kid" help:"The kid of the key."`
	output
}

func (c *keyRetire) Run(ctx context.Context, sh *shell) error {
	return askWith(ctx, sh, sh.operateKeys, c.output, drawKey, adminapi.RetireKey, adminapi.ByKID{KID: c.KID})
}
