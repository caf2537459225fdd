package admin

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/scope"
)

// Resource is an MCP server as operators see it.
type Resource struct {
	ID             string                `json:"id"`
	Identifier     string                `json:"identifier"`
	Name           string                `json:"name"`
	Scopes         []oauth.ResourceScope `json:"scopes"`
	SigningAlg     string                `json:"signing_alg"`      // "" is the server's default
	AccessTokenTTL Span                  `json:"access_token_ttl"` // 0 is the server's default, here and below
	RefreshIdleTTL Span                  `json:"refresh_idle_ttl"`
	RefreshMaxTTL  Span                  `json:"refresh_max_ttl"`
	Groups         []string              `json:"groups"`       // whose members may use it; none: everybody
	TokenGroups    bool                  `json:"token_groups"` // whether its tokens tell the groups of their person
	TokenShape     oauth.TokenShape      `json:"token_shape"`
	CreatedAt      Moment                `json:"created_at"`
	SecondFactor   bool                  `json:"second_factor"`      // people need two factors to allow something there
	BuiltIn        bool                  `json:"built_in,omitempty"` // a part of this server; it cannot be changed
	UpdatedAt      Moment                `json:"updated_at"`
	version        int64
}

func viewResource(r *oauth.Resource) Resource {
	scopes := append([]oauth.ResourceScope{}, r.Scopes...)
	for i := range scopes { // a list is never left out
		scopes[i].Groups = append([]string{}, scopes[i].Groups...)
	}
	return Resource{
		ID: r.ID, Identifier: r.Identifier, Name: r.Name, Scopes: scopes,
		SigningAlg: r.SigningAlg, AccessTokenTTL: Span(r.AccessTTL), RefreshIdleTTL: Span(r.RefreshIdleTTL),
		RefreshMaxTTL: Span(r.RefreshMaxTTL), Groups: append([]string{}, r.Groups...), TokenGroups: r.TokenGroups,
		TokenShape:   cmp.Or(r.TokenShape, oauth.ShapeStandard),
		SecondFactor: r.SecondFactor, BuiltIn: r.BuiltIn, CreatedAt: Moment{r.CreatedAt},
		UpdatedAt: Moment{r.UpdatedAt}, version: r.Version,
	}
}

// ResourceTerms say what a resource is called and what its tokens are like. A field that is nil changes nothing. A
// resource without a name gets the host of its identifier.
type ResourceTerms struct {
	Name           *string               `json:"name"`
	Scopes         []oauth.ResourceScope `json:"scopes"`         // all of them
	DefaultScopes  []string              `json:"default_scopes"` // granted to a client that asks for none
	ScopeRisks     map[string]oauth.Risk `json:"scope_risks"`    // by the name of the scope
	AccessTokenTTL *Span                 `json:"access_token_ttl"`
	RefreshIdleTTL *Span                 `json:"refresh_idle_ttl"`
	RefreshMaxTTL  *Span                 `json:"refresh_max_ttl"`
	Groups         []string              `json:"groups"`       // names; [] lets everybody use it
	ScopeGroups    map[string][]string   `json:"scope_groups"` // names of groups, by the name of the scope
	TokenGroups    *bool                 `json:"token_groups"`
	TokenShape     *oauth.TokenShape     `json:"token_shape"` // "" is ShapeStandard
	SigningAlg     *string               `json:"signing_alg"`
	SecondFactor   *bool                 `json:"second_factor"`
}

// The longest name of an MCP server, as of a client, and the longest description of a scope, in bytes. People read both
// on a page.
const (
	maxCalled = 512
	maxWords  = 1000
)

// apply changes r to the terms that are given. The others stay as they are.
func (t ResourceTerms) apply(r *oauth.Resource) error {
	if t.Name != nil {
		if !identity.IsLine(*t.Name, maxCalled) {
			return invalid("name", "{name} must be one line of at most %d bytes", maxCalled)
		}
		r.Name = *t.Name
	}
	if strings.TrimSpace(r.Name) == "" {
		r.Name = hostOf(r.Identifier)
	}
	if err := t.applyScopes(r); err != nil {
		return err
	}
	if t.Groups != nil {
		r.Groups = groupSet(t.Groups)
	}
	if len(r.Limiting()) > maxLimiting {
		return invalid("groups", "{groups} and {scope_groups} name more than %d groups; name fewer", maxLimiting)
	}
	if t.TokenGroups != nil {
		r.TokenGroups = *t.TokenGroups
	}
	if t.TokenShape != nil {
		r.TokenShape = cmp.Or(*t.TokenShape, oauth.ShapeStandard)
		if !slices.Contains(oauth.TokenShapes, r.TokenShape) {
			return invalid("token_shape", "{token_shape} %q is unknown; use one of %s", r.TokenShape,
				oauth.Listed(oauth.TokenShapes))
		}
	}
	if err := errors.Join(
		setSpan("access_token_ttl", &r.AccessTTL, t.AccessTokenTTL, oauth.MaxAccessTTL),
		setSpan("refresh_idle_ttl", &r.RefreshIdleTTL, t.RefreshIdleTTL, 0),
		setSpan("refresh_max_ttl", &r.RefreshMaxTTL, t.RefreshMaxTTL, 0),
	); err != nil {
		return err
	}
	if t.SecondFactor != nil {
		r.SecondFactor = *t.SecondFactor
	}
	if t.SigningAlg != nil {
		if *t.SigningAlg != "" && !oauth.IsSigningAlg(*t.SigningAlg) {
			return invalid("signing_alg", "{signing_alg} %q is unknown; use one of %s", *t.SigningAlg,
				strings.Join(oauth.SigningAlgs, ", "))
		}
		r.SigningAlg = *t.SigningAlg
	}
	return nil
}

