package admin

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/keys"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

// Keys returns all signing keys, oldest first.
func (o *Operations) Keys(ctx context.Context, by Caller) ([]keys.Info, error) {
	if err := o.permit(ctx, by, Keys, Read, "key.read"); err != nil {
		return nil, err
	}
	infos, err := o.Ring.List(ctx)
	return append([]keys.Info{}, infos...), err
}

// Key returns the signing key with the given kid.
func (o *Operations) Key(ctx context.Context, by Caller, kid string) (keys.Info, error) {
	infos, err := o.Keys(ctx, by)
	for _, info := range infos {
		if info.KID == kid {
			return info, err
		}
	}
	if err == nil {
		err = notFound(Keys, kid, "there is no key %s")
	}
	return keys.Info{}, err
}

// Rotation is the input of RotateKey.
type Rotation struct {
	Alg string `json:"alg,omitempty" jsonschema:"the algorithm; the usual one if it is not given"`
	Now bool   `json:"now,omitempty" jsonschema:"whether the new key signs at once, before every verifier had time to fetch it"`
}

// RotateKey publishes a new signing key. The key signs as soon as every verifier has had time to fetch it, or at once
// if in.Now is true.
func (o *Operations) RotateKey(ctx context.Context, by Caller, in Rotation) (keys.Info, error) {
	alg := cmp.Or(in.Alg, o.SigningAlg)
	if !oauth.IsSigningAlg(alg) {
		return keys.Info{}, invalid("alg", "{alg} %q is unknown; use one of %s", alg,
			strings.Join(oauth.SigningAlgs, ", "))
	}
	if err := o.permit(ctx, by, Keys, Write, "key.rotate"); err != nil {
		return keys.Info{}, err
	}
	if err := o.DB.View(ctx, o.answered); err != nil {
		return keys.Info{}, err
	}
	return o.Ring.Rotate(audit.WithActor(ctx, by.Actor), alg, keys.Start(in.Now),
		func(tx *store.Tx, info keys.Info) error { return o.keep(tx, info) })
}

// RetireKey removes a key from the key set at once, so that every token signed with it is refused.
func (o *Operations) RetireKey(ctx context.Context, by Caller, kid string) (keys.Info, error) {
	if err := o.permit(ctx, by, Keys, Write, "key.retire"); err != nil {
		return keys.Info{}, err
	}
	if err := o.DB.View(ctx, o.answered); err != nil {
		return keys.Info{}, err
	}
	before, err := o.Key(ctx, by, kid)
	if err == nil {
		err = o.matches(before)
	}
	if err != nil {
		return keys.Info{}, err
	}
	info, err := o.Ring.Retire(audit.WithActor(ctx, by.Actor), kid)
	if err == nil && o.request.Key != "" { // retiring again would change nothing
		err = o.DB.Update(ctx, func(tx *store.Tx) error { return o.keep(tx, info) })
	}
	if errors.Is(err, keys.ErrNoKey) {
		err = notFound(Keys, kid, "there is no key %s")
	}
	return info, err
}
