package main

import (
	"runtime/debug"
	"strings"
)

// version is set when a release is built: -ldflags "-X main.version=v1.2.3".
var version = "dev"

// build is what a program knows of how it was built.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision"` // of the source; "" if it is not known
	Modified bool   `json:"modified"` // the source differed from that revision
	Date     string `json:"date"`     // of the revision, RFC 3339; "" if it is not known
	Go       string `json:"go"`
}

// thisBuild returns what this program knows of its build. Without a version of its
// own it has the one by which the Go command names its source.
func thisBuild() build {
	b := build{Version: version}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if named := info.Main.Version; b.Version == "dev" && strings.HasPrefix(named, "v") {
		b.Version = named
	}
	b.Go = info.GoVersion
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.time":
			b.Date = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

type versionCommand struct{ output }

func (c *versionCommand) Run(sh *shell) error {
	b := thisBuild()
	return c.print(sh, b, func(t *table) {
		revision := orDash(b.Revision)
		if b.Modified {
			revision += " (modified)"
		}
		t.row("cardea " + b.Version)
		t.row("revision " + revision)
		t.row("date " + orDash(b.Date))
		t.row(b.Go)
	})
}
