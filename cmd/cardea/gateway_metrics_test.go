//go:build unix

package main

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/porttest"
)

// A gateway that runs alone serves its metrics where its file says, and nowhere else.
func TestGatewayMetrics(t *testing.T) {
	addresses := [...]string{porttest.Address(t), porttest.Address(t)}
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	text := "issuer: http://127.0.0.1:1\npublic: http://" + addresses[0] + "\nlisten: " + addresses[0] +
		"\nmetrics_listen: " + addresses[1] + "\nservers:\n  - name: files\n    path: /files\n    command: [\"true\"]\n" +
		"    rules: [{tools: [read_file], scopes: [files:read]}]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	front := exec.CommandContext(t.Context(), "cardea", "gateway", "--config", file)
	if err := front.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = front.Process.Kill(); _ = front.Wait() })
	await(t, "the gateway answers", func() bool {
		resp, err := http.Get("http://" + addresses[0] + "/healthz") //nolint:noctx
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
	metrics := got(t, "http://"+addresses[1]+"/metrics", "text/plain")
	for _, want := range []string{`cardea_gateway_server_up{server="files"} 1`, `cardea_build_info{database="none"`,
		`cardea_gateway_programs{server="files"} 0`, "process_resident_memory_bytes"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	if resp := answer(t, "http://"+addresses[0]+"/metrics"); resp.StatusCode == http.StatusOK {
		t.Error("the public address answers /metrics")
	}
}
