package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/store"
)

type auditCommands struct {
	List auditList `cmd:"" help:"Show the last events, the newest at the end."`
	Tail auditTail `cmd:"" help:"Show the last events, and those that come until interrupted."`
}

// auditFilter are the flags that say which events are shown.
type auditFilter struct {
	Action  string `placeholder:"PREFIX" help:"Only actions that begin so: token. shows all about tokens."`
	Client  string `placeholder:"ID" help:"Only this client's."`
	User    string `placeholder:"E-MAIL|ID" help:"Only this person's."`
	Grant   string `placeholder:"ID" help:"Only this grant's."`
	Outcome string `enum:",allowed,refused" default:"" placeholder:"OUTCOME" help:"Only what was allowed, or only what was refused."`
	output
}

func (f auditFilter) filter() store.EventFilter {
	return store.EventFilter{Action: f.Action, ClientID: f.Client, UserID: f.User, GrantID: f.Grant, Outcome: audit.Outcome(f.Outcome)}
}

type auditList struct {
	auditFilter
	Since string `placeholder:"TIME" help:"From then on: 2026-01-31T08:00:00Z, or 24h or 1d for a day ago."`
	Until string `placeholder:"TIME" help:"Before then, written like --since."`
	Limit int    `default:"100" placeholder:"N" help:"How many at most; 0 for all."`
}

func (c *auditList) Run(ctx context.Context, sh *shell) error {
	if c.Limit < 0 {
		return usageError("--limit must not be negative")
	}
	return one(ctx, sh, c.output, drawEvents, func(o *admin.Operations, by admin.Caller) (events []audit.Event, err error) {
		filter := c.filter()
		if filter.Since, err = parseMoment("--since", c.Since, o.DB.Now()); err != nil {
			return nil, err
		}
		if filter.Until, err = parseMoment("--until", c.Until, o.DB.Now()); err != nil {
			return nil, err
		}
		return lastEvents(ctx, o, by, filter, c.Limit)
	})
}

func drawEvents(events []audit.Event, t *table) {
	t.row("TIME", "ACTION", "OUTCOME", "WHO", "WHAT")
	for _, e := range events {
		t.row(eventRow(e)...)
	}
}

// lastEvents returns the newest events, as many as limit says, 0 for all; the
// oldest of them first.
func lastEvents(ctx context.Context, o *admin.Operations, by admin.Caller, filter store.EventFilter, limit int) ([]audit.Event, error) {
	events := []audit.Event{}
	page := store.Page{Limit: 1000, Newest: true}
	for {
		if limit > 0 {
			page.Limit = min(1000, limit-len(events))
		}
		more, next, err := o.Events(ctx, by, filter, page)
		if err != nil {
			return nil, err
		}
		events = append(events, more...)
		if next == "" || limit > 0 && len(events) >= limit {
			slices.Reverse(events)
			return events, nil
		}
		page.After = next
	}
}

// eventRow returns an event as a row of a table: when, what, how it ended, who,
// and what else there is to say.
func eventRow(e audit.Event) []string {
	var who, what []string
	say := func(to *[]string, name, value string) {
		if value != "" {
			*to = append(*to, name+"="+value)
		}
	}
	say(&who, "by", actorText(e.Actor))
	say(&who, "from", e.Address)
	say(&what, "client", e.ClientID)
	say(&what, "user", e.UserID)
	say(&what, "grant", e.GrantID)
	say(&what, "resource", e.Resource)
	say(&what, "scope", e.Scope)
	for _, name := range slices.Sorted(maps.Keys(e.Detail)) {
		say(&what, name, e.Detail[name])
	}
	say(&what, "reason", e.Reason)
	say(&what, "description", e.Description)
	return []string{admin.Moment{Time: e.At}.String(), e.Action, string(e.Outcome), strings.Join(who, " "), strings.Join(what, " ")}
}

// actorText returns the actor of an event as text: "command:ada@host".
func actorText(a audit.Actor) string {
	if a.Type == "" {
		return ""
	}
	name := a.Name
	if name == "" {
		name = a.ID
	}
	return string(a.Type) + ":" + name
}

// parseMoment reads a point in time, or how long before now it was; "" is none.
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
	return time.Time{}, usageError(flag + " is not a time; write it like 2026-01-31T08:00:00Z, 2026-01-31, or 24h for a day ago")
}

type auditTail struct {
	auditFilter
	Lines int `short:"n" default:"10" placeholder:"N" help:"How many of the events before now are shown first."`
}

// tailEvery is how often tail looks for new events.
const tailEvery = 500 * time.Millisecond

// settle is how long an event may take from its date to its commit, when another
// process writes it: tail looks back so far for late ones.
const settle = 5 * time.Second

func (c *auditTail) Run(ctx context.Context, sh *shell) error {
	if c.Lines < 0 {
		return usageError("--lines must not be negative")
	}
	return sh.operate(ctx, func(o *admin.Operations, by admin.Caller) error {
		err := c.follow(ctx, sh, o, by)
		if errors.Is(err, context.Canceled) && ctx.Err() != nil {
			err = nil // interrupted, as it is meant to be
		}
		return err
	})
}

func (c *auditTail) follow(ctx context.Context, sh *shell, o *admin.Operations, by admin.Caller) error {
	filter := c.filter()
	started := o.DB.Now()
	shown := map[string]time.Time{} // by id, since filter.Since
	show := func(events []audit.Event) error {
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
	if c.Lines > 0 {
		filter.Until = started
		first, err := lastEvents(ctx, o, by, filter, c.Lines)
		if err = errors.Join(err, show(first)); err != nil {
			return err
		}
	}
	filter.Since, filter.Until = started, time.Time{}
	ticker := time.NewTicker(tailEvery)
	defer ticker.Stop()
	for {
		for page := (store.Page{Limit: 1000}); ; {
			news, next, err := o.Events(ctx, by, filter, page)
			if err = errors.Join(err, show(news)); err != nil {
				return err
			}
			if page.After = next; next == "" {
				break
			}
		}
		if back := o.DB.Now().Add(-settle); back.After(filter.Since) {
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

// line writes one event: as a line of JSON, or of text.
func (c *auditTail) line(sh *shell, e audit.Event) error {
	if c.Output == "json" {
		return json.NewEncoder(sh.out).Encode(e)
	}
	_, err := fmt.Fprintln(sh.out, plain(strings.Join(eventRow(e), "  ")))
	return err
}
