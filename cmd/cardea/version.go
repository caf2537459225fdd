package main

import "runtime/debug"

// version is set when a release is built: -ldflags "-X main.version=v1.2.3".
var version = "dev"

type versionCommand struct{ output }

func (c *versionCommand) Run(sh *shell) error {
	answer := struct {
		Version  string `json:"version"`
		Revision string `json:"revision"` // of the source; "" when it is not known
		Go       string `json:"go"`
	}{Version: version}
	if info, ok := debug.ReadBuildInfo(); ok {
		answer.Go = info.GoVersion
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				answer.Revision = s.Value
			}
		}
	}
	return c.print(sh, answer, func(t *table) {
		t.row("cardea " + answer.Version)
		t.row("revision " + orDash(answer.Revision))
		t.row(answer.Go)
	})
}
