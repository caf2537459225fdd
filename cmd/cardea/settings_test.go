package main

import (
	"strings"
	"sync"
	"testing"
)

// Any number of first starts at once agree on one database and one master key.
func TestFirstStartsAtOnce(t *testing.T) {
	folder := t.TempDir() + "/new"
	var starts sync.WaitGroup
	for range 8 {
		starts.Go(func() {
			var out, errs strings.Builder
			code := run(t.Context(), []string{"key", "list", "-o", "json", "--data-dir", folder},
				&shell{out: &out, errs: &errs})
			if code != exitFine {
				t.Errorf("exit %d: %s", code, &errs)
			}
		})
	}
	starts.Wait()
}
