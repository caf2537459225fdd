package main

import (
	"maps"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cardea-auth/cardea/internal/credential"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"cardea": main, "browser": browse, "mcp-stdio": mcpStdio,
		"cardea-strong": func() { // its passwords cost what they cost users
			credential.WeakenForTests(false)
			main()
		}})
}

// TestScripts runs testdata/script/*.txtar: the binary, and the protocol, as their
// users meet them.
func TestScripts(t *testing.T) {
	verbs := map[string]func(*testscript.TestScript, bool, []string){}
	maps.Copy(verbs, protocol)
	maps.Copy(verbs, operating)
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/script",
		Cmds:  verbs,
		Setup: setUp,
	})
}

// setUp gives every script an environment that is its own.
func setUp(env *testscript.Env) error {
	if dir := os.Getenv("GOCOVERDIR"); dir != "" {
		env.Setenv("GOCOVERDIR", dir)
	}
	setStage(env)
	return setMachine(env)
}
