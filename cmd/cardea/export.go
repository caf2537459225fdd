package main

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/adminapi"
	"github.com/cardea-auth/cardea/internal/store"
)

type auditExport struct {
	auditFilter
	auditTime
	Prove  *string `placeholder:"ID" help:"Instead write a proof, as JSON, that this event is in the sealed log."`
	Format string  `enum:"ndjson,csv,ocsf" default:"ndjson" placeholder:"FORMAT" help:"ndjson, a JSON object in each line; csv; or ocsf, lines in the form of the Open Cybersecurity Schema Framework."`
}

// Help returns what the help shows below the usage.
func (c *auditExport) Help() string {
	return "The oldest event comes first. In CSV, a cell that a spreadsheet would run as a formula begins with an " +
		"apostrophe."
}

// Validate returns an error if flags contradict each other. An id that is empty is one that is not there.
func (c *auditExport) Validate() error {
	if err := c.auditFilter.Validate(); err != nil || c.Prove == nil {
		return err
	}
	if *c.Prove == "" || c.auditFilter != (auditFilter{}) || c.auditTime != (auditTime{}) || c.Format != "ndjson" {
		return errors.New("--prove takes the id of one event, and no other flag selects or changes it; cardea audit " +
			"list -o json shows the ids")
	}
	return nil
}

func (c *auditExport) Run(ctx context.Context, sh *shell) error {
	if c.Prove != nil {
		return c.prove(ctx, sh)
	}
	format := admin.Format(c.Format)
	return sh.reach(ctx, sh.operate, func(t adminapi.Target) error {
		filter, now := c.filter(), clock(t)()
		if err := c.limit(&filter, now); err != nil {
			return err
		}
		if t.Operations == nil {
			return exportFrom(ctx, t, filter, format, now, sh.out)
		}
		write, err := t.Operations.Export(ctx, t.By, filter, format, 0)
		if err != nil {
			return err
		}
		return write(sh.out)
	})
}

// exportFrom writes the events of another server that match filter, without those that come after now.
func exportFrom(ctx context.Context, t adminapi.Target, filter store.EventFilter, format admin.Format, now time.Time,
	out io.Writer) error {
	if filter.Until.IsZero() {
		filter.Until = now
	}
	write, end := format.Writer(out)
	if err := eachEvent(ctx, t, filter, func(page []admin.Event) error {
		for _, e := range page {
			if err := write(e); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	return end("")
}
