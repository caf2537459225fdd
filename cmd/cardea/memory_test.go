//go:build linux

package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"sync"
	"testing"
)

// FL-22: more people sign in at once than the processors can serve. The server never needs 256 MB, because it hashes
// few passwords at a time, lets some requests wait, and answers the others with 503.
func TestMemory_FL22(t *testing.T) {
	w := newProcess(t)
	w.program = "cardea-strong"
	w.start(t)
	hidden := regexp.MustCompile(`name="csrf" value="([^"]+)"`)
	const people = 24 // with 19 MB each
	sends := make([]func() (int, string), people)
	for i := range sends {
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		browser := &http.Client{Jar: jar}
		page, err := browser.Get(w.issuer + "/login") //nolint:noctx
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(page.Body)
		page.Body.Close()
		csrf := hidden.FindSubmatch(text)
		if err != nil || csrf == nil {
			t.Fatalf("the page has no form: %v\n%s", err, text)
		}
		sends[i] = func() (int, string) {
			resp, err := browser.PostForm(w.issuer+"/login", url.Values{"csrf": {string(csrf[1])}, //nolint:noctx
				"email": {"nobody@example.com"}, "password": {"correct horse battery"}})
			if err != nil {
				t.Error(err)
				return 0, ""
			}
			defer resp.Body.Close()
			return resp.StatusCode, resp.Header.Get("Retry-After")
		}
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	answers := map[int]int{}
	for _, send := range sends {
		all.Go(func() {
			status, retry := send()
			if status == http.StatusServiceUnavailable && retry == "" {
				t.Error("503 without Retry-After")
			}
			mu.Lock()
			defer mu.Unlock()
			answers[status]++
		})
	}
	all.Wait()
	if n := answers[http.StatusForbidden]; n == 0 || n+answers[http.StatusServiceUnavailable] != people {
		t.Errorf("answers by status: %v", answers)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.server.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	peak := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	if peak == nil {
		t.Fatalf("the kernel does not tell the peak:\n%s", status)
	}
	if kB, err := strconv.Atoi(string(peak[1])); err != nil || kB > 256<<10 {
		t.Errorf("it needed %s kB", peak[1])
	} else {
		t.Logf("it needed %d kB; answers by status: %v", kB, answers)
	}
}
