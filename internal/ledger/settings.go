package ledger

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/cardea-auth/cardea/internal/store"
)

// Settings say how long the audit log is kept and where it is sent.
type Settings struct {
	Retain Retention // of the contents of events
	// CheckpointFile gets each signed state of the log; "" for none.
	CheckpointFile string
	// Webhooks and Syslog get the sealed events. Syslog is a URL that the function of this name takes, "" for none.
	Webhooks []Webhook
	Syslog   string
}

// Retention is how long something is kept; 0 means for ever.
type Retention time.Duration

// Check returns an error if CheckpointFile cannot be one.
func (s Settings) Check() error {
	if s.CheckpointFile == "" {
		return nil
	}
	return checkFile(s.CheckpointFile)
}

// Open returns what seals the audit log in db and what sends it. derive returns the secret of 32 bytes for a purpose.
func (s Settings) Open(db *store.DB, derive func(purpose string) []byte, log *slog.Logger) (*Sealer, *Courier, error) {
	key, err := DeriveKey(derive)
	if err != nil {
		return nil, nil, err
	}
	sealer := &Sealer{DB: db, Key: key, Log: log, File: s.CheckpointFile, Retain: time.Duration(s.Retain)}
	courier := &Courier{DB: db, Log: log}
	for _, hook := range s.Webhooks {
		receiver, err := hook.Receiver()
		if err != nil {
			return nil, nil, fmt.Errorf("audit.webhooks: %w", err)
		}
		courier.Receivers = append(courier.Receivers, receiver)
	}
	if s.Syslog != "" {
		receiver, err := Syslog(s.Syslog)
		if err != nil {
			return nil, nil, fmt.Errorf("audit.syslog: %w", err)
		}
		courier.Receivers = append(courier.Receivers, receiver)
	}
	return sealer, courier, nil
}
