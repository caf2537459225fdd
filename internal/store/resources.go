package store

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
)

const resourceColumns = "id, identifier, name, scopes, signing_alg, access_ttl, refresh_idle_ttl, refresh_max_ttl, " +
	"created_at, updated_at, built_in, second_factor, version, group_names, token_groups, token_shape"

// CreateResource stores a new resource with all its fields, including CreatedAt, and sets its Version, and its
// TokenShape if it has none. It returns ErrConflict if its id or its identifier is taken.
func (tx *Tx) CreateResource(r *oauth.Resource) error {
	scopes, err := asJSON(r.Scopes)
	if err != nil {
		return err
	}
	groups, err := asJSON(r.Groups)
	if err != nil {
		return err
	}
	tx.Touch(Resources)
	r.Version, r.TokenShape = 1, cmp.Or(r.TokenShape, oauth.ShapeStandard)
	err = tx.create("INSERT INTO resources ("+resourceColumns+
		") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 1, $13, $14, $15) ON CONFLICT DO NOTHING", args{
		r.ID, r.Identifier, r.Name, scopes, r.SigningAlg, r.AccessTTL.Microseconds(), r.RefreshIdleTTL.Microseconds(),
		r.RefreshMaxTTL.Microseconds(), r.CreatedAt.UnixMicro(), r.UpdatedAt.UnixMicro(), bit(r.BuiltIn),
		bit(r.SecondFactor), groups, bit(r.TokenGroups), r.TokenShape,
	})
	if err != nil || r.BuiltIn {
		return err
	}
	return resourceNames.add(tx, namesOfResource(r))
}

// UpdateResource stores all of r but its identifier and CreatedAt, which cannot change because tokens and clients refer
// to them. It sets Version, which rises if anything changes; if nothing but UpdatedAt does, that stays too.
// UpdateResource returns ErrNotFound if there is no resource with this id.
func (tx *Tx) UpdateResource(r *oauth.Resource) error {
	before, err := tx.Resource(r.ID)
	if err != nil {
		return err
	}
	old, err := terms(before)
	if err != nil {
		return err
	}
	r.TokenShape = cmp.Or(r.TokenShape, oauth.ShapeStandard)
	values, err := terms(r)
	if err != nil {
		return err
	}
	if r.Version = before.Version; slices.Equal(values, old) {
		r.UpdatedAt = before.UpdatedAt
		return nil
	}
	if before.Name != r.Name {
		before.Name = r.Name
		if err := resourceNames.replace(tx, namesOfResource(before)); err != nil {
			return err
		}
	}
	r.Version++
	tx.Touch(Resources)
	tx.ended(OfResource, r.ID)
	tx.ended(OfAudience, before.Identifier)
	return tx.one("UPDATE resources SET name = $2, scopes = $3, signing_alg = $4, access_ttl = $5, refresh_idle_ttl "+
		"= $6, refresh_max_ttl = $7, second_factor = $8, group_names = $9, token_groups = $10, token_shape = $11, "+
		"updated_at = $12, version = version + 1 WHERE id = $1",
		append(values, r.UpdatedAt.UnixMicro()))
}

// terms returns the id of r and the values that UpdateResource stores, in the order of its statement, but not
// UpdatedAt.
func terms(r *oauth.Resource) (args, error) {
	scopes, err := asJSON(r.Scopes)
	if err != nil {
		return nil, err
	}
	groups, err := asJSON(r.Groups)
	return args{
		r.ID, r.Name, scopes, r.SigningAlg, r.AccessTTL.Microseconds(), r.RefreshIdleTTL.Microseconds(),
		r.RefreshMaxTTL.Microseconds(), bit(r.SecondFactor), groups, bit(r.TokenGroups),
		r.TokenShape,
	}, err
}

// PutBuiltIn stores a resource that is built in, in place of what is stored under its ID, and reports whether there was
// nothing.
func (tx *Tx) PutBuiltIn(r *oauth.Resource) (created bool, err error) {
	scopes, err := asJSON(r.Scopes)
	if err != nil {
		return false, err
	}
	tx.Touch(Resources)
	n, err := tx.exec("UPDATE resources SET identifier = $2, name = $3, scopes = $4, updated_at = $5, built_in = 1, "+
		"version = version + 1 WHERE id = $1", args{r.ID, r.Identifier, r.Name, scopes, micros(tx.now)})
	if err != nil || n > 0 {
		return false, err
	}
	stored := *r
	stored.CreatedAt, stored.UpdatedAt, stored.BuiltIn = tx.now, tx.now, true
	err = tx.CreateResource(&stored)
	if errors.Is(err, ErrConflict) { // another process was first
		return false, nil
	}
	return err == nil, err
}

// DeleteResource deletes the resource with the given id and revokes its grants with the reason "resource_deleted".
// Clients that are bound to it stay bound and do not get another in its place. It returns ErrNotFound if there is none.
func (tx *Tx) DeleteResource(id string) error {
	tx.Touch(Resources)
	var identifier string
	if err := tx.row("DELETE FROM resources WHERE id = $1 RETURNING identifier", args{id}, &identifier); err != nil {
		return err
	}
	tx.ended(OfAudience, identifier)
	return tx.revokeGrants(OfResource, id, "resource_deleted")
}

// Resource returns the resource with the given id or identifier, or ErrNotFound.
func (tx *Tx) Resource(idOrIdentifier string) (*oauth.Resource, error) {
	found, err := all(tx, "SELECT "+resourceColumns+" FROM resources WHERE id = $1 OR identifier = $1",
		args{idOrIdentifier}, scanResource)
	return only(found, err)
}

// ResourcePage returns a page of the resources that operators registered and the cursor of the next page, or "".
func (tx *Tx) ResourcePage(page Page) (resources []*oauth.Resource, next string, err error) {
	if page.Begins != "" {
		return begun(tx, resourceNames, nil, page, resourceColumns, scanResource,
			func(r *oauth.Resource) string { return r.ID })
	}
	w := new(where)
	w.add("built_in = 0")
	return listing[*oauth.Resource]{query: "SELECT " + resourceColumns + " FROM resources",
		at: "created_at", id: "id", scan: scanResource,
		key: func(r *oauth.Resource) (time.Time, string) { return r.CreatedAt, r.ID }}.page(tx, w, page)
}

// Resources returns all resources, also those that are built in, oldest first.
func (tx *Tx) Resources() ([]*oauth.Resource, error) {
	return all(tx, "SELECT "+resourceColumns+" FROM resources ORDER BY created_at, id", nil, scanResource)
}

func scanResource(scan func(...any) error) (*oauth.Resource, error) {
	r := new(oauth.Resource)
	err := scan(&r.ID, &r.Identifier, line{&r.Name}, object{&r.Scopes}, &r.SigningAlg, span{&r.AccessTTL},
		span{&r.RefreshIdleTTL}, span{&r.RefreshMaxTTL},
		instant{&r.CreatedAt}, instant{&r.UpdatedAt}, flag{&r.BuiltIn}, flag{&r.SecondFactor}, &r.Version,
		object{&r.Groups}, flag{&r.TokenGroups}, &r.TokenShape)
	for i, s := range r.Scopes {
		r.Scopes[i].Description = identity.Line(s.Description)
	}
	return r, err
}

// only returns the one row that was found, or ErrNotFound.
func only[T any](found []*T, err error) (*T, error) {
	switch {
	case err != nil:
		return nil, err
	case len(found) == 0:
		return nil, ErrNotFound
	}
	return found[0], nil
}
