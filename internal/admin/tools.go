package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/cardea-auth/cardea/guard"
	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/scope"
)

// ToolState says whether a tool is what an operator reviewed.
type ToolState string

// The states of a tool. Only one that is Reviewed is open.
const (
	ToolReviewed ToolState = "reviewed" // it was seen last as it was reviewed
	ToolNew      ToolState = "new"      // nobody has reviewed it
	ToolChanged  ToolState = "changed"  // it was seen last with another definition
	ToolGone     ToolState = "gone"     // the server no longer has it
)

// Tool is a tool of an MCP server as operators see it.
type Tool struct {
	Name   string     `json:"name"`
	State  ToolState  `json:"state"`
	Risk   oauth.Risk `json:"risk"`   // as reviewed; of a new tool what is proposed
	Scopes []string   `json:"scopes"` // that a call needs; of a new tool what is proposed
	// RiskNow is what is proposed for the definition that was seen last, if that is not the reviewed one.
	RiskNow     oauth.Risk      `json:"risk_now,omitempty"`
	Hash        string          `json:"hash"`      // of the reviewed definition; "" if there is none
	SeenHash    string          `json:"seen_hash"` // of the definition that was seen last; "" if it is gone
	Definition  json.RawMessage `json:"definition,omitempty"`
	Seen        json.RawMessage `json:"seen,omitempty"`      // if it is not the reviewed one
	Differences []Difference    `json:"differences"`         // between the two
	Resembles   string          `json:"resembles,omitempty"` // another tool of the server that people could take it for
	ReviewedAt  Moment          `json:"reviewed_at"`
	SeenAt      Moment          `json:"seen_at"` // since when it is so
}

// Difference is a place where two definitions of a tool differ.
type Difference struct {
	Path   string `json:"path"`   // a JSON pointer (RFC 6901), such as /annotations/readOnlyHint
	Before string `json:"before"` // JSON, cut if it is long; "" if it was not there
	After  string `json:"after"`
}

// Server is an MCP server with its tools.
type Server struct {
	Resource Resource `json:"resource"`
	Tools    []Tool   `json:"tools"`
}

// Unreviewed returns the names of the tools that are not what was reviewed.
func (s Server) Unreviewed() (names []string) {
	for _, t := range s.Tools {
		if t.State != ToolReviewed {
			names = append(names, t.Name)
		}
	}
	return names
}

// The bounds of what is kept of the tools of a resource.
const (
	maxTools      = 1000
	maxDefinition = 64 << 10 // bytes
	maxToolName   = 256      // bytes
)

// NewServer describes an MCP server to add: a resource with the tools that it lists. A resource that is there already
// keeps the terms that are not given, and gets the scopes that are missing.
type NewServer struct {
	NewResource
	Tools      []json.RawMessage     `json:"tools"`       // as tools/list has them; they count as reviewed
	ToolRisks  map[string]oauth.Risk `json:"tool_risks"`  // in place of what is proposed, by the name of the tool
	ToolScopes map[string][]string   `json:"tool_scopes"` // that a call needs, in place of what is proposed
}

// AddResource registers an MCP server and freezes its tools: what is proposed for each, or given in its place, counts
// as reviewed, because by has seen it. Tools whose names people could take for each other stay new, because it is not
// clear which one was meant. A tool that was reviewed before and has changed is a conflict, because ReviewResource
// alone shows what has changed.
func (o *Operations) AddResource(ctx context.Context, by Caller, n NewServer) (view Server, err error) {
	identifier, err := o.newIdentifier(n.Identifier)
	if err != nil {
		return view, err
	}
	seen, err := parseTools("tools", n.Tools)
	if err != nil {
		return view, err
	}
	if err := n.checkTools(seen); err != nil {
		return view, err
	}
	if n.SigningAlg != nil {
		if err := o.EnsureKeys(ctx, by, *n.SigningAlg); err != nil {
			return view, err
		}
	}
	err = o.change(ctx, by, Resources, "resource.add", &view, func(tx *store.Tx) (event audit.Event, err error) {
		var before any
		r, err := alterable(tx.LockResource(identifier))
		isNew := errors.Is(err, store.ErrNotFound)
		switch {
		case isNew:
			r = &oauth.Resource{ID: oauth.NewID("res_"), Identifier: identifier, CreatedAt: tx.Now()}
		case err != nil:
			return event, err
		default:
			before = viewResource(r)
		}
		if err := n.apply(r); err != nil {
			return event, err
		}
		b, err := bookOf(tx, r)
		if err != nil {
			return event, err
		}
		for _, d := range seen {
			if t := b.tools[d.Name]; t != nil && t.Hash != "" && t.Hash != d.Hash {
				return event, conflict(Resources, "tools", d.Name, "the tool %s has changed since it was reviewed; "+
					"see what has changed, and accept that")
			}
		}
		b.see(seen)
		var names []string
		for _, d := range seen {
			if b.tools[d.Name].Hash == "" && b.resembles(d.Name) != "" {
				continue
			}
			b.accept(b.tools[d.Name], d, AcceptedTool{Risk: n.ToolRisks[d.Name], Scopes: n.ToolScopes[d.Name]})
			names = append(names, d.Name)
		}
		if err := b.write(isNew); err != nil {
			return event, err
		}
		view = b.view()
		return audit.Resource("add", identifier).Changed(before, view.Resource).
			With("tools", strings.Join(names, ", ")), nil
	})
	return view, err
}

