package config_test

import (
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/config"
)

func pipe(t *testing.T) (reader, writer *os.File) {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close(); writer.Close() })
	return reader, writer
}

// A line is in the log when the call returns, so that a process that is killed has logged what it answered.
func TestUnblockedWrites(t *testing.T) {
	reader, writer := pipe(t)
	log, end := config.Log{Format: "json"}.Unblocked(writer)
	defer end()
	for i, length := range []int{1, 100, 10_000, 30_000} {
		log.Info("said", "n", i, "text", strings.Repeat("x", length))
		text := make([]byte, 40_000)
		n, err := reader.Read(text)
		if err != nil || n < length || text[n-1] != '\n' {
			t.Fatalf("%d bytes after the call with %d (%v)", n, length, err)
		}
	}
}

// FL-25: a log that nobody reads makes nothing wait. What it has no room for is dropped, and their number is told once
// somebody reads it; what waits is written at the end.
func TestUnblocked(t *testing.T) {
	reader, writer := pipe(t)
	log, end := config.Log{Format: "json"}.Unblocked(writer)
	const count = 30_000
	for i := range count {
		log.Info("said", "n", i)
	}
	read := make(chan string)
	go func() {
		text, _ := io.ReadAll(reader)
		read <- string(text)
	}()
	end()
	writer.Close()
	said, dropped := 0, 0
	for line := range strings.Lines(<-read) {
		var r struct{ N, Lines int }
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if r.Lines > 0 {
			dropped += r.Lines
			continue
		}
		if said++; r.N != said-1 {
			t.Fatalf("line %d is %s", said, line)
		}
	}
	if said < 4096 || dropped == 0 || said+dropped != count {
		t.Errorf("%d lines were written, and %d are said to have been dropped", said, dropped)
	}
}
