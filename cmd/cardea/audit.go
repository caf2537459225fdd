package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/adminapi"
	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/store"
)

type auditCommands struct {
	List auditList `cmd:"" help:"Show the last events, the newest last."`
	Tail auditTail `cmd:"" help:"Tell the last events, and new ones until it is interrupted."`
	Show auditShow `cmd:"" help:"Tell all that belongs to one event."`

	Export auditExport `cmd:"" help:"Write events to standard output, for other programs."`
	Replay auditReplay `cmd:"" help:"Send sealed events again to a webhook or to syslog."`
	Verify auditVerify `cmd:"" help:"Prove that no sealed event was changed or removed."`
}

// auditFilter has the flags that select events.
type auditFilter struct {
	Action  string `placeholder:"PREFIX" help:"Only actions that begin with this: token. selects all actions on tokens."`
	Client  string `placeholder:"ID" help:"Only events of this client."`
	User    string `placeholder:"E-MAIL|ID" help:"Only events of this person."`
	Grant   string `placeholder:"ID" help:"Only events of this grant."`
	Outcome string `enum:",allowed,refused,failed,wrong" default:"" placeholder:"OUTCOME" help:"Only events with this outcome: allowed, refused or failed; wrong is refused or failed."`
	Refused bool   `help:"The same as --outcome refused."`

	Resource string `placeholder:"ID|URL" help:"Only events at this MCP server."`
	Actor    string `placeholder:"ID" help:"Only what this person, client or command asked for: an id, also as user:ID, client:ID or command:NAME."`
	Address  string `placeholder:"IP" help:"Only requests from this network address."`
	Request  string `aliases:"request-id" placeholder:"ID" help:"Only this request, by the X-Request-Id of its response."`
}

// Validate returns an error if flags contradict each other.
func (f auditFilter) Validate() error {
	if f.Refused && f.Outcome != "" && f.Outcome != string(audit.Refused) {
		return errors.New("--refused and --outcome " + f.Outcome + " exclude each other; give one of them")
	}
	return nil
}

func (f auditFilter) filter() store.EventFilter {
	if f.Refused {
		f.Outcome = string(audit.Refused)
	}
	return store.EventFilter{
		Action: f.Action, ClientID: f.Client, UserID: f.User, GrantID: f.Grant, Outcome: audit.Outcome(f.Outcome),
		Resource: f.Resource, Actor: f.Actor, Address: f.Address, RequestID: f.Request,
	}
}

// auditTime has the flags that select events by time.
type auditTime struct {
	Since string `placeholder:"TIME" help:"Only events from this time on: 2026-01-31T08:00:00Z, or 24h for a day ago."`
	Until string `placeholder:"TIME" help:"Only events before this time, written like --since."`
}

// clock returns the clock by which t dates events: for another server it is this machine's.
func clock(t adminapi.Target) func() time.Time {
	if t.Operations == nil {
		return time.Now
	}
	return t.Operations.DB.Now
}

// limit sets the times of a filter.
func (c auditTime) limit(filter *store.EventFilter, now time.Time) (err error) {
	if filter.Since, err = parseMoment("--since", c.Since, now); err != nil {
		return err
	}
	filter.Until, err = parseMoment("--until", c.Until, now)
	return err
}

type auditList struct {
	auditFilter
	auditTime
	output
	Limit int `default:"100" placeholder:"N" help:"How many events at most; 0 means all."`
}

func (c *auditList) Run(ctx context.Context, sh *shell) error {
	if c.Limit < 0 {
		return usageError("--limit must not be negative; 0 means all events")
	}
	return sh.reach(ctx, sh.operate, func(t adminapi.Target) error {
		filter := c.filter()
		if err := c.limit(&filter, clock(t)()); err != nil {
			return err
		}
		empty := emptyList(filter != store.EventFilter{}, "event",
			"no decision is recorded yet; every one will be shown here")
		p := newPrinter(c.output, sh, empty, drawEvents)
		if c.Limit == 0 {
			if err := eachEvent(ctx, t, filter, p.add); err != nil {
				return err
			}
			return p.end()
		}
		events, err := lastEvents(ctx, t, filter, c.Limit)
		if err == nil {
			err = p.add(events)
		}
		if err != nil {
			return err
		}
		return p.end()
	})
}

func drawEvents(events []admin.Event, t *table) {
	t.Head("TIME", "ACTION", "OUTCOME", "WHO", "WHAT")
	t.Fold(16, "WHO")
	t.Fold(40, "WHAT") // the name and an id
	for _, e := range events {
		t.Row(eventRow(e)...)
	}
}

