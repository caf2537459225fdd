package main

import (
	"encoding/json"
	"io"
	"reflect"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/alecthomas/kong"

	"github.com/cardea-auth/cardea/internal/config"
)

// output is the flag of a command that prints data.
type output struct {
	Output string `short:"o" enum:"table,json" default:"table" placeholder:"FORMAT" help:"table, or json for machines."`
}

// print writes value as JSON, or has draw write it for people.
func (o output) print(sh *shell, value any, draw func(*table)) error {
	if o.Output == "json" {
		return printJSON(sh.out, value)
	}
	t := newTable(sh.out)
	draw(t)
	return t.w.Flush()
}

func printJSON(out io.Writer, value any) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// table is written row by row. What it shows comes from strangers in part, so it
// passes nothing on that a terminal would obey.
type table struct{ w *tabwriter.Writer }

func newTable(out io.Writer) *table {
	return &table{w: tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
}

func (t *table) row(cells ...string) {
	for i, cell := range cells {
		cells[i] = plain(cell)
	}
	_, _ = io.WriteString(t.w, strings.TrimRight(strings.Join(cells, "\t"), "\t")+"\n") // Flush reports it
}

// plain returns s with everything that is not a visible character replaced.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// parseSpan reads a duration as it is written in the configuration. One below zero
// is for the command to refuse.
func parseSpan(text string) (time.Duration, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return d, nil
	}
	return config.ParseDuration(text)
}

// decodeSpan reads the duration that a flag was given.
func decodeSpan(ctx *kong.DecodeContext, target reflect.Value) error {
	var text string
	if err := ctx.Scan.PopValueInto("duration", &text); err != nil {
		return err
	}
	d, err := parseSpan(text)
	target.SetInt(int64(d))
	return err
}

// orDash returns s, or a dash for the empty string.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// count returns "1 grant", "2 grants".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}
