package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/adminapi"
	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/ledger"
	"github.com/cardea-auth/cardea/internal/store"
)

type auditVerify struct {
	Checkpoint string `type:"path" placeholder:"FILE" help:"A checkpoint that was kept elsewhere: the log must contain all it had then."`
	Key        string `placeholder:"KEY" help:"The public key of the log, instead of the master key; a changed record is then found to a second."`
	Proof      string `type:"path" placeholder:"FILE" help:"Instead check a proof that cardea audit export --prove wrote. Needs --key, and no database."`
	output
}

// Help returns what the help shows below the usage.
func (c *auditVerify) Help() string {
	return "It computes the log again from the events and compares it with the signed checkpoints. It exits 1 and " +
		"names the first bad event if one was changed, removed, inserted or moved. A log that was cut off at its end " +
		"looks complete unless you give a checkpoint from elsewhere (audit.checkpoint_file has the newest)."
}

// Validate returns an error if flags contradict each other.
func (c *auditVerify) Validate() error {
	if c.Proof != "" && c.Key == "" {
		return errors.New("--proof needs --key, the public key of the log, from somebody whom you trust")
	}
	return nil
}

func (c *auditVerify) Run(ctx context.Context, sh *shell) error {
	if c.Proof != "" {
		return c.check(sh)
	}
	i, key, err := sh.openLog(ctx, c.Key)
	if err != nil {
		return err
	}
	return errors.Join(c.verify(ctx, sh, i, key), i.close())
}

func (c *auditVerify) verify(ctx context.Context, sh *shell, i *installation, key ledger.Key) error {
	outside := ""
	if c.Checkpoint != "" {
		text, err := readNamed("--checkpoint", c.Checkpoint, "a checkpoint that was kept elsewhere, such as a copy of "+
			"audit.checkpoint_file")
		if err != nil {
			return err
		}
		outside = string(text)
	}
	report, err := ledger.Verify(ctx, i.db, key, ledger.Verification{Outside: outside, Progress: progress(sh)})
	if err != nil {
		return err
	}
	if err := c.print(sh, report, func(t *table) { drawReport(report, t) }); err != nil {
		return err
	}
	if !report.OK {
		return errVerdict
	}
	return nil
}

func drawReport(r ledger.Report, t *table) {
	if r.OK {
		t.Row("the audit log is as it was sealed")
	} else {
		t.Row(fmt.Sprintf("the audit log was tampered with: event number %d: %s", *r.FirstBad, r.Reason))
		if r.Event != "" {
			t.Row("event: " + r.Event)
		}
	}
	t.Row(fmt.Sprintf("%s in the log, the contents of %d of them deleted; %d not sealed yet; %d older than the log",
		count(int(r.Events), "event"), r.Deleted, r.Waiting, r.Older))
	for _, back := range r.Restored {
		t.Row(fmt.Sprintf("restored %s: the log went back to its first %s", admin.Moment{Time: back.At},
			count(int(back.Events), "event")))
	}
	t.Row("key: " + r.Key)
}

// progress returns a function that tells how far a verification is, every few seconds.
func progress(sh *shell) func(done, of int64) {
	told := time.Now()
	return func(done, of int64) {
		if time.Since(told) < tellEvery {
			return
		}
		told = time.Now()
		fmt.Fprintf(sh.errs, "cardea: verified %d of %s\n", done, count(int(of), "event"))
	}
}

const tellEvery = 3 * time.Second

// check checks a proof.
func (c *auditVerify) check(sh *shell) error {
	key, err := ledger.ParseKey(c.Key)
	if err != nil {
		return fmt.Errorf("--key: %w", err)
	}
	text, err := readNamed("--proof", c.Proof, "a file that cardea audit export --prove wrote")
	if err != nil {
		return err
	}
	var proof ledger.Proof
	if json.Unmarshal(text, &proof) != nil || proof.Checkpoint == "" {
		return advise("--proof: %s is not what cardea audit export --prove writes; name such a file", plain(c.Proof))
	}
	if err := proof.Check(key); err != nil {
		return fmt.Errorf("the proof does not hold: %w", err)
	}
	return c.print(sh, proof, func(t *table) {
		t.Row(fmt.Sprintf("the proof holds: this is event number %d of the log", proof.Number))
		t.Row(proof.Record)
	})
}

// readNamed returns what is in the file that a flag names, as config.ReadFile does. want says what the file should be,
// for errors.
func readNamed(flag, file, want string) ([]byte, error) {
	text, err := config.ReadFile(file)
	if err != nil {
		return nil, advise("%s: %s; name %s", flag, plain(err.Error()), want)
	}
	return text, nil
}

// openLog opens the configured installation and returns the key of its audit log: the given public one, or that of the
// master key.
func (sh *shell) openLog(ctx context.Context, public string) (i *installation, key ledger.Key, err error) {
	if sh.server() != "" {
		return nil, key, usageError("the audit log is verified where its database is; leave out --server")
	}
	if i, err = sh.open(ctx); err != nil {
		return nil, key, err
	}
	if public != "" {
		if key, err = ledger.ParseKey(public); err != nil {
			err = fmt.Errorf("--key: %w", err)
		}
	} else if master, missing := sh.masterKey(ctx, i.config, i.db); missing != nil {
		err = missing
	} else {
		key, err = ledger.DeriveKey(master.Derive)
	}
	if err != nil {
		return nil, key, errors.Join(err, i.close())
	}
	return i, key, nil
}

// prove writes the proof that an event is in the log.
func (c *auditExport) prove(ctx context.Context, sh *shell) error {
	i, key, err := sh.openLog(ctx, "")
	if err != nil {
		return err
	}
	defer func() { _ = i.close() }() // it was only read
	event, err := adminapi.ShowEvent.Call(ctx, adminapi.Target{Operations: i.operations(), By: caller()},
		adminapi.ByID{ID: *c.Prove})
	if err != nil {
		return err
	}
	proof, err := ledger.Prove(ctx, i.db, key, event.At, event.ID)
	if err != nil {
		return err
	}
	return printJSON(sh.out, proof)
}

type auditReplay struct {
	Receiver string `arg:"" help:"The name of the webhook in audit.webhooks, or syslog."`
	From     int64  `required:"" placeholder:"NUMBER" help:"Number of the first event that is sent again; 0 is the first of all. They have their numbers in them."`
}

func (c *auditReplay) Run(ctx context.Context, sh *shell) error {
	if c.From < 0 {
		return usageError("--from must not be negative; 0 is the first event")
	}
	if sh.server() != "" {
		return usageError("events are sent again by the server on the configured database; leave out --server")
	}
	i, err := sh.open(ctx)
	if err != nil {
		return err
	}
	err = i.db.Update(audit.WithActor(ctx, caller().Actor), func(tx *store.Tx) error {
		if err := tx.Redeliver(c.Receiver, c.From); err != nil {
			return err
		}
		return tx.Record(audit.Replay(c.Receiver, c.From).Allow())
	})
	if errors.Is(err, store.ErrNotFound) {
		err = advise("nothing was ever sent to %s; write its name as in audit.webhooks, and start the server once",
			plain(c.Receiver))
	}
	if err == nil {
		fmt.Fprintf(sh.out, "the running server, or the next that starts, sends the events from number %d on to %s\n",
			c.From, plain(c.Receiver))
	}
	return errors.Join(err, i.close())
}