// lastEvents returns the newest events that match filter, at most limit of them. The oldest of them is the first.
func lastEvents(ctx context.Context, t adminapi.Target, filter store.EventFilter, limit int) ([]admin.Event, error) {
	events, in := []admin.Event{}, listing(filter)
	for {
		in.Limit = min(1000, limit-len(events))
		more, err := adminapi.ListEvents.Call(ctx, t, in)
		if err != nil {
			return nil, err
		}
		events = append(events, more.Items...)
		if more.Next == "" || len(events) >= limit {
			slices.Reverse(events)
			return events, nil
		}
		in.Cursor = more.Next
	}
}

// listing returns the input of a list of the events that match filter, the newest first.
func listing(filter store.EventFilter) adminapi.EventListing {
	return adminapi.EventListing{
		Listing: adminapi.Listing{Limit: 1000},
		Action:  filter.Action, User: filter.UserID, Client: filter.ClientID, Grant: filter.GrantID,
		Actor: filter.Actor, Resource: filter.Resource, Address: filter.Address, RequestID: filter.RequestID,
		Outcome: string(filter.Outcome), Since: filter.Since, Until: filter.Until,
	}
}

// eachEvent calls do with each page of the events that match filter, the oldest first.
func eachEvent(ctx context.Context, t adminapi.Target, filter store.EventFilter, do func([]admin.Event) error) error {
	in := listing(filter)
	in.Oldest = true
	for {
		page, err := adminapi.ListEvents.Call(ctx, t, in)
		if err != nil {
			return err
		}
		if err := do(page.Items); err != nil {
			return err
		}
		if in.Cursor = page.Next; page.Next == "" {
			return nil
		}
	}
}

// eventRow returns an event as a row of a table: time, action, outcome, actor, and details.
func eventRow(e admin.Event) []string {
	var who, what []string
	say := func(to *[]string, name, value string) {
		if value != "" {
			*to = append(*to, name+"="+value)
		}
	}
	say(&who, "by", e.Actor.String())
	say(&who, "from", e.Address)
	named := func(name, id, called string) {
		if called != "" && !strings.Contains(id, called) { // a resource may be called by its host
			id += " " + strconv.Quote(called)
		}
		say(&what, name, id)
	}
	named("client", e.ClientID, e.ClientName)
	named("user", e.UserID, e.User)
	say(&what, "grant", e.GrantID)
	named("resource", e.Resource, e.ResourceName)
	say(&what, "scope", e.Scope)
	for _, name := range slices.Sorted(maps.Keys(e.Detail)) {
		say(&what, name, e.Detail[name])
	}
	say(&what, "reason", e.Reason)
	say(&what, "description", e.Description)
	return []string{admin.Moment{Time: e.At}.String(), e.Action, ending(e), strings.Join(who, " "),
		strings.Join(what, " ")}
}

