package main

import (
	"context"

	"github.com/cardea-auth/cardea/internal/admin"
)

type auditExport struct {
	auditFilter
	auditTime
	Format string `enum:"ndjson,csv" default:"ndjson" placeholder:"FORMAT" help:"ndjson, a JSON object in each line, or csv."`
}

// Help returns what the help shows below the usage.
func (c *auditExport) Help() string {
	return "The oldest event comes first. In CSV, a cell that a spreadsheet would run as a formula begins with an " +
		"apostrophe."
}

func (c *auditExport) Run(ctx context.Context, sh *shell) error {
	return sh.operate(ctx, func(o *admin.Operations, by admin.Caller) error {
		filter := c.filter()
		if err := c.limit(&filter, o.DB.Now()); err != nil {
			return err
		}
		write, err := o.Export(ctx, by, filter, admin.Format(c.Format), 0)
		if err != nil {
			return err
		}
		return write(sh.out)
	})
}
