package main

import (
	"runtime/debug"
	"strings"
)

// version is set when a release is built: -ldflags "-X main.version=v1.2.3".
var version = "dev"

// build describes how the program was built.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision"` // of the source; "" if it is not known
	Modified bool   `json:"modified"` // the source differed from that revision
	Date     string `json:"date"`     // of the revision, RFC 3339; "" if it is not known
	Go       string `json:"go"`
}

// thisBuild describes the build of this program. If no version was set, it has the version of the module, if that is
// known.
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
		revision := dash(b.Revision)
		if b.Modified {
			revision += " (modified)"
		}
		t.Row("cardea " + b.Version)
		t.Row("revision " + revision)
		t.Row("date " + dash(b.Date))
		t.Row(b.Go)
	})
}
