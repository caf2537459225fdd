package main_test

import (
	"os/exec"
	"strings"
	"testing"
)

const (
	passing = `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"quiet\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Elapsed":1.5}
`
	failing = `{"Action":"output","Package":"q","Test":"TestB","Output":"    b_test.go:7: wrong\n"}
{"Action":"fail","Package":"q","Test":"TestB"}
{"Action":"fail","Package":"q","Elapsed":0.1}
`
	skipping = `{"Action":"output","Package":"r","Test":"TestC","Output":"    c_test.go:9: not today\n"}
{"Action":"skip","Package":"r","Test":"TestC"}
{"Action":"pass","Package":"r","Elapsed":0.1}
`
	unbuilt = `{"ImportPath":"s","Action":"build-output","Output":"s.go:1: undefined: x\n"}
{"ImportPath":"s","Action":"build-fail"}
{"Action":"output","Package":"s","Output":"FAIL\ts [build failed]\n"}
{"Action":"fail","Package":"s","Elapsed":0,"FailedBuild":"s"}
`
	panicking = `{"Action":"output","Package":"t","Output":"panic: in TestMain\n"}
{"Action":"fail","Package":"t","Elapsed":0}
`
)

func TestReport(t *testing.T) {
	bin := t.TempDir() + "/report"
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	tests := []struct {
		name, in string
		ok       bool
		says     []string
		count    string
	}{
		{"passing", passing, true, []string{"ok    p", "1 passed"}, "1 passed, 0 failed"},
		{"failing", passing + failing, false, []string{"b_test.go:7: wrong", "FAIL  q"}, "1 passed, 1 failed"},
		{"skipping is failing", skipping, false, []string{"c_test.go:9: not today", "FAIL  r"}, "0 passed, 1 failed"},
		{"unbuilt", passing + unbuilt, false, []string{"s.go:1: undefined: x", "FAIL  s"}, "1 passed, 1 failed"},
		{"panicking", panicking, false, []string{"panic: in TestMain", "FAIL  t"}, "0 passed, 1 failed"},
		{"not JSON", "go: no such module\n" + passing, true, []string{"go: no such module"}, "1 passed, 0 failed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			run := func(args ...string) (string, error) {
				cmd := exec.CommandContext(t.Context(), bin, args...)
				cmd.Stdin = strings.NewReader(tt.in)
				out, err := cmd.Output()
				return string(out), err
			}
			out, err := run()
			if (err == nil) != tt.ok {
				t.Errorf("it ended with %v, want success: %t", err, tt.ok)
			}
			for _, part := range tt.says {
				if !strings.Contains(out, part) {
					t.Errorf("the output is\n%s\nwithout %q", out, part)
				}
			}
			if strings.Contains(out, "quiet") || strings.Contains(out, "=== RUN") {
				t.Errorf("it prints the output of a test that passed:\n%s", out)
			}
			if count, _ := run("-count"); count != tt.count+"\n" {
				t.Errorf("-count prints %q, want %q", count, tt.count)
			}
		})
	}
}
