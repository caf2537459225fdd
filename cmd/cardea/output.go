package main

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"time"

	"github.com/alecthomas/kong"

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

// printList is print for a list. If the list is empty, a note on standard error says why, or
// what to do.
func printList[T any](o output, sh *shell, list []T, empty string, draw func([]T, *table)) error {
	if len(list) == 0 && o.Output != "json" {
		fmt.Fprintln(sh.errs, "cardea:", empty)
	}
	return o.print(sh, list, func(t *table) { draw(list, t) })
}

// emptyList returns why a list is empty: nothing matches its filters, or else what none says.
func emptyList(filtered bool, noun, none string) string {
	if filtered {
		return "no " + noun + " matches these filters"
	}
	return none
}

func printJSON(out io.Writer, value any) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// parseSpan parses a duration, as the configuration has it. It accepts a negative one, which
// the command refuses.
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

// count returns a number with its noun: "1 grant", "2 grants".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}
