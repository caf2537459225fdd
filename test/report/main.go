// Command report prints the output of `go test -json` in a short form: one line for each package and the full output of
// failed tests. It exits with 1 if a test failed or was skipped.
//
// With -count it prints only the totals, as the line `N passed, N failed`.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// An event is a line of `go test -json` (go doc test2json).
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build events, which have no package
	Test        string
	Elapsed     float64 // seconds
	Output      string
	FailedBuild string
}

// A tally counts tests, including subtests. A package that failed outside its tests counts as one test.
type tally struct{ passed, failed, skipped int }

func main() {
	count := flag.Bool("count", false, "print the totals alone")
	flag.Parse()
	out := io.Writer(os.Stdout)
	if *count {
		out = io.Discard
	}
	total, err := report(os.Stdin, out)
	if err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
	if *count {
		fmt.Printf("%d passed, %d failed\n", total.passed, total.failed+total.skipped)
	}
	if total.failed+total.skipped > 0 {
		os.Exit(1)
	}
}

func report(in io.Reader, out io.Writer) (total tally, err error) {
	printed := map[string]*strings.Builder{} // by package and test, until its result is known
	counts := map[string]*tally{}
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				fmt.Fprintf(out, "%s", line) // output of the go command itself
			} else {
				e.tell(out, &total, counts, printed)
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

func (e event) tell(out io.Writer, total *tally, counts map[string]*tally, printed map[string]*strings.Builder) {
	here := e.Package + "\x00" + e.Test
	if counts[e.Package] == nil {
		counts[e.Package] = new(tally)
	}
	count := counts[e.Package]
	switch e.Action {
	case "build-output":
		fmt.Fprint(out, e.Output)
	case "output":
		if strings.HasPrefix(e.Output, "=== ") || e.Test == "" && strings.HasPrefix(e.Output, "FAIL") {
			return // it is in the line of the package
		}
		if printed[here] == nil {
			printed[here] = new(strings.Builder)
		}
		printed[here].WriteString(e.Output)
	case "pass", "fail", "skip":
		said := ""
		if b := printed[here]; b != nil {
			said = b.String()
			delete(printed, here)
		}
		if e.Test == "" {
			e.conclude(out, total, count, said)
			return
		}
		switch e.Action {
		case "pass":
			count.passed++
			total.passed++
		case "fail":
			count.failed++
			total.failed++
			fmt.Fprint(out, said)
		case "skip": // a skipped test counts as failed, because it proves nothing
			count.skipped++
			total.skipped++
			fmt.Fprint(out, said)
		}
	}
}

// conclude prints the line of a package.
func (e event) conclude(out io.Writer, total, count *tally, said string) {
	switch {
	case e.Action == "fail":
		if count.failed == 0 {
			total.failed++
		}
		fmt.Fprint(out, said)
		fmt.Fprintf(out, "FAIL  %-60s %7.1fs  %d passed, %d failed\n", e.Package, e.Elapsed, count.passed,
			max(count.failed, 1))
	case count.skipped > 0:
		fmt.Fprintf(out, "FAIL  %-60s %7.1fs  %d passed, %d skipped: no test may be\n", e.Package, e.Elapsed,
			count.passed, count.skipped)
	case count.passed > 0:
		fmt.Fprintf(out, "ok    %-60s %7.1fs  %d passed\n", e.Package, e.Elapsed, count.passed)
	}
}
