package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/config"
)

// output is the flag of a command that prints data.
type output struct {
	Output string `short:"o" enum:"table,json" default:"table" placeholder:"FORMAT" help:"table, or json for programs."`
}

// print writes value as JSON, or has draw write it for people.
func (o output) print(sh *shell, value any, draw func(*table)) error {
	if o.Output == "json" {
		return printJSON(sh.out, value)
	}
	t := newTable(sh.out, styleOf(sh.out, sh.environ))
	draw(t)
	return t.Flush()
}

// A printer prints a list part by part, so that it need not be in memory.
type printer[T any] struct {
	output
	sh    *shell
	empty string // the note on standard error for an empty list: why it is empty, or what to do
	draw  func([]T, *table)
	table *table
	n     int // records printed

	// What JSON has before and after the list, and how far its records are indented.
	head, tail, indent string
}

func newPrinter[T any](o output, sh *shell, empty string, draw func([]T, *table)) *printer[T] {
	table := newTable(sh.out, styleOf(sh.out, sh.environ))
	return &printer[T]{output: o, sh: sh, empty: empty, draw: draw, table: table,
		tail: "\n", indent: "  "}
}

// add prints the next records. JSON is complete only after end, so that what an error cuts off is not taken for all.
func (p *printer[T]) add(records []T) error {
	if len(records) == 0 {
		return nil
	}
	if p.Output != "json" {
		p.n += len(records)
		p.draw(records, p.table)
		return p.table.Flush()
	}
	var b bytes.Buffer
	for _, r := range records {
		if b.WriteString(",\n" + p.indent); p.n == 0 {
			b.Reset()
			b.WriteString(p.head + "[\n" + p.indent)
		}
		p.n++
		encoder := json.NewEncoder(&b)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent(p.indent, "  ")
		if err := encoder.Encode(r); err != nil {
			return err
		}
		b.Truncate(b.Len() - 1) // the line feed
	}
	_, err := p.sh.out.Write(audit.Escaped(b.Bytes()))
	return err
}

// end prints what follows the last record.
func (p *printer[T]) end() (err error) {
	switch {
	case p.Output != "json" && p.n > 0:
	case p.Output != "json":
		fmt.Fprintln(p.sh.errs, "cardea:", p.empty)
		p.draw(nil, p.table)
		err = p.table.Flush()
	case p.n > 0:
		_, err = io.WriteString(p.sh.out, "\n"+p.indent[2:]+"]"+p.tail)
	default:
		_, err = io.WriteString(p.sh.out, p.head+"[]"+p.tail)
	}
	return err
}

// within makes the list a member of the JSON object of record, after what that has; record is not empty.
func (p *printer[T]) within(record any, member string) error {
	var b bytes.Buffer
	if err := printJSON(&b, record); err != nil {
		return err
	}
	p.head = strings.TrimSuffix(b.String(), "\n}\n") + ",\n  \"" + member + "\": "
	p.tail, p.indent = "\n}\n", "    "
	return nil
}

// emptyList returns why a list is empty: nothing matches its filters, or else what none says.
func emptyList(filtered bool, noun, none string) string {
	if filtered {
		return "no " + noun + " matches these filters"
	}
	return none
}

// printJSON writes value as JSON that a terminal can show.
func printJSON(out io.Writer, value any) error {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil {
		return err
	}
	_, err := out.Write(audit.Escaped(b.Bytes()))
	return err
}

// parseSpan parses a duration, as the configuration has it. It accepts a negative one, which the command refuses.
func parseSpan(text string) (time.Duration, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return d, nil
	}
	return config.ParseDuration(text)
}

// decodeSpan parses the value of a flag that is a duration.
func decodeSpan(ctx *kong.DecodeContext, target reflect.Value) error {
	var text string
	if err := ctx.Scan.PopValueInto("duration", &text); err != nil {
		return err
	}
	d, err := parseSpan(text)
	target.SetInt(int64(d))
	return err
}

// decodeFile reads the file that is the value of a flag; - is standard input.
func (sh *shell) decodeFile(ctx *kong.DecodeContext, target reflect.Value) error {
	var path string
	if err := ctx.Scan.PopValueInto("file", &path); err != nil {
		return err
	}
	if ctx.Value.Set { // kong decodes twice, and there is no second standard input
		return nil
	}
	read := func() ([]byte, error) { return config.ReadFile(path) }
	if path == "-" {
		read = func() ([]byte, error) { return config.ReadAll(sh.in, "standard input") }
	}
	text, err := read()
	if err == nil {
		target.SetBytes(text)
	}
	return err
}

// count returns a number with its noun: "1 grant", "2 grants".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}
