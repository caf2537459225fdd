package main

import (
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/config"
)

// Any number of first starts at once agree on one database and one master key.
func TestFirstStartsAtOnce(t *testing.T) {
	folder := t.TempDir() + "/new"
	var starts sync.WaitGroup
	for range 8 {
		starts.Go(func() {
			var out, errs strings.Builder
			if code := run(t.Context(), []string{"key", "list", "-o", "json", "--data-dir", folder}, &shell{out: &out, errs: &errs}); code != exitFine {
				t.Errorf("exit %d: %s", code, &errs)
			}
		})
	}
	starts.Wait()
}

// A duration in the JSON log has its unit in its name, in a group too; text has the
// unit in the value.
func TestDurationsInLog(t *testing.T) {
	written := func(format string) string {
		var errs strings.Builder
		log := (&shell{errs: &errs}).newLogger(config.Log{Format: format})
		log.Info("request", slog.Duration("duration", 1500*time.Microsecond), slog.Int("status", 200),
			slog.Group("lock", "waited", 2*time.Second))
		return errs.String()
	}

	var line map[string]any
	if err := json.Unmarshal([]byte(written("json")), &line); err != nil {
		t.Fatal(err)
	}
	group, _ := line["lock"].(map[string]any)
	if line["duration_ms"] != 1.5 || group["waited_ms"] != 2000.0 || line["status"] != 200.0 {
		t.Errorf("JSON log has %v; want duration_ms 1.5, lock.waited_ms 2000 and status 200", line)
	}
	if _, bare := line["duration"]; bare {
		t.Errorf("JSON log has a duration without a unit: %v", line)
	}
	if text := written("text"); !strings.Contains(text, " duration=1.5ms ") {
		t.Errorf("text log has %q; want duration=1.5ms", text)
	}
}
