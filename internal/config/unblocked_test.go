package config_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/config"
)

// stuck is a place for a log that takes nothing before it is closed.
type stuck struct {
	free chan struct{}
	text bytes.Buffer
}

func (s *stuck) Write(p []byte) (int, error) {
	<-s.free
	return s.text.Write(p)
}

// A line is in the log when the call returns, so that a process that is killed has logged what it answered.
func TestUnblockedWrites(t *testing.T) {
	out := &stuck{free: make(chan struct{})}
	close(out.free)
	log, end := config.Log{Format: "json"}.Unblocked(out)
	defer end()
	for i := range 1000 {
		log.Info("said", "n", i)
		if n := strings.Count(out.text.String(), "\n"); n != i+1 {
			t.Fatalf("%d lines after %d calls", n, i+1)
		}
	}
}

// FL-25: a log that nobody reads makes nothing wait. What it has no room for is dropped, and their number is told once
// somebody reads it; what waits is written at the end.
func TestUnblocked(t *testing.T) {
	out := &stuck{free: make(chan struct{})}
	log, end := config.Log{Format: "json"}.Unblocked(out)
	const lines = 10_000
	for i := range lines {
		log.Info("said", "n", i)
	}
	close(out.free)
	end()
	said, dropped := 0, 0
	for line := range strings.Lines(out.text.String()) {
		var r struct{ N, Lines int }
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if r.Lines > 0 {
			dropped += r.Lines
			continue
		}
		if said++; said <= 4096 && r.N != said-1 {
			t.Fatalf("line %d is %s", said, line)
		}
	}
	if said < 4096 || dropped == 0 || said+dropped != lines {
		t.Errorf("%d lines were written, and %d are said to have been dropped", said, dropped)
	}
}
