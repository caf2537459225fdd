package admin

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/store"
)

// Format is the form in which events are exported.
type Format string

// The formats.
const (
	NDJSON Format = "ndjson" // a JSON object in each line
	CSV    Format = "csv"    // RFC 4180, with a header
	OCSF   Format = "ocsf"   // like NDJSON, in the form of the Open Cybersecurity Schema Framework
)

// Export returns a function that writes the events that match filter, the oldest first, without those that come after
// Export was called. It writes at most the given number of events, or all if most is 0; if there are more, its last
// line says from which time on to export the rest. Export records that it was called; the function checks the right of
// by for each part again.
func (o *Operations) Export(ctx context.Context, by Caller, filter store.EventFilter, format Format, most int) (
	write func(io.Writer) error, err error) {
	if format != NDJSON && format != CSV && format != OCSF {
		return nil, invalid("format", "{format} is ndjson, csv or ocsf")
	}
	if err := o.permit(ctx, by, Events, Read, "event.export"); err != nil {
		return nil, err
	}
	err = o.update(ctx, by, func(tx *store.Tx) error {
		if filter, err = resolved(tx, filter); err != nil {
			return err
		}
		asked := conditions(filter)
		newest, _, err := tx.Events(store.EventFilter{}, store.Page{Newest: true, Limit: 1})
		if err != nil {
			return err
		}
		end := tx.Now()
		if len(newest) > 0 && !newest[0].At.Before(end) { // events of one moment are a microsecond apart
			end = newest[0].At.Add(time.Microsecond)
		}
		if filter.Until.IsZero() || filter.Until.After(end) {
			filter.Until = end
		}
		return tx.Conclude(audit.Export(string(format), asked), nil)
	})
	return func(out io.Writer) error { return o.export(ctx, by, filter, format, most, out) }, err
}

// conditions returns a filter as words.
func conditions(f store.EventFilter) string {
	var words []string
	for _, c := range [][2]string{{"action", f.Action}, {"outcome", string(f.Outcome)}, {"user", f.UserID},
		{"client", f.ClientID}, {"resource", f.Resource}, {"grant", f.GrantID}, {"actor", f.Actor},
		{"address", f.Address},
		{"request", f.RequestID}, {"since", moment(f.Since)}, {"until", moment(f.Until)}} {
		if c[1] != "" {
			words = append(words, c[0]+"="+c[1])
		}
	}
	return strings.Join(words, " ")
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// Writer returns a function that writes an event to out, and one that ends the export, with a note if that is not "".
func (f Format) Writer(out io.Writer) (write func(Event) error, end func(note string) error) {
	if f == CSV {
		return commaSeparated(out)
	}
	return jsonLines(out, f == OCSF)
}

// exportPage is how many events are read at a time.
const exportPage = 1000

func (o *Operations) export(ctx context.Context, by Caller, filter store.EventFilter, format Format, most int,
	out io.Writer) error {
	write, end := format.Writer(out)
	written := 0
	for page := (store.Page{Limit: exportPage}); ; {
		events, next, err := o.Events(ctx, by, filter, page)
		if err != nil {
			return err
		}
		for _, e := range events {
			if most > 0 && written == most {
				return end(fmt.Sprintf("These are %d events. The others follow in an export since %s.", most,
					e.At.UTC().Format(time.RFC3339Nano)))
			}
			if err := write(e); err != nil {
				return err
			}
			written++
		}
		if page.After = next; next == "" {
			return end("")
		}
	}
}

// jsonLines returns functions that write events as lines of JSON, and what else there is to say at the end.
func jsonLines(out io.Writer, ocsf bool) (write func(Event) error, end func(string) error) {
	line := func(v any) error {
		text, err := json.Marshal(v)
		if err != nil {
			return err
		}
		_, err = out.Write(append(audit.Escaped(text), '\n'))
		return err
	}
	write = func(e Event) error {
		if ocsf {
			return line(audit.OCSF(e.Event))
		}
		return line(e)
	}
	return write, func(note string) error {
		if note == "" {
			return nil
		}
		return line(map[string]string{"note": note})
	}
}

// commaSeparated is jsonLines for CSV (RFC 4180), with a header.
func commaSeparated(out io.Writer) (write func(Event) error, end func(string) error) {
	w := csv.NewWriter(out)
	header := []string{"at", "id", "action", "outcome", "reason", "description", "actor_type", "actor_id", "actor_name",
		"client_id", "client_name", "user_id", "user", "grant_id", "resource", "resource_name", "scope", "detail",
		"before", "after", "request_id", "address", "user_agent"}
	_ = w.Write(header) // Flush reports it
	write = func(e Event) error {
		row := []string{e.At.UTC().Format(time.RFC3339Nano), e.ID, e.Action, string(e.Outcome), e.Reason, e.Description,
			string(e.Actor.Type), e.Actor.ID, e.Actor.Name, e.ClientID, e.ClientName, e.UserID, e.User, e.GrantID,
			e.Resource, e.ResourceName, e.Scope, e.DetailJSON(), string(e.Before), string(e.After), e.RequestID,
			e.Address, e.UserAgent}
		for i, cell := range row {
			row[i] = inert(cell)
		}
		return w.Write(row)
	}
	return write, func(note string) error {
		if note != "" {
			row := make([]string, len(header))
			row[0] = note
			_ = w.Write(row)
		}
		w.Flush()
		return w.Error()
	}
}

// inert returns the text of a cell with an apostrophe before it if a spreadsheet would take it for a formula, and with
// a mark in place of characters that are not visible.
func inert(cell string) string {
	cell = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, cell)
	first, size := utf8.DecodeRuneInString(strings.TrimLeft(cell, " "))
	if size > 0 && strings.ContainsRune("=+-@|%\ufffd\uff1d\uff0b\uff0d\uff20", first) {
		return "'" + cell
	}
	return cell
}