// applyScopes changes the scopes of r, and which of them are granted by default, their risks and their groups.
func (t ResourceTerms) applyScopes(r *oauth.Resource) error {
	if t.Scopes != nil {
		if err := setScopes(r, t.Scopes); err != nil {
			return err
		}
	}
	if t.DefaultScopes != nil {
		for _, name := range t.DefaultScopes {
			if len(r.Scopes) == 0 {
				return invalid("default_scopes",
					"{default_scopes} %s: this resource has no scopes; name them with {scopes}", name)
			}
			if _, err := scopeOf(r, "default_scopes", name); err != nil {
				return err
			}
		}
		for i := range r.Scopes {
			r.Scopes[i].Default = slices.Contains(t.DefaultScopes, r.Scopes[i].Name)
		}
	}
	for name, risk := range t.ScopeRisks {
		s, err := scopeOf(r, "scope_risks", name)
		if err == nil && !slices.Contains(oauth.Risks, risk) {
			err = invalid("scope_risks", "{scope_risks} %s=%s: the risk must be one of %s", name, risk,
				oauth.Listed(oauth.Risks))
		}
		if err != nil {
			return err
		}
		s.Risk = risk
	}
	for name, groups := range t.ScopeGroups {
		s, err := scopeOf(r, "scope_groups", name)
		if err != nil {
			return err
		}
		s.Groups = groupSet(groups)
	}
	return nil
}

// scopeOf returns the scope of r with the given name. The error is about the input field, which has the name.
func scopeOf(r *oauth.Resource, field, name string) (*oauth.ResourceScope, error) {
	for i := range r.Scopes {
		if r.Scopes[i].Name == name {
			return &r.Scopes[i], nil
		}
	}
	return nil, invalid(field, "{"+field+"} %s is not a scope of this resource; use some of: %s", name,
		r.ScopeNames())
}

// setScopes replaces the scopes of r. One that r had keeps its groups unless the new one names some.
func setScopes(r *oauth.Resource, scopes []oauth.ResourceScope) error {
	before := r.Scopes
	r.Scopes = nil
	for _, s := range scopes {
		switch {
		case !scope.Valid(s.Name):
			return invalid("scopes", "{scopes} %q is not a scope name; use printable ASCII without spaces, "+
				"quotation marks and backslashes (RFC 6749 section 3.3)", s.Name)
		case r.ScopeNames().Has(s.Name):
			return invalid("scopes", "{scopes} %s is given twice; give it once", s.Name)
		case s.Risk != "" && !slices.Contains(oauth.Risks, s.Risk):
			return invalid("scopes", "{scopes} %s has the risk %q; use one of %s", s.Name, s.Risk,
				oauth.Listed(oauth.Risks))
		case !identity.IsLine(s.Description, maxWords):
			return invalid("scopes", "{scopes} %s: its description must be one line of at most %d bytes", s.Name,
				maxWords)
		}
		if s.Groups == nil { // a scope does not become everybody's because its words change
			s.Groups = groupsOf(before, s.Name)
		}
		s.Groups = groupSet(s.Groups)
		r.Scopes = append(r.Scopes, s)
	}
	// A client may request all of them at once, and offline_access with them.
	if _, err := scope.Parse(scope.Of(append(r.ScopeNames(), oauth.OfflineAccess)...).String()); err != nil {
		return invalid("scopes",
			"{scopes} are too many: %d, and a request can carry only 256 names, one of which may be %s; register "+
				"fewer, and let one that ends in :* stand for several", len(r.Scopes), oauth.OfflineAccess)
	}
	return nil
}

// maxLimiting is the largest number of groups to which a resource and its scopes are limited, because each use of a
// token asks for them.
const maxLimiting = 100

