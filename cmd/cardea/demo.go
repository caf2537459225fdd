package main

import (
	"context"
	"os"
	"strings"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/demo"
)

// demoCommand is `cardea demo`: an authorization server, an MCP server behind it
// and a person who may sign in, with nothing to prepare.
type demoCommand struct {
	Listen    string `placeholder:"ADDRESS" help:"Address of the authorization server, 127.0.0.1:8080 if not given; port 0 takes a free one."`
	MCPListen string `name:"mcp-listen" placeholder:"ADDRESS" help:"Address of the MCP server, 127.0.0.1:8081 if not given."`
	Script    bool   `help:"Play a whole agent session without a person, show what is sent and what comes back, and end. Takes free ports."`
}

// Help is what `cardea demo --help` adds.
func (*demoCommand) Help() string {
	return "The data are thrown away at the end, unless --data-dir names a folder for them."
}

func (c *demoCommand) Run(ctx context.Context, sh *shell) error {
	folder := ""
	for _, variable := range sh.environ {
		if named, ok := strings.CutPrefix(variable, "CARDEA_DATA_DIR="); ok {
			folder = named
		}
	}
	if sh.DataDir != nil {
		folder = *sh.DataDir
	}
	return demo.Run(ctx, demo.Options{
		Listen: c.Listen, ToolsListen: c.MCPListen, Script: c.Script, DataDir: folder, Version: thisBuild().Version, Program: os.Args[0], Out: sh.out,
		Configure: func(flags map[string]string) (config.Config, error) {
			loaded, err := sh.load(flags)
			if err != nil {
				return config.Config{}, err
			}
			return loaded.Config, nil
		},
		MasterKey: sh.masterKey,
		Logger:    sh.newLogger,
	})
}
