package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"go.yaml.in/yaml/v3"

	"github.com/cardea-auth/cardea/internal/adminapi"
	"github.com/cardea-auth/cardea/internal/declare"
)

type exportCommand struct {
	Output string `short:"o" enum:"yaml,json" default:"yaml" placeholder:"FORMAT" help:"yaml, or json, which apply reads as well."`
}

func (c *exportCommand) Run(ctx context.Context, sh *shell) error {
	return sh.reach(ctx, sh.operate, func(t adminapi.Target) error {
		out, err := adminapi.Export.Call(ctx, t, struct{}{})
		if err != nil {
			return err
		}
		sh.notes(out.Notes)
		if c.Output == "json" {
			var file any
			if err := yaml.Unmarshal([]byte(out.File), &file); err != nil {
				return err
			}
			return printJSON(sh.out, file)
		}
		_, err = io.WriteString(sh.out, out.File)
		return err
	})
}

// notes writes notes to standard error.
func (sh *shell) notes(notes []string) {
	for _, note := range notes {
		fmt.Fprintln(sh.errs, "cardea: note:", plain(note))
	}
}

type applyCommand struct {
	File    string `short:"f" required:"" placeholder:"FILE" help:"The file, as cardea export writes it; - is standard input."`
	DryRun  bool   `help:"Only print what would be changed, and exit with 2 if anything would."`
	Prune   bool   `help:"Delete groups, MCP servers and clients that the file does not have. Clients that registered and API credentials stay."`
	Secrets string `placeholder:"FILE" help:"Write the secrets of new clients to this new file. Otherwise nobody sees them, and cardea client rotate-secret makes others."`
	output
}

// errDifference says that a dry run found something to change, which the command has printed.
var errDifference = errors.New("the installation is different")

func (c *applyCommand) Run(ctx context.Context, sh *shell) (err error) {
	name, in := c.File, sh.in
	if name == "-" {
		name = "standard input"
	} else {
		file, err := os.Open(name) // #nosec G304 -- the operator names it
		if err != nil {
			return advise("%v; name a file that cardea export wrote, with -f", err)
		}
		defer func() { _ = file.Close() }()
		in = file
	}
	text, err := io.ReadAll(io.LimitReader(in, declare.MaxBytes+1))
	if err != nil {
		return advise("%s cannot be read: %v; name a file that cardea export wrote, with -f", name, err)
	}
	f, err := declare.Read(text)
	if err != nil {
		return sh.faulty(name, err)
	}
	secrets, err := c.openSecrets()
	if err != nil {
		return err
	}
	open := sh.operate
	if !c.DryRun && f.NeedsKeys() {
		open = sh.operateResources
	}
	var out declare.Outcome
	err = sh.reach(ctx, open, func(t adminapi.Target) error {
		in := adminapi.Declaration{File: string(text), Prune: c.Prune}
		if c.DryRun {
			out, err = adminapi.Plan.Call(ctx, t, adminapi.Creation[adminapi.Declaration]{Body: in})
			return err
		}
		out, err = adminapi.Apply.Call(ctx, t, adminapi.Creation[adminapi.Application]{
			Body: adminapi.Application{Declaration: in, Secrets: secrets != nil}})
		return err
	})
	if err = errors.Join(err, secrets.keep(out.Secrets)); err != nil {
		return sh.faulty(name, err)
	}
	out.Secrets = nil // they are in the file for them, and nowhere else
	if c.Output != "json" {
		sh.notes(out.Notes)
	}
	if err := c.print(sh, out, func(t *table) { drawOutcome(out, t) }); err != nil {
		return err
	}
	if c.DryRun && len(out.Changes) > 0 {
		return errDifference
	}
	return nil
}

// faulty prints the faults of a file, a line for each, and returns what ends the command.
func (sh *shell) faulty(name string, err error) error {
	var faults declare.Faults
	if !errors.As(err, &faults) {
		return err
	}
	for _, fault := range faults {
		fmt.Fprintln(sh.errs, plain(fmt.Sprintf("%s:%d: %s", name, fault.Line, fault.Text)))
	}
	return advise("%s has faults, and nothing was changed; correct them, and apply it again", name)
}

// secretsFile is where the secrets of new clients go; nil is nowhere.
type secretsFile struct{ file *os.File }

// openSecrets creates the file before anything is changed, so that no secret is lost for want of it.
func (c *applyCommand) openSecrets() (*secretsFile, error) {
	if c.Secrets == "" || c.DryRun {
		return nil, nil
	}
	file, err := os.OpenFile(c.Secrets, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, advise("the file for secrets cannot be created: %v; name a new one with --secrets", err)
	}
	return &secretsFile{file}, nil
}

// keep writes the secrets, or removes the file if there are none.
func (s *secretsFile) keep(secrets []declare.Secret) error {
	switch {
	case s == nil:
		return nil
	case len(secrets) == 0:
		return errors.Join(s.file.Close(), os.Remove(s.file.Name()))
	}
	return errors.Join(printJSON(s.file, secrets), s.file.Close())
}

func drawOutcome(out declare.Outcome, t *table) {
	for _, c := range out.Changes {
		line := string(c.Verb) + " " + c.Noun + " " + c.ID
		if c.Name != "" {
			line += " (" + c.Name + ")"
		}
		if c.Grants > 0 {
			line += ", and end " + count(c.Grants, "grant")
		}
		if c.Members > 0 {
			line += ", which has " + count(c.Members, "member")
		}
		t.Row(line)
		for _, d := range c.Differences {
			switch {
			case d.Before == "":
				t.Row("    + " + d.Path + ": " + d.After)
			case d.After == "":
				t.Row("    - " + d.Path + ": " + d.Before)
			default:
				t.Row("    ~ " + d.Path + ": " + d.Before + " → " + d.After)
			}
		}
	}
	switch n := count(len(out.Changes), "change"); {
	case len(out.Changes) == 0:
		t.Row("nothing to change")
	case out.Applied:
		t.Row(n + " applied")
	default:
		t.Row(n + " to apply")
	}
}