// parseMoment parses a point in time, or a duration before now. It returns the zero time for "".
func parseMoment(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := parseSpan(text); err == nil {
		return now.Add(-ago), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	return time.Time{}, usageError(flag +
		" is not a time; write it like 2026-01-31T08:00:00Z, 2026-01-31, or 24h for a day ago")
}

type auditTail struct {
	auditFilter
	output
	Lines int `short:"n" default:"10" placeholder:"N" help:"How many earlier events are shown first."`
}

// tailEvery is how often tail looks for new events, and tailEveryRemote how often it asks another server.
const (
	tailEvery       = 500 * time.Millisecond
	tailEveryRemote = 2 * time.Second
)

// settle is how long another process may take from the time of an event to its commit. Tail looks back as long, so that
// it misses no event.
const settle = 15 * time.Second

func (c *auditTail) Run(ctx context.Context, sh *shell) error {
	if c.Lines < 0 {
		return usageError("--lines must not be negative; 0 shows new events only")
	}
	return sh.reach(ctx, sh.operate, func(t adminapi.Target) error {
		err := c.follow(ctx, sh, t)
		if errors.Is(err, context.Canceled) && ctx.Err() != nil {
			err = nil // an interrupt is the usual end
		}
		return err
	})
}

func (c *auditTail) follow(ctx context.Context, sh *shell, t adminapi.Target) error {
	filter := c.filter()
	now, every := clock(t), tailEvery
	if t.Operations == nil {
		every = tailEveryRemote
	}
	started := now()
	shown := map[string]time.Time{} // by id, since filter.Since
	show := func(events []admin.Event) error {
		for _, e := range events {
			if _, again := shown[e.ID]; again {
				continue
			}
			shown[e.ID] = e.At
			if err := c.line(sh, e); err != nil {
				return err
			}
		}
		return nil
	}
	// An event from before may appear only now, so the recent ones are looked for again; those that are there already
	// are not new.
	filter.Since = started.Add(-settle)
	recent := map[string]time.Time{}
	if err := eachEvent(ctx, t, filter, func(events []admin.Event) error {
		for _, e := range events {
			recent[e.ID] = e.At
		}
		return nil
	}); err != nil {
		return err
	}
	filter.Since = time.Time{}
	if c.Lines > 0 {
		filter.Until = started
		first, err := lastEvents(ctx, t, filter, c.Lines)
		if err = errors.Join(err, show(first)); err != nil {
			return err
		}
	}
	maps.Copy(shown, recent)
	filter.Since, filter.Until = started.Add(-settle), time.Time{}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if err := eachEvent(ctx, t, filter, show); err != nil {
			return err
		}
		if back := now().Add(-settle); back.After(filter.Since) {
			filter.Since = back
			maps.DeleteFunc(shown, func(_ string, at time.Time) bool { return at.Before(back) })
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// line writes one event as a line of JSON or of text.
func (c *auditTail) line(sh *shell, e admin.Event) error {
	if c.Output == "json" {
		text, err := json.Marshal(e)
		if err == nil {
			_, err = sh.out.Write(append(audit.Escaped(text), '\n'))
		}
		return err
	}
	_, err := fmt.Fprintln(sh.out, tell(sh, e, e.At.UTC().Format("2006-01-02 15:04:05"), e.Tell()))
	return err
}

// tell returns an event as a line: when, how it ended, what happened, and the id for cardea audit show.
func tell(sh *shell, e admin.Event, when, told string) string {
	return styleOf(sh.out, sh.environ).Line(when, ending(e), told, e.ID)
}

// ending returns the outcome of an event; what went wrong is in capitals.
func ending(e admin.Event) string {
	if e.Outcome == audit.Allowed {
		return string(e.Outcome)
	}
	return strings.ToUpper(string(e.Outcome))
}

type auditShow struct {
	Event string `arg:"" help:"Id of the event."`
	Limit int    `default:"100" placeholder:"N" help:"How many events of the grant at most; 0 means 100."`
	output
}

// Help returns what the help shows below the usage.
func (c *auditShow) Help() string {
	return "These are the events of the same grant and of the same requests, from the consent on. If there are more " +
		"than --limit, it shows the first ones and those around the event."
}

func (c *auditShow) Run(ctx context.Context, sh *shell) error {
	if c.Limit < 0 {
		return usageError("--limit must not be negative; 0 means 100 events")
	}
	return sh.reach(ctx, sh.operate, func(t adminapi.Target) error {
		in := adminapi.FlowOf{ID: c.Event, Listing: adminapi.Listing{Limit: c.Limit}}
		flow, err := adminapi.ShowFlow.Call(ctx, t, in)
		if err != nil {
			return err
		}
		if c.Output == "json" {
			return printJSON(sh.out, flow.Flow)
		}
		return c.tell(sh, flow.Flow)
	})
}

// tell prints a flow as a story, with what is recorded of the event itself below.
func (c *auditShow) tell(sh *shell, flow admin.Flow) error {
	var text strings.Builder
	var grant string
	for i, step := range flow.Steps {
		when := step.Later
		if i == 0 || step.Gap {
			when = step.At.UTC().Format("2006-01-02 15:04:05")
		}
		if step.Gap {
			text.WriteString("  …\n")
		}
		mark := "  "
		if step.ID == c.Event {
			mark, grant = "> ", step.GrantID
		}
		fmt.Fprintf(&text, "%s%s\n", mark, tell(sh, step.Event, fmt.Sprintf("%-19s", when), step.Told))
	}
	if flow.Next != "" && grant != "" {
		fmt.Fprintf(&text, "  …\nmore: cardea audit list --grant %s\n", plain(grant))
	}
	for _, step := range flow.Steps {
		if step.ID != c.Event {
			continue
		}
		event := step.Event
		text.WriteString("\n" + plain(strings.Join(eventRow(event), "  ")) + "\n")
		for _, fact := range [][2]string{{"request", event.RequestID}, {"user agent", event.UserAgent},
			{"before", string(event.Before)},
			{"after", string(event.After)}} {
			if fact[1] != "" {
				text.WriteString(fact[0] + ": " + plain(fact[1]) + "\n")
			}
		}
	}
	_, err := io.WriteString(sh.out, text.String())
	return err
}