// groupSet returns names in alphabetical order and each once; nil for none.
func groupSet(names []string) []string {
	if len(names) == 0 {
		return nil
	}
	names = slices.Clone(names)
	slices.Sort(names)
	return slices.Compact(names)
}

func groupsOf(scopes []oauth.ResourceScope, name string) []string {
	for _, s := range scopes {
		if s.Name == name {
			return s.Groups
		}
	}
	return nil
}

// lockGroups returns an error unless the groups to which r is limited are there. No other transaction deletes one of
// them until tx ends.
func lockGroups(tx *store.Tx, r *oauth.Resource) error {
	for _, name := range r.Limiting() {
		_, err := tx.LockGroup(name)
		if errors.Is(err, store.ErrNotFound) {
			return invalid("groups", "{groups} there is no group %s; make it first, with: cardea group create %s",
				name, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// setSpan sets *to to span unless span is nil. It refuses a span that is longer than most, unless most is 0.
func setSpan(field string, to *time.Duration, span *Span, most time.Duration) error {
	if span == nil {
		return nil
	}
	d := time.Duration(*span)
	switch {
	case d != 0 && d < time.Second:
		return invalid(field, "{"+field+"} must be at least 1s, or 0 for the default")
	case most > 0 && d > most:
		return invalid(field, "{"+field+"} must be at most %s", oauth.Brief(most))
	}
	*to = d
	return nil
}

// NewResource describes a resource to register.
type NewResource struct {
	Identifier string `json:"identifier"`
	ResourceTerms
}

// newIdentifier returns the canonical form of the identifier of an MCP server that an operator registers. A client that
// names an address below a built-in resource means that one (RFC 8707), so nothing else can be there.
func (o *Operations) newIdentifier(text string) (string, error) {
	identifier, err := oauth.CheckIdentifier(text)
	if err != nil {
		return "", refused("identifier", err)
	}
	if below, ok := strings.CutPrefix(identifier, o.Issuer+"/admin"); ok && !o.isBuiltIn(identifier) &&
		(below == "" || strings.HasPrefix(below, "/")) {
		return "", invalid("identifier", "{identifier} %s is a part of this server; write the URL that people enter "+
			"in their MCP client", identifier)
	}
	return identifier, nil
}

// CreateResource registers an MCP server.
func (o *Operations) CreateResource(ctx context.Context, by Caller, n NewResource) (view Resource, err error) {
	identifier, err := o.newIdentifier(n.Identifier)
	if err != nil {
		return view, err
	}
	r := &oauth.Resource{ID: oauth.NewID("res_"), Identifier: identifier}
	if err := n.apply(r); err != nil {
		return view, err
	}
	if err := o.ensureKey(ctx, by, r.SigningAlg); err != nil {
		return view, err
	}
	err = o.change(ctx, by, Resources, "resource.create", &view, func(tx *store.Tx) (audit.Event, error) {
		if err := lockGroups(tx, r); err != nil {
			return audit.Event{}, err
		}
		r.CreatedAt, r.UpdatedAt = tx.Now(), tx.Now()
		err := tx.CreateResource(r)
		if errors.Is(err, store.ErrConflict) {
			err = conflict(Resources, "identifier", identifier, "the resource %s already exists")
		}
		view = viewResource(r)
		return audit.Resource("create", identifier).Changed(nil, view), err
	})
	return view, err
}

// ensureKey creates the first key of alg, if there is a Ring to create it with, so that the key is published before the
// first token is signed with it. Without a Ring, a running server creates the key within a minute. It does nothing for
// the default algorithm "", or for a caller that may not change resources.
func (o *Operations) ensureKey(ctx context.Context, by Caller, alg string) error {
	if o.Ring == nil || alg == "" {
		return nil
	}
	err := o.view(ctx, func(tx *store.Tx) error { return by.check(tx, Resources, Write) })
	if err != nil {
		return nil //nolint:nilerr // the operation itself refuses
	}
	return o.Ring.Ensure(audit.WithActor(ctx, by.Actor), alg)
}

// EnsureKeys creates the first key of each of the signing algorithms algs, as CreateResource and UpdateResource do
// outside a Together.
func (o *Operations) EnsureKeys(ctx context.Context, by Caller, algs ...string) error {
	for _, alg := range algs {
		if !oauth.IsSigningAlg(alg) {
			continue
		}
		if err := o.ensureKey(ctx, by, alg); err != nil {
			return err
		}
	}
	return nil
}

func hostOf(identifier string) string {
	u, err := url.Parse(identifier)
	if err != nil {
		return identifier
	}
	return u.Host
}

// Resources returns a page of the registered MCP servers and the cursor of the next, "" for none. What is built into
// this server is not among them.
func (o *Operations) Resources(ctx context.Context, by Caller,
	page store.Page) (views []Resource, next string, err error) {
	err = o.look(ctx, by, Resources, func(tx *store.Tx) error {
		if err := checkBegins(page); err != nil {
			return err
		}
		resources, cursor, err := tx.ResourcePage(page)
		views, next, err = viewed(viewResource, resources, cursor, err)
		return err
	})
	return views, next, err
}

// Resource returns the MCP server with the given id or identifier.
func (o *Operations) Resource(ctx context.Context, by Caller, name string) (view Resource, err error) {
	err = o.look(ctx, by, Resources, func(tx *store.Tx) error {
		r, err := findResource(tx.Resource, name)
		if err == nil {
			view = viewResource(r)
		}
		return err
	})
	return view, err
}

// UpdateResource changes the MCP server with the given id or identifier. If it has these terms already, nothing is
// written or recorded.
func (o *Operations) UpdateResource(ctx context.Context, by Caller, name string,
	terms ResourceTerms) (view Resource, err error) {
	if alg := terms.SigningAlg; alg != nil && oauth.IsSigningAlg(*alg) {
		if err := o.ensureKey(ctx, by, *alg); err != nil {
			return Resource{}, err
		}
	}
	err = o.change(ctx, by, Resources, "resource.update", &view, func(tx *store.Tx) (event audit.Event, err error) {
		r, err := alterable(findResource(tx.LockResource, name))
		if err != nil {
			return event, err
		}
		before := viewResource(r) // apply changes r
		if err := o.matches(before); err != nil {
			return event, err
		}
		if err := terms.apply(r); err != nil {
			return event, err
		}
		if view = viewResource(r); reflect.DeepEqual(before, view) {
			return event, nil
		}
		if err := lockGroups(tx, r); err != nil {
			return event, err
		}
		r.UpdatedAt = tx.Now()
		err = tx.UpdateResource(r)
		view = viewResource(r)
		return audit.Resource("update", r.Identifier).Changed(before, view), err
	})
	return view, err
}

// DeleteResource deletes the MCP server with the given id or identifier, and ends all grants for it.
func (o *Operations) DeleteResource(ctx context.Context, by Caller, name string) (done Deletion, err error) {
	err = o.change(ctx, by, Resources, "resource.delete", &done, func(tx *store.Tx) (event audit.Event, err error) {
		r, err := alterable(findResource(tx.LockResource, name))
		if err != nil {
			return event, err
		}
		if err := o.matches(viewResource(r)); err != nil {
			return event, err
		}
		done = Deletion{What: "resource", ID: r.ID, Name: r.Identifier}
		if done.Grants, err = tx.LiveGrants(store.GrantFilter{ResourceID: r.ID}); err != nil {
			return event, err
		}
		event = audit.Resource("delete", r.Identifier).Changed(viewResource(r), nil)
		return endedGrants(event, done.Grants), tx.DeleteResource(r.ID)
	})
	return done, err
}

// DiagnoseResource records that by diagnoses the MCP server with the given id or identifier, and returns the server. It
// is a change, because this server then sends requests to that one.
func (o *Operations) DiagnoseResource(ctx context.Context, by Caller, name string) (view Resource, err error) {
	err = o.change(ctx, by, Resources, "resource.diagnose", &view, func(tx *store.Tx) (event audit.Event, err error) {
		r, err := findResource(tx.Resource, name)
		if err != nil {
			return event, err
		}
		view = viewResource(r)
		return audit.Resource("diagnose", r.Identifier), nil
	})
	return view, err
}

// endedGrants returns e with the number of grants that ended, if any did.
func endedGrants(e audit.Event, n int) audit.Event {
	if n == 0 {
		return e
	}
	return e.With("grants_ended", strconv.Itoa(n))
}

// findResource returns the resource with the given id or identifier.
func findResource(find func(string) (*oauth.Resource, error), name string) (*oauth.Resource, error) {
	if canonical, err := oauth.CheckIdentifier(name); err == nil {
		name = canonical
	}
	r, err := find(name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, notFound(Resources, name, "there is no resource %s")
	}
	return r, err
}

// bound returns the identifiers of the resources with these names, each once. One that the client had before need not
// be there any more, because the client stays bound to a resource that is deleted: it must not be let in elsewhere.
func bound(before, names []string, find func(name string) (*oauth.Resource, error)) (identifiers []string, err error) {
	for _, name := range names {
		r, err := find(name)
		missing := (*Error)(nil)
		switch {
		case err == nil:
			name = r.Identifier
		case !errors.As(err, &missing) || missing.Kind != NotFound || !slices.Contains(before, name):
			return nil, err
		}
		if !slices.Contains(identifiers, name) {
			identifiers = append(identifiers, name)
		}
	}
	return identifiers, nil
}
