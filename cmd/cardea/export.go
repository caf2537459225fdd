package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/table"
)

type auditExport struct {
	auditFilter
	auditTime
	Format string `enum:"ndjson,csv" default:"ndjson" placeholder:"FORMAT" help:"ndjson, a JSON object in each line, or csv."`
}

// Help returns what the help shows below the usage.
func (c *auditExport) Help() string {
	return "The oldest event comes first. In CSV, a cell that a spreadsheet would run as a formula begins with an " +
		"apostrophe."
}

func (c *auditExport) Run(ctx context.Context, sh *shell) error {
	return sh.operate(ctx, func(o *admin.Operations, by admin.Caller) error {
		filter := c.filter()
		if err := c.limit(&filter, o.DB.Now()); err != nil {
			return err
		}
		if filter.Until.IsZero() {
			filter.Until = o.DB.Now() // what comes while it runs is not part of it
		}
		write, flush := ndjson(sh.out)
		if c.Format == "csv" {
			write, flush = commaSeparated(sh.out)
		}
		for page := (store.Page{Limit: 1000}); ; {
			events, next, err := o.Events(ctx, by, filter, page)
			if err != nil {
				return err
			}
			for _, e := range events {
				if err := write(e); err != nil {
					return err
				}
			}
			if page.After = next; next == "" {
				return flush()
			}
		}
	})
}

// ndjson returns functions that write events as lines of JSON.
func ndjson(out io.Writer) (write func(admin.Event) error, flush func() error) {
	write = func(e admin.Event) error {
		text, err := json.Marshal(e)
		if err != nil {
			return err
		}
		_, err = out.Write(append(escaped(text), '\n'))
		return err
	}
	return write, func() error { return nil }
}

// escaped returns JSON with escapes for what is not printable and that JSON allows, such as C1 control characters and
// marks that reorder text, because a terminal would obey them.
func escaped(text []byte) []byte {
	if bytes.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return text
	}
	var b bytes.Buffer
	for _, r := range string(text) {
		switch {
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := (r-0x10000)>>10+0xd800, (r-0x10000)&0x3ff+0xdc00
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.Bytes()
}

// commaSeparated returns functions that write events as CSV (RFC 4180), with a header.
func commaSeparated(out io.Writer) (write func(admin.Event) error, flush func() error) {
	w := csv.NewWriter(out)
	header := []string{"at", "id", "action", "outcome", "reason", "description", "actor_type", "actor_id", "actor_name",
		"client_id", "client_name", "user_id", "user", "grant_id", "resource", "resource_name", "scope", "detail",
		"before", "after", "request_id", "address", "user_agent"}
	_ = w.Write(header) // Flush reports it
	write = func(e admin.Event) error {
		row := []string{e.At.UTC().Format(time.RFC3339Nano), e.ID, e.Action, string(e.Outcome), e.Reason, e.Description,
			string(e.Actor.Type), e.Actor.ID, e.Actor.Name, e.ClientID, e.ClientName, e.UserID, e.User, e.GrantID,
			e.Resource, e.ResourceName, e.Scope, e.DetailJSON(), string(e.Before), string(e.After), e.RequestID,
			e.Address, e.UserAgent}
		for i, cell := range row {
			row[i] = inert(cell)
		}
		return w.Write(row)
	}
	return write, func() error {
		w.Flush()
		return w.Error()
	}
}

// inert returns the text of a cell with an apostrophe before it if a spreadsheet would take it for a formula, and
// without characters that are not visible.
func inert(cell string) string {
	cell = table.Plain(cell)
	first, size := utf8.DecodeRuneInString(strings.TrimLeft(cell, " "))
	if size > 0 && strings.ContainsRune("=+-@|%\ufffd\uff1d\uff0b\uff0d\uff20", first) {
		return "'" + cell
	}
	return cell
}
