package main

import (
	"context"
	"log/slog"
	"net"
	"os"
	"strings"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/demo"
	"github.com/cardea-auth/cardea/internal/gateway"
	"github.com/cardea-auth/cardea/internal/observe"
)

// demoCommand runs an authorization server, an MCP server that it protects, and an account to sign in with, without any
// preparation.
type demoCommand struct {
	Listen    string `placeholder:"ADDRESS" help:"Address of the authorization server, 127.0.0.1:8080 by default; port 0 takes a free one."`
	MCPListen string `name:"mcp-listen" placeholder:"ADDRESS" help:"Address of the MCP server, 127.0.0.1:8081 by default."`
	Gateway   bool   `help:"Let cardea gateway protect the MCP server, which then knows nothing of authorization."`
	Script    bool   `help:"Play a whole agent session without a person, show all requests and responses, and end. It takes free ports."`
}

// Help returns what the help shows below the usage.
func (*demoCommand) Help() string {
	return "The data is deleted at the end, unless --data-dir names a folder for it."
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
	var front func(string, net.Listener, *slog.Logger) (func(context.Context) error, error)
	if c.Gateway {
		front = func(file string, l net.Listener, log *slog.Logger) (func(context.Context) error, error) {
			behind, err := gateway.Load(file)
			if err != nil {
				return nil, err
			}
			return newGateway(file, behind, l, log, &observe.Telemetry{}, nil)
		}
	}
	return demo.Run(ctx, demo.Options{
		Gateway: front,
		Listen:  c.Listen, ToolsListen: c.MCPListen, Script: c.Script, DataDir: folder, Version: thisBuild().Version,
		Program: os.Args[0], Out: sh.out, Configure: func(flags map[string]string) (config.Config, error) {
			loaded, err := sh.load(flags)
			if err != nil {
				return config.Config{}, err
			}
			return loaded.Config, nil
		},
		NewServer: sh.newServer,
		Logger:    func(c config.Log) *slog.Logger { return c.Logger(sh.errs) },
	})
}
