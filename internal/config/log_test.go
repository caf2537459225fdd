package config_test

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/config"
)

// A duration in the JSON log has its unit in its name, in a group too; text has the
// unit in the value.
func TestDurationsInLog(t *testing.T) {
	written := func(format string) string {
		var errs strings.Builder
		log := config.Log{Format: format}.Logger(&errs)
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
