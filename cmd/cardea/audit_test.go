package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/cardea-auth/cardea/internal/audit"
)

// cardea audit tail shows what was, then what comes, a line of JSON each, until it
// is interrupted; then it ends well.
func TestAuditTail(t *testing.T) {
	folder := t.TempDir()
	create := func(identifier string) {
		t.Helper()
		sh := &shell{out: io.Discard, errs: t.Output()}
		code := run(t.Context(), []string{"resource", "create", "--identifier", identifier, "--data-dir", folder}, sh)
		if code != exitFine {
			t.Fatalf("exit %d", code)
		}
	}
	create("https://a.example")
	create("https://b.example")

	ctx, interrupt := context.WithTimeout(t.Context(), patience)
	defer interrupt()
	out, in := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"audit", "tail", "-n", "1", "-o", "json", "--data-dir", folder},
			&shell{out: in, errs: t.Output()})
		in.Close()
	}()
	lines := bufio.NewScanner(out)
	next := func() audit.Event {
		t.Helper()
		var e audit.Event
		if !lines.Scan() {
			t.Fatalf("tail ended: %v", lines.Err())
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		return e
	}
	if e := next(); e.Resource != "https://b.example" {
		t.Errorf("the first line is about %s, want the last event before", e.Resource)
	}
	for _, identifier := range []string{"https://c.example", "https://d.example"} {
		create(identifier)
		if e := next(); e.Action != "resource.create" || e.Resource != identifier {
			t.Errorf("%s %s, want resource.create %s", e.Action, e.Resource, identifier)
		}
	}
	interrupt()
	if lines.Scan() {
		t.Errorf("after the interrupt it shows %s", lines.Text())
	}
	if code := <-ended; code != exitFine {
		t.Errorf("exit %d when interrupted", code)
	}
}

// provedVerb is a verb of scripts: it checks a proof as a program does that knows RFC 6962, the form of signed notes,
// and the lines of a checkpoint that docs/guides/audit.md names, and nothing else of Cardea.
func provedVerb(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: proved FILE KEY")
	}
	var proof struct {
		Number             int64
		Record, Checkpoint string
		Hashes             []tlog.Hash
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &proof))
	key, err := note.NewVerifier(args[1])
	ts.Check(err)
	signed, err := note.Open([]byte(proof.Checkpoint), note.VerifierList(key))
	ts.Check(err)
	lines := strings.Split(signed.Text, "\n")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	ts.Check(err)
	root, err := tlog.ParseHash(lines[2])
	ts.Check(err)
	ts.Check(tlog.CheckRecord(proof.Hashes, size, root, proof.Number, tlog.RecordHash([]byte(proof.Record))))
	if tlog.CheckRecord(proof.Hashes, size, root, proof.Number, tlog.RecordHash([]byte(proof.Record+" "))) == nil {
		ts.Fatalf("the proof holds for another record too")
	}
}
