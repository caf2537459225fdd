package console

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// auditRoutes are the pages of the audit log.
func (e *Endpoint) auditRoutes() []web.Route {
	return []web.Route{
		e.route("/admin/audit", e.show(e.events), nil),
		e.route("/admin/audit/{id}", e.show(e.event), nil),
		e.route(exportPath, e.show(e.export), nil),
	}
}

// An eventFilter is one condition of the audit explorer, by the name of its parameter.
type eventFilter struct {
	Name, Label string
	Hint        string
	Value       string // as it was typed
	Problem     string // why Value means nothing; "": it does
	Without     string // the path and query of the page without it
	set         func(f *store.EventFilter, value string, now time.Time) (problem string)
}

// Shown is Value in words.
func (f *eventFilter) Shown() string {
	if f.Name == "outcome" && f.Value == string(audit.Wrong) {
		return "refused or failed"
	}
	return f.Value
}

// text returns a filter of which every text means something.
func text(set func(f *store.EventFilter, value string)) func(*store.EventFilter, string, time.Time) string {
	return func(f *store.EventFilter, value string, _ time.Time) string {
		set(f, value)
		return ""
	}
}

// at returns a filter of a time.
func at(of func(*store.EventFilter) *time.Time) func(*store.EventFilter, string, time.Time) string {
	return func(f *store.EventFilter, value string, now time.Time) (problem string) {
		*of(f), problem = momentOf(value, now)
		return problem
	}
}

// eventFilters are the conditions, in the order of the form.
var eventFilters = []eventFilter{
	{Name: "action", Label: "Action begins with", Hint: "token. or login.sign_in",
		set: text(func(f *store.EventFilter, value string) { f.Action = value })},
	{Name: "outcome", Label: "Outcome", set: func(f *store.EventFilter, value string, _ time.Time) string {
		f.Outcome = audit.Outcome(value)
		if slices.Contains([]audit.Outcome{audit.Allowed, audit.Refused, audit.Failed, audit.Wrong}, f.Outcome) {
			return ""
		}
		return "An outcome is “allowed”, “refused” or “failed”; “wrong” shows what was refused or failed."
	}},
	{Name: "since", Label: "Since", Hint: "24h, 7d or 2026-01-31T08:00Z",
		set: at(func(f *store.EventFilter) *time.Time { return &f.Since })},
	{Name: "until", Label: "Before", Hint: "1h or 2026-02-01",
		set: at(func(f *store.EventFilter) *time.Time { return &f.Until })},
	{Name: "user", Label: "Person", Hint: "e-mail address or id",
		set: text(func(f *store.EventFilter, value string) { f.UserID = value })},
	{Name: "client", Label: "Client", Hint: "id",
		set: text(func(f *store.EventFilter, value string) { f.ClientID = value })},
	{Name: "resource", Label: "MCP server", Hint: "address or id",
		set: text(func(f *store.EventFilter, value string) { f.Resource = value })},
	{Name: "grant", Label: "Grant", Hint: "id",
		set: text(func(f *store.EventFilter, value string) { f.GrantID = value })},
	{Name: "actor", Label: "Asked for by", Hint: "id, or command:NAME",
		set: text(func(f *store.EventFilter, value string) { f.Actor = value })},
	{Name: "address", Label: "Network address", Hint: "192.0.2.7",
		set: func(f *store.EventFilter, value string, _ time.Time) string {
			f.Address = value
			if _, err := netip.ParseAddr(value); err != nil {
				return "This is not a network address: write it like 192.0.2.7 or 2001:db8::7."
			}
			return ""
		}},
	{Name: "request", Label: "Request", Hint: "X-Request-Id of the response",
		set: text(func(f *store.EventFilter, value string) { f.RequestID = value })},
}

// momentOf returns the time that a person wrote, in UTC unless it says otherwise, or as a length of time before now.
func momentOf(value string, now time.Time) (at time.Time, problem string) {
	if value == "" {
		return at, ""
	}
	units := map[byte]time.Duration{'m': time.Minute, 'h': time.Hour, 'd': day}
	if unit := units[value[len(value)-1]]; unit != 0 {
		if n, err := strconv.ParseUint(value[:len(value)-1], 10, 16); err == nil {
			return now.Add(-time.Duration(n) * unit), ""
		}
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00", "2006-01-02T15:04", time.DateOnly} {
		if at, err := time.Parse(layout, value); err == nil && at.Year() > 0 {
			return at, ""
		}
	}
	return at, "This is not a time: write it like 24h or 7d for so long ago, or like 2026-01-31 or 2026-01-31T08:00Z."
}

