package adminapi

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/scope"
)

// Spec describes an operation, except for its types. Its route, its part of the OpenAPI document, and its tool are made
// from the Spec and the types.
type Spec struct {
	Method string
	Path   string // below Prefix; segments in braces are the fields of In with the tag path
	Noun   admin.Noun
	// Also has other nouns that the operation is about. The right to Noun or to one of them is enough to call the
	// operation, which checks the others itself.
	Also []admin.Noun
	// May is a scope that the operation also needs for some inputs; "" for none.
	May string
	// Verb is the command that does the same, as it is typed: "client rotate-secret".
	Verb    string
	Summary string
	// Writes reports whether it needs the right to write the Noun: every method but GET does, unless Reads is set.
	// Destroys reports whether it ends or deletes something that cannot be brought back.
	Writes, Reads, Destroys bool
	Status                  int    // of its answer when it succeeds
	Required                string // names of the members that the body must have, separated by spaces

	In, Out reflect.Type
}

// Name returns the Verb as a name: "client_rotate_secret".
func (s *Spec) Name() string { return strings.NewReplacer(" ", "_", "-", "_").Replace(s.Verb) }

// nouns returns what the operation is about.
func (s *Spec) nouns() []admin.Noun { return append([]admin.Noun{s.Noun}, s.Also...) }

// access is the kind of access that the operation needs.
func (s *Spec) access() admin.Access {
	if s.Writes {
		return admin.Write
	}
	return admin.Read
}

// Scopes returns the scopes of which a token needs one to call the operation.
func (s *Spec) Scopes() (names []string) {
	for _, noun := range s.nouns() {
		if !s.Writes {
			names = append(names, "cardea:"+string(noun.Held())+":read")
		}
		names = append(names, "cardea:"+string(noun.Held())+":write")
	}
	return names
}

// needs returns the scopes with which no part of the operation is refused, and those of also. It names the scopes for
// all nouns at once, because a client would otherwise have to ask its person again for each.
func (s *Spec) needs(also ...string) scope.Set {
	var names []string
	for _, noun := range s.nouns() {
		names = append(names, "cardea:"+string(noun.Held())+":"+string(s.access()))
	}
	return scope.Of(append(names, also...)...)
}

// action is the operation as the audit log names it: "client.rotate_secret".
func (s *Spec) action() string { return strings.NewReplacer(" ", ".", "-", "_").Replace(s.Verb) }

// An Operation is one operation of package admin, as programs call it. In is a struct whose fields have the tag path,
// query or header with the name of a parameter, and, if there is a body, a field named Body: it is required unless it
// is a pointer. Out is what the answer has as JSON.
type Operation[In, Out any] struct {
	Spec
	Do func(context.Context, *admin.Operations, admin.Caller, In) (Out, error)
}

// entry is an Operation of any types.
type entry interface {
	spec() *Spec
	do(ctx context.Context, o *admin.Operations, by admin.Caller, in any) (any, error)
}

func (op *Operation[In, Out]) spec() *Spec { return &op.Spec }

// do calls Do; in is a *In.
func (op *Operation[In, Out]) do(ctx context.Context, o *admin.Operations, by admin.Caller, in any) (any, error) {
	return op.Do(ctx, o, by, *in.(*In))
}

// entries are all operations, in the order of the document.
var entries []entry

// Specs returns the specs of all operations, in the order of the document.
func Specs() []*Spec {
	specs := make([]*Spec, len(entries))
	for i, e := range entries {
		specs[i] = e.spec()
	}
	return specs
}

// add adds a row to the table.
func add[In, Out any](s Spec,
	do func(context.Context, *admin.Operations, admin.Caller, In) (Out, error)) *Operation[In, Out] {
	s.In, s.Out = reflect.TypeFor[In](), reflect.TypeFor[Out]()
	s.Writes = s.Writes || s.Method != http.MethodGet && !s.Reads
	if s.Status == 0 {
		s.Status = http.StatusOK
	}
	op := &Operation[In, Out]{s, do}
	entries = append(entries, op)
	return op
}

// Listing is the input of every list.
type Listing struct {
	Limit  int    `query:"limit" doc:"The largest number of items, 50 if it is not given; a larger one than 200 counts as 200."`
	Cursor string `query:"cursor" doc:"The value next of the page before, with the same filters."`
}

func (l *Listing) listing() *Listing { return l }

// Search is the input of a list whose entries have names.
type Search struct {
	Listing
	Q string `query:"q" doc:"Only those that have a name, an address or an id that begins with this, in upper or lower case. They order the list."`
}

// page returns what the store is asked for.
func (s Search) page() store.Page {
	page := s.Listing.page()
	page.Begins = s.Q
	return page
}

// ByQ is the input of a list whose entries have only an id.
type ByQ struct {
	Q string `query:"q" doc:"Only the one with this id. It cannot be combined with other filters."`
}

// one returns the list of the one that find finds, or of none. alone is whether q is the only filter.
func one[T any](alone bool, find func() (T, error)) (page Page[T], err error) {
	if !alone {
		return page, admin.Refused(admin.Invalid, "", "", "q", "q cannot be combined with other filters")
	}
	found, err := find()
	undone := (*admin.Error)(nil)
	switch {
	case errors.As(err, &undone) && undone.Kind == admin.NotFound:
		err = nil
	case err == nil:
		page.Items = []T{found}
	}
	return page, err
}

// beginning returns the items of which the name begins with q, in upper or lower case.
func beginning[T any](items []T, q string, name func(T) string) []T {
	return slices.DeleteFunc(items, func(item T) bool {
		text := name(item)
		return len(text) < len(q) || !strings.EqualFold(text[:len(q)], q)
	})
}

// page returns what the store is asked for.
func (l Listing) page() store.Page { return store.Page{After: l.Cursor, Limit: l.Limit} }

const (
	usualLimit = 50
	maxLimit   = 200
)

// Page is a part of a list.
type Page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty" jsonschema:"the cursor of the next page; absent on the last one"`
}

// sealed returns the page with the cursor that clients see.
func (p Page[T]) sealed(seal func(string) string) any {
	if p.Items == nil {
		p.Items = []T{}
	}
	if p.Next != "" {
		p.Next = seal(p.Next)
	}
	return p
}

// paged makes a Page of what a list returns.
func paged[T any](items []T, next string, err error) (Page[T], error) {
	return Page[T]{Items: items, Next: next}, err
}
