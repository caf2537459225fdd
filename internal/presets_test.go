package internal_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/upstream"
)

// TestPresets shows what a preset of identity providers is made of: a row of the table in upstream/config.go. What it
// is called in the documentation is tested beside that. Providers that speak in a way of their own are named in more
// files.
func TestPresets(t *testing.T) {
	own := map[string]bool{"github": true, "microsoft": true}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") ||
			strings.Contains(path, "servertest") || path == "upstream/config.go" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, preset := range upstream.Presets {
			known := strings.ReplaceAll(string(text), `{"id":"google","preset":"google"`, "") // an example for people
			if !own[preset] && strings.Contains(known, `"`+preset+`"`) {
				t.Errorf("%s names the preset %s: what is known of it belongs into its row", path, preset)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