// eventList is the body of the audit explorer.
type eventList struct {
	Filters []*eventFilter
	Events  []eventLine
	First   bool // what went wrong first
	More    bool // a condition of those that are folded away is set
	Any     bool // a condition is set
	Wrong   bool // one means nothing, so that nothing was looked for
	Follow  bool // new events would come first, so that they can be followed
	Reload  string
	Next    string
	Sealed  admin.Sealed
}

func (l *eventList) next() string { return l.Next }

// Chips are the conditions that are set.
func (l *eventList) Chips() (set []*eventFilter) {
	for _, f := range l.Filters {
		if f.Value != "" {
			set = append(set, f)
		}
	}
	return set
}

// Main are the conditions that are always on the page, and Rest those that are folded away.
func (l *eventList) Main() []*eventFilter { return l.Filters[:mainFilters] }

// Rest is described with Main.
func (l *eventList) Rest() []*eventFilter { return l.Filters[mainFilters:] }

const mainFilters = 6

// eventLine is an event with its sentence and its time.
type eventLine struct {
	admin.Event
	Told  string
	When  admin.Moment
	Later string // than the step before
	Gap   bool   // steps before it are left out
	Here  bool   // it is the one that the page is about
}

func lineOf(e admin.Event) eventLine {
	return eventLine{Event: e, Told: e.Tell(), When: admin.Moment{Time: e.At}}
}

// Bad reports whether it was refused, or failed.
func (l eventLine) Bad() bool { return l.Outcome != audit.Allowed }

// Refused reports whether it was refused.
func (l eventLine) Refused() bool { return l.Outcome == audit.Refused }

// afterWrong begins a cursor of the part that follows what went wrong if that comes first.
const afterWrong = "allowed:"

func (e *Endpoint) events(v *visit) (outcome, error) {
	list, filter := e.filtered(v)
	list.Follow = !v.query.Has("after") && !list.First && filter.Until.IsZero()
	s := screen{template: "audit.html", title: "Audit", body: list}
	sealed, err := e.Operations.Sealed(v.Context(), v.caller)
	if err != nil {
		return nil, err
	}
	list.Sealed = sealed
	if !list.Wrong {
		err := e.findEvents(v, filter, list)
		refused := (*admin.Error)(nil)
		switch {
		case errors.As(err, &refused) && refused.Noun == admin.Users:
			list.Wrong = true
			list.problem("user", web.Sentence(refused.Text(label)))
		case err != nil:
			return nil, err
		}
	}
	if list.Wrong {
		list.Follow, s.status = false, http.StatusUnprocessableEntity
	}
	return s, nil
}

// filtered returns the filters of the query, and what they select.
func (e *Endpoint) filtered(v *visit) (*eventList, store.EventFilter) {
	list := &eventList{First: v.query.Has("first"), Reload: v.with("after", "")}
	var filter store.EventFilter
	for i, f := range eventFilters {
		f.Value = strings.TrimSpace(v.query.Get(f.Name))
		if f.Value != "" {
			f.Problem, f.Without = f.set(&filter, f.Value, e.DB.Now()), v.without(f.Name)
			list.Any, list.More, list.Wrong = true, list.More || i >= mainFilters, list.Wrong || f.Problem != ""
		}
		list.Filters = append(list.Filters, &f)
	}
	return list, filter
}

// Export returns the path and query of what the filters select, as a file.
func (l *eventList) Export(format string) string {
	query := url.Values{"format": {format}}
	for _, f := range l.Chips() {
		query.Set(f.Name, f.Value)
	}
	return exportPath + "?" + query.Encode()
}

const exportPath = "/admin/audit/export"

// Bounds of exports: how many events one has, and how many may run at a time.
const (
	maxExported = 100_000
	maxExports  = 4
)

// exports are the types of the files, by format.
var exports = map[admin.Format]string{admin.NDJSON: "application/x-ndjson", admin.CSV: "text/csv; charset=utf-8",
	admin.OCSF: "application/x-ndjson"}

// endings are those of the names of the files.
var endings = map[admin.Format]string{admin.NDJSON: "ndjson", admin.CSV: "csv", admin.OCSF: "ocsf.ndjson"}

var (
	errFiltered = oauth.Refuse(oauth.InvalidRequest,
		"one of the filters means nothing: correct it on the page of the audit log, and export from there")
	errElsewhere = oauth.RefuseStatus(http.StatusForbidden, oauth.AccessDenied,
		"a page of another site asked for this export: if you want it, open the audit log and export from there")
	errExporting = oauth.RefuseBusy(time.Minute, "too many exports are running: try again in a minute")
)