// checkTools returns nil if the risks and scopes that n has for tools are valid, and the tools among seen.
func (n NewServer) checkTools(seen []guard.Definition) error {
	listed := func(name string) bool {
		return slices.ContainsFunc(seen, func(d guard.Definition) bool { return d.Name == name })
	}
	for name, risk := range n.ToolRisks {
		switch {
		case !listed(name):
			return invalid("tool_risks", "{tool_risks} the server has no tool %q", name)
		case !slices.Contains(oauth.Risks, risk):
			return invalid("tool_risks", "{tool_risks} %s=%s: the risk must be one of %s", name, risk,
				oauth.Listed(oauth.Risks))
		}
	}
	for name, scopes := range n.ToolScopes {
		if !listed(name) {
			return invalid("tool_scopes", "{tool_scopes} the server has no tool %q", name)
		}
		if err := validScopes("tool_scopes", scopes); err != nil {
			return err
		}
	}
	return nil
}

func validScopes(field string, names []string) error {
	for _, name := range names {
		if !scope.Valid(name) {
			return invalid(field, "{"+field+"} %q is not a scope name; use printable ASCII without spaces, "+
				"quotation marks and backslashes (RFC 6749 section 3.3)", name)
		}
	}
	return nil
}

// Tools returns the MCP server with the given id or identifier, and its tools.
func (o *Operations) Tools(ctx context.Context, by Caller, name string) (view Server, err error) {
	err = o.look(ctx, by, Resources, func(tx *store.Tx) error {
		r, err := findResource(tx.Resource, name)
		if err != nil {
			return err
		}
		b, err := bookOf(tx, r)
		view = b.view()
		return err
	})
	return view, err
}

// Review is what an operator saw of the tools of an MCP server, and which of them are accepted.
type Review struct {
	Seen   []json.RawMessage `json:"seen"` // as tools/list has them now; absent: nobody looked
	Accept []AcceptedTool    `json:"accept"`
}

// AcceptedTool says that a tool may be as it was seen last. Hash is that of what the operator read: if another
// definition was seen meanwhile, the review is refused.
type AcceptedTool struct {
	Name   string     `json:"name"`
	Hash   string     `json:"hash"` // "": that the tool is gone
	Risk   oauth.Risk `json:"risk"`
	Scopes []string   `json:"scopes"` // that a call needs; absent: those it has, or what is proposed if the risk rises
}

