package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/gateway"
	"github.com/cardea-auth/cardea/internal/keys"
	"github.com/cardea-auth/cardea/internal/server"
	"github.com/cardea-auth/cardea/internal/store"
)

type configCommands struct {
	Check configCheck `cmd:"" help:"Check the configuration, and that the database answers, without starting anything."`
	Print configPrint `cmd:"" help:"Show every setting and where it comes from. Secrets are masked."`
}

type configCheck struct{ output }

// checked is what cardea config check found: nothing wrong, and notes on what the next start does.
type checked struct {
	OK    bool     `json:"ok"`
	Notes []string `json:"notes"`
}

// Help is what `cardea config check --help` adds.
func (*configCheck) Help() string {
	return "It connects to the database and the mail server, and asks DNS for tls.acme.domains. " +
		"It creates and migrates nothing, and sends no mail."
}

func (c *configCheck) Run(ctx context.Context, sh *shell) error {
	loaded, err := sh.load(nil)
	if err != nil {
		return err
	}
	if err := checkFiles(ctx, loaded.Config, sh.warn); err != nil {
		return err
	}
	notes, err := server.CheckDatabase(ctx, loaded.Config, func(db *store.DB) (keys.Master, error) {
		return sh.masterKeyOr(ctx, loaded.Config, db, keys.FindMaster)
	})
	if err != nil {
		return err
	}
	if loaded.Mail.On() {
		if err := loaded.Mail.Probe(ctx); err != nil {
			return err
		}
	}
	if unread := sh.unread(); unread != "" {
		notes = append(notes, unread)
	}
	notes = append(notes, server.CertificateNotes(ctx, loaded.Config)...)
	if c.Output == "json" {
		return printJSON(sh.out, checked{OK: true, Notes: append([]string{}, notes...)})
	}
	for _, note := range notes {
		fmt.Fprintln(sh.out, "note:", plain(note))
	}
	_, err = fmt.Fprintln(sh.out, "the configuration is in order")
	return err
}

// checkFiles reads the files that the configuration names, as serve would.
func checkFiles(ctx context.Context, c config.Config, warn func(string)) error {
	own := filepath.Join(c.DataDir, ownMaster)
	_, missing := os.Lstat(own)
	switch {
	case c.MasterKeyFile != "":
		if _, err := keys.ReadMaster(c.MasterKeyFile, warn); err != nil {
			return err
		}
	case c.MasterKey != "":
		if _, err := keys.ParseMaster(c.MasterKey); err != nil {
			return err
		}
	case missing == nil: // also if there is no database yet, because the first start uses it
		if _, err := keys.FindMaster(ctx, own, nil); err != nil {
			return err
		}
	}
	if err := server.CheckCertificate(c, warn); err != nil {
		return err
	}
	if c.Gateway.Config != "" {
		if _, err := gateway.Load(c.Gateway.Config); err != nil {
			return err
		}
	}
	_, err := server.NewDirectory(c, nil)
	return errors.Join(err, c.Audit.Check())
}

type configPrint struct{ output }

func (c *configPrint) Run(sh *shell) error {
	loaded, err := sh.load(nil)
	if err != nil {
		return err
	}
	settings := loaded.Settings()
	return c.print(sh, settings, func(t *table) {
		t.Head("KEY", "VALUE", "FROM")
		t.Fold(16, "VALUE", "FROM")
		for _, s := range settings {
			t.Row(s.Key, dash(s.Value), s.From)
		}
	})
}