// export answers with what the filters select, as a file. A page of another site cannot ask for it, because an export
// takes work and is recorded.
func (e *Endpoint) export(v *visit) (outcome, error) {
	list, filter := e.filtered(v)
	switch {
	case web.CrossSite(v.Request):
		return nil, e.Pages.Refuse(v.Request, audit.ForeignForm(v.URL.Path, v.Header.Get("Origin")), errElsewhere)
	case list.Wrong:
		return nil, errFiltered
	}
	if e.exporting.Add(1) > maxExports {
		e.exporting.Add(-1)
		return nil, errExporting
	}
	format := admin.Format(v.query.Get("format"))
	write, err := e.Operations.Export(v.Context(), v.caller, filter, format, maxExported)
	if err != nil {
		e.exporting.Add(-1)
		return nil, err
	}
	name := "audit-" + e.DB.Now().UTC().Format("20060102-150405") + "." + endings[format]
	return away{web.Stream{Name: name, Kind: exports[format], Write: func(out io.Writer) error {
		defer e.exporting.Add(-1)
		return write(out)
	}}}, nil
}

func (l *eventList) problem(name, text string) {
	for _, f := range l.Filters {
		if f.Name == name {
			f.Problem = text
		}
	}
}

// findEvents fills list with a page of the events that filter selects.
func (e *Endpoint) findEvents(v *visit, filter store.EventFilter, list *eventList) error {
	page := v.page()
	add := func() (err error) {
		events, next, err := e.Operations.Events(v.Context(), v.caller, filter, page)
		for _, found := range events {
			list.Events = append(list.Events, lineOf(found))
		}
		list.Next = next
		return err
	}
	if !list.First || filter.Outcome != "" {
		return add()
	}
	rest, allowed := strings.CutPrefix(page.After, afterWrong)
	if !allowed {
		filter.Outcome = audit.Wrong
		if err := add(); err != nil || list.Next != "" {
			return err
		}
		if page.Limit -= len(list.Events); page.Limit <= 0 {
			list.Next = afterWrong
			return nil
		}
	}
	filter.Outcome, page.After = audit.Allowed, rest
	if !allowed {
		page.After = ""
	}
	err := add()
	if list.Next != "" {
		list.Next = afterWrong + list.Next
	}
	return err
}

// without returns the address of the page without a condition, from the first part of the list on.
func (v *visit) without(name string) string {
	first := *v
	first.query = maps.Clone(v.query)
	delete(first.query, "after")
	return first.with(name, "")
}

// eventPage is the body of the page of one event.
type eventPage struct {
	eventLine
	Steps   []eventLine
	Changes []memberChange
	Facts   []memberChange // details that only this action has, in After
	JSON    string
	Next    string
}

func (p eventPage) next() string { return p.Next }

// visible returns a JSON text in which every character that is invisible, or changes the direction of writing, is
// escaped.
func visible(text []byte) string {
	var b strings.Builder
	for _, r := range string(text) {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// memberChange is what a member of a record was and became.
type memberChange struct{ Name, Before, After string }

func (e *Endpoint) event(v *visit) (outcome, error) {
	found, err := e.Operations.Event(v.Context(), v.caller, v.id())
	if err != nil {
		return nil, err
	}
	page := store.Page{After: v.query.Get("after"), Limit: perPage}
	flow, err := e.Operations.Flow(v.Context(), v.caller, v.id(), page)
	if err != nil {
		return nil, err
	}
	body := eventPage{eventLine: lineOf(found), Next: flow.Next, Changes: changesOf(found.Event)}
	for _, s := range flow.Steps {
		line := lineOf(s.Event)
		line.Later, line.Gap, line.Here = s.Later, s.Gap, s.ID == found.ID
		body.Steps = append(body.Steps, line)
	}
	for _, name := range slices.Sorted(maps.Keys(found.Detail)) {
		body.Facts = append(body.Facts, memberChange{Name: words(name), After: found.Detail[name]})
	}
	raw, err := json.MarshalIndent(found, "", "  ")
	body.JSON = visible(raw)
	return screen{template: "event.html", title: body.Told, body: body}, err
}

// changesOf returns what the change that an event records made different.
func changesOf(event audit.Event) (changes []memberChange) {
	before, after := membersOf(event.Before), membersOf(event.After)
	names := slices.Concat(slices.Collect(maps.Keys(before)), slices.Collect(maps.Keys(after)))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		changes = append(changes, memberChange{words(name), before[name], after[name]})
	}
	return changes
}

// membersOf returns the members of a JSON object as text, in which null is "".
func membersOf(object json.RawMessage) map[string]string {
	var members map[string]json.RawMessage
	if json.Unmarshal(object, &members) != nil {
		return nil
	}
	shown := map[string]string{}
	for name, value := range members {
		var text *string
		if json.Unmarshal(value, &text) != nil { // not a string
			shown[name] = string(value)
		} else if text != nil {
			shown[name] = *text
		}
	}
	return shown
}

func words(name string) string { return strings.ReplaceAll(name, "_", " ") }

// Person is what the person of an event is called.
func (l eventLine) Person() string { return cmp.Or(l.UserName, l.User) }