// ReviewResource records what was seen of the tools of the MCP server with the given id or identifier, and accepts some
// of them. A difference that was not known is recorded as resource.drift, and what is accepted as resource.review. A
// tool that is not accepted stays as it was reviewed, or closed if it never was.
func (o *Operations) ReviewResource(ctx context.Context, by Caller, name string, v Review) (view Server, err error) {
	seen, err := parseTools("seen", v.Seen)
	if err != nil {
		return view, err
	}
	for _, a := range v.Accept {
		if a.Risk != "" && !slices.Contains(oauth.Risks, a.Risk) {
			return view, invalid("accept", "{accept} %s: the risk must be one of %s", a.Name, oauth.Listed(oauth.Risks))
		}
		if err := validScopes("accept", a.Scopes); err != nil {
			return view, err
		}
	}
	err = o.change(ctx, by, Resources, "resource.review", &view, func(tx *store.Tx) (event audit.Event, err error) {
		r, err := alterable(findResource(tx.LockResource, name))
		if err != nil {
			return event, err
		}
		before := viewResource(r)
		if err := o.matches(before); err != nil {
			return event, err
		}
		b, err := bookOf(tx, r)
		if err != nil {
			return event, err
		}
		var drifted, accepted []string
		if v.Seen != nil {
			drifted = b.see(seen)
		}
		for _, a := range v.Accept {
			t := b.tools[a.Name]
			switch {
			case t == nil:
				return event, invalid("accept", "{accept} the server has no tool %q; look at it again", a.Name)
			case t.SeenHash != a.Hash:
				return event, invalid("accept", "{accept} %s is no longer as it was read: it was seen with another "+
					"definition since; read it again", a.Name)
			case t.Hash == "" && a.Hash != "" && b.twin(a.Name) != "":
				return event, invalid("accept", "{accept} %+q looks like the reviewed tool %+q, so people and models "+
					"could take one for the other; only one of them can be open", a.Name, b.twin(a.Name))
			}
			if err := b.acceptSeen(t, a); err != nil {
				return event, err
			}
			accepted = append(accepted, a.Name)
		}
		if err := b.write(false); err != nil {
			return event, err
		}
		view = b.view()
		if len(drifted) > 0 {
			event := audit.Resource("drift", r.Identifier).With("tools", strings.Join(drifted, ", "))
			if err := tx.Record(event.Fail()); err != nil {
				return event, err
			}
		}
		if len(accepted) == 0 {
			return audit.Event{}, nil
		}
		return audit.Resource("review", r.Identifier).Changed(before, view.Resource).
			With("tools", strings.Join(accepted, ", ")), nil
	})
	return view, err
}

// ProposedTool is a tool that an MCP server lists, with what is proposed for it.
type ProposedTool struct {
	Name        string          `json:"name"`
	Description string          `json:"description"`
	Risk        oauth.Risk      `json:"risk"`
	Hash        string          `json:"hash"`
	Definition  json.RawMessage `json:"definition"`
}

// ProposedTools returns what is proposed for the tools in items, which are as tools/list has them. The error is that of
// AddResource for the same tools.
func ProposedTools(items []json.RawMessage) ([]ProposedTool, error) {
	seen, err := parseTools("tools", items)
	all := []ProposedTool{}
	for _, d := range seen {
		all = append(all, ProposedTool{d.Name, visible([]byte(saidIn(d.Text).description)), ProposedRisk(d.Text),
			d.Hash, json.RawMessage(visible(d.Text))})
	}
	return all, err
}

// parseTools reads the tools of a field, each once.
func parseTools(field string, items []json.RawMessage) (seen []guard.Definition, err error) {
	if len(items) > maxTools {
		return nil, invalid(field, "{"+field+"} are more than %d", maxTools)
	}
	known := map[string]bool{}
	for _, item := range items {
		d, err := guard.ParseDefinition(item)
		switch {
		case err != nil:
			return nil, invalid(field, "{"+field+"}: %s", strings.TrimPrefix(err.Error(), "guard: "))
		case len(d.Text) > maxDefinition || len(d.Name) > maxToolName:
			return nil, invalid(field, "{"+field+"}: the definition of %.40q is longer than %d bytes, or its name "+
				"longer than %d", d.Name, maxDefinition, maxToolName)
		case strings.ContainsFunc(d.Name, func(c rune) bool { return c == ' ' || hidden(c) }):
			return nil, invalid(field, "{"+field+"}: the name %.60q has a space or a character that nobody can see",
				d.Name)
		case known[d.Name]:
			return nil, invalid(field, "{"+field+"} have %.40q twice", d.Name)
		}
		known[d.Name] = true
		seen = append(seen, d)
	}
	return seen, nil
}

// book is the tools of a resource in a transaction.
type book struct {
	tx       *store.Tx
	resource *oauth.Resource
	tools    map[string]*store.Tool
	changed  map[string]bool
	grown    bool                // the resource has more scopes
	shapes   map[string][]string // the names of tools by their shape; nil if it is not known
}

