package main

import (
	"context"
	"fmt"

	"github.com/cardea-auth/cardea/internal/admin"
)

type setupCommand struct{ output }

// Help is shown below the usage.
func (c *setupCommand) Help() string {
	return "Ends with 1 once the instance is set up; after that, owners are made with cardea user create --role owner."
}

func (c *setupCommand) Run(ctx context.Context, sh *shell) error {
	loaded, err := sh.load(nil)
	if err != nil {
		return err
	}
	if !loaded.Admin.Enabled {
		return advise("admin.enabled is false, so there is no setup page; make an owner with cardea user create " +
			"--role owner")
	}
	return sh.operate(ctx, func(o *admin.Operations, by admin.Caller) error {
		link, err := o.SetupLink(ctx, by)
		switch {
		case err != nil:
			return err
		case c.Output == "json":
			return printJSON(sh.out, link)
		}
		_, err = fmt.Fprintln(sh.out, link.Link) // in one piece, however narrow the terminal is
		return err
	})
}