func bookOf(tx *store.Tx, r *oauth.Resource) (*book, error) {
	b := &book{tx: tx, resource: r, tools: map[string]*store.Tool{}, changed: map[string]bool{}}
	tools, err := tx.Tools(r.ID)
	for _, t := range tools {
		b.tools[t.Name] = t
	}
	return b, err
}

// names returns the names of the tools in alphabetical order.
func (b *book) names() []string { return slices.Sorted(maps.Keys(b.tools)) }

// see notes that the server has exactly the tools in seen. It returns the names of those that are not as reviewed, and
// were not known to be so.
func (b *book) see(seen []guard.Definition) (drifted []string) {
	now := map[string]guard.Definition{}
	for _, d := range seen {
		if now[d.Name] = d; b.tools[d.Name] == nil {
			b.tools[d.Name], b.shapes = &store.Tool{Name: d.Name}, nil
		}
	}
	for _, name := range b.names() {
		t, d := b.tools[name], now[name]
		if t.SeenHash == d.Hash && !t.SeenAt.IsZero() {
			continue
		}
		t.SeenHash, t.Seen, t.SeenAt = d.Hash, "", b.tx.Now()
		if b.changed[name] = true; d.Hash != t.Hash {
			t.Seen = string(d.Text)
			drifted = append(drifted, name)
		}
	}
	return drifted
}

// acceptSeen accepts a tool as it was seen last.
func (b *book) acceptSeen(t *store.Tool, a AcceptedTool) error {
	if t.SeenHash == "" {
		t.Hash, t.Definition = "", ""
		b.changed[t.Name] = true
		return nil
	}
	d, err := guard.ParseDefinition([]byte(cmp.Or(t.Seen, t.Definition)))
	if err == nil {
		b.accept(t, d, a)
	}
	return err
}

// accept makes d the reviewed definition of t. The risk and the scopes are those of a; without them, those that t has;
// without those, the proposed ones. If d is riskier than the definition before, t gets the proposed risk and scopes
// unless a has others, because a scope that lets a client read must not let it change things.
func (b *book) accept(t *store.Tool, d guard.Definition, a AcceptedTool) {
	isNew, before, now := t.Hash == "", t.Risk, ProposedRisk(d.Text)
	rises := false
	if !isNew {
		now = riskAfter([]byte(t.Definition), d.Text)
		rises = higher(now, ProposedRisk([]byte(t.Definition)))
	}
	switch {
	case a.Risk != "":
		t.Risk = a.Risk
	case isNew || rises && higher(now, before):
		t.Risk = now
	}
	switch {
	case a.Scopes != nil:
		t.Scopes = scope.Of(a.Scopes...)
	case isNew || higher(t.Risk, before):
		t.Scopes = b.proposed(t.Name, d.Text, t.Risk)
	}
	t.Hash, t.Definition, t.Seen = d.Hash, string(d.Text), ""
	t.ReviewedAt = b.tx.Now()
	b.changed[t.Name] = true
	for _, name := range t.Scopes {
		b.need(name, t.Risk)
	}
}

// proposed returns the scopes that are proposed for a tool with a risk: the scope of the resource that has it, or none,
// and is the likest by its words, those of another tool with this risk, the first scope that has it, or else one that
// the resource does not have yet.
func (b *book) proposed(tool string, definition []byte, risk oauth.Risk) scope.Set {
	if s := likest(b.resource.Scopes, definition, risk); s != "" {
		return scope.Of(s)
	}
	for _, name := range b.names() {
		if t := b.tools[name]; name != tool && t.Hash != "" && t.Risk == risk && len(t.Scopes) > 0 {
			return t.Scopes
		}
	}
	for _, s := range b.resource.Scopes {
		if s.Risk == risk && !strings.HasSuffix(s.Name, ":*") {
			return scope.Of(s.Name)
		}
	}
	return scope.Of(b.stem() + scopeEnds[risk])
}

// scopeEnds are the last segments of proposed scopes.
var scopeEnds = map[oauth.Risk]string{oauth.RiskRead: ":read", oauth.RiskChange: ":write", oauth.RiskAct: ":act"}

// stem returns what proposed scopes begin with: what those of the resource do, or its name.
func (b *book) stem() string {
	for _, s := range b.resource.Scopes {
		if end, ok := scopeEnds[s.Risk]; ok && strings.HasPrefix(s.Name, "mcp:tools:") &&
			strings.HasSuffix(s.Name, end) && len(s.Name) > len("mcp:tools:")+len(end) {
			return strings.TrimSuffix(s.Name, end)
		}
	}
	word := strings.Map(func(c rune) rune {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
			return c
		case 'A' <= c && c <= 'Z':
			return c + 'a' - 'A'
		}
		return '-'
	}, b.resource.Name)
	word = strings.Join(strings.FieldsFunc(word, func(c rune) bool { return c == '-' }), "-")
	return "mcp:tools:" + cmp.Or(word[:min(len(word), 40)], "server")
}

// need makes sure that the resource has a scope; a new one has the words for its risk. One without a stated risk gets
// that of its first tool, so that no tool with a higher one is proposed for it.
func (b *book) need(name string, risk oauth.Risk) {
	for i := range b.resource.Scopes {
		if s := &b.resource.Scopes[i]; s.Name == name && s.Risk == "" {
			s.Risk, b.grown = risk, true
		}
	}
	if b.resource.ScopeNames().Covers(name) {
		return
	}
	words := map[oauth.Risk]string{oauth.RiskRead: "Look things up in %", oauth.RiskChange: "Change things in %",
		oauth.RiskAct: "Act in your name with %"}[risk]
	b.resource.Scopes = append(b.resource.Scopes, oauth.ResourceScope{Name: name, Risk: risk,
		Description: strings.ReplaceAll(words, "%", b.resource.Name)})
	b.grown = true
}

// write stores what has changed. A resource that is new is created; the least of its scopes are its default.
func (b *book) write(isNew bool) error {
	r := b.resource
	if len(b.tools) > 2*maxTools {
		return invalid("seen", "{seen} together with those that are gone are more than %d tools; accept that they are "+
			"gone", 2*maxTools)
	}
	if b.grown || isNew {
		if isNew && !slices.ContainsFunc(r.Scopes, func(s oauth.ResourceScope) bool { return s.Default }) {
			least := lowest(r.Scopes)
			for i := range r.Scopes {
				r.Scopes[i].Default = r.Scopes[i].Risk == least
			}
		}
		if err := (ResourceTerms{Scopes: r.Scopes}).apply(r); err != nil { // checks them
			return err
		}
	}
	if err := lockGroups(b.tx, r); err != nil {
		return err
	}
	var err error
	r.UpdatedAt = b.tx.Now()
	if isNew {
		if err = b.tx.CreateResource(r); errors.Is(err, store.ErrConflict) {
			err = conflict(Resources, "identifier", r.Identifier, "the resource %s already exists")
		}
	} else {
		err = b.tx.UpdateResource(r)
	}
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(b.changed)) {
		t := b.tools[name]
		if t.Hash == "" && t.SeenHash == "" { // neither reviewed nor there
			delete(b.tools, name)
			b.shapes = nil
			err = b.tx.DeleteTool(r.ID, name)
			if errors.Is(err, store.ErrNotFound) {
				err = nil
			}
		} else {
			err = b.tx.PutTool(r.ID, t)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *book) view() Server {
	s := Server{Resource: viewResource(b.resource), Tools: []Tool{}}
	for _, name := range b.names() {
		s.Tools = append(s.Tools, b.viewTool(b.tools[name]))
	}
	return s
}

func (b *book) viewTool(t *store.Tool) Tool {
	v := Tool{Name: t.Name, State: ToolReviewed, Risk: t.Risk, Scopes: append([]string{}, t.Scopes...), Hash: t.Hash,
		SeenHash: t.SeenHash, Differences: []Difference{}, ReviewedAt: Moment{t.ReviewedAt}, SeenAt: Moment{t.SeenAt},
		Resembles: b.resembles(t.Name)}
	if t.Definition != "" {
		v.Definition = json.RawMessage(visible([]byte(t.Definition)))
	}
	seen := json.RawMessage(visible([]byte(t.Seen)))
	switch {
	case t.SeenHash == "":
		v.State = ToolGone
	case t.Hash == "":
		v.State, v.Seen = ToolNew, seen
		v.Risk = ProposedRisk(v.Seen)
		v.Scopes = append([]string{}, b.proposed(v.Name, v.Seen, v.Risk)...)
	case t.SeenHash != t.Hash:
		v.State, v.Seen = ToolChanged, seen
		v.Differences = differences(v.Definition, v.Seen)
		v.RiskNow = riskAfter(v.Definition, v.Seen)
	}
	return v
}
