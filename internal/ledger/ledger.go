// Package ledger seals the audit log, so that a change of it shows: events become the records of a Merkle log (RFC
// 6962) whose size and root are signed. A signed state of the log is a checkpoint. Sealer seals, Verify proves that
// nothing was changed, Prove proves that one event is in the log, and Courier sends sealed events to receivers.
// docs/decisions/0029-sealed-audit.md says what is not proved.
package ledger

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Key signs checkpoints and authenticates records. Make it with NewKey, or one that only verifies with ParseKey.
type Key struct {
	verifier note.Verifier
	text     string // of the public key
	private  ed25519.PrivateKey
	codes    []byte // nil if the codes of records cannot be checked
}

// NewKey returns the key that is derived from a seed of 32 bytes for signing and a secret for the codes of records.
func NewKey(seed, codes []byte) (Key, error) {
	private := ed25519.NewKeyFromSeed(seed)
	public, _ := private.Public().(ed25519.PublicKey)
	sum := sha256.Sum256(public)
	text, err := note.NewEd25519VerifierKey("cardea.audit/"+hex.EncodeToString(sum[:4]), public)
	if err != nil {
		return Key{}, fmt.Errorf("ledger: key: %w", err)
	}
	k, err := ParseKey(text)
	k.private, k.codes = private, codes
	return k, err
}

// DeriveKey returns the key of the log of an installation. derive returns the secret of 32 bytes for a purpose.
func DeriveKey(derive func(purpose string) []byte) (Key, error) {
	return NewKey(derive("audit"), derive("audit records"))
}

// ParseKey returns the public key with the given text, as String returns it.
func ParseKey(text string) (Key, error) {
	verifier, err := note.NewVerifier(strings.TrimSpace(text))
	if err != nil {
		return Key{}, errors.New("the key of the audit log is not valid; write it as cardea audit verify prints it")
	}
	return Key{verifier: verifier, text: strings.TrimSpace(text)}, nil
}

// String returns the public key, which is not secret.
func (k Key) String() string { return k.text }

// Name implements note.Signer.
func (k Key) Name() string { return k.verifier.Name() }

// KeyHash implements note.Signer.
func (k Key) KeyHash() uint32 { return k.verifier.KeyHash() }

// Sign implements note.Signer.
func (k Key) Sign(text []byte) ([]byte, error) {
	if k.private == nil {
		return nil, errors.New("ledger: this key can only verify")
	}
	return ed25519.Sign(k.private, text), nil
}

// coder returns a function that returns what authenticates the hash of a record at its number. Only one goroutine may
// call it.
func (k Key) coder() func(number int64, hash tlog.Hash) []byte {
	mac := hmac.New(sha256.New, k.codes)
	return func(number int64, hash tlog.Hash) []byte {
		mac.Reset()
		var message [8 + tlog.HashSize]byte
		binary.BigEndian.PutUint64(message[:], uint64(number)) //nolint:gosec // a number is not negative
		copy(message[8:], hash[:])
		mac.Write(message[:])
		return mac.Sum(nil)[:16]
	}
}

// Checkpoint is what a signed note says of the log.
type Checkpoint struct {
	Size     int64 // number of records
	Root     tlog.Hash
	At       time.Time
	Previous int64     // size of the checkpoint before; 0 if there is none
	Deleted  int64     // number of records whose contents retention may have deleted, the first ones
	Older    time.Time // until when there are events that are older than the log; zero if there are none
	Restored Restored  // the last one; zero if there was none
}

// Restored says that the log went back to an earlier state, because the database was restored from a backup. What was
// in the log after that state is lost.
type Restored struct {
	Events int64     `json:"events"` // size of the log to which it went back
	At     time.Time `json:"at"`     // when
}

const moment = "2006-01-02T15:04:05.000000Z"

// sign returns the note that says c.
func (k Key) sign(c Checkpoint) (string, error) {
	older := "none"
	if !c.Older.IsZero() {
		older = c.Older.UTC().Format(moment)
	}
	restored := "none"
	if c.Restored != (Restored{}) {
		restored = fmt.Sprintf("%d %s", c.Restored.Events, c.Restored.At.UTC().Format(moment))
	}
	text := fmt.Sprintf("%s\n%d\n%s\ntime %s\nprevious %d\ndeleted %d\nolder %s\nrestored %s\n", k.Name(), c.Size,
		c.Root, c.At.UTC().Format(moment), c.Previous, c.Deleted, older, restored)
	signed, err := note.Sign(&note.Note{Text: text}, k)
	if err != nil {
		return "", fmt.Errorf("ledger: sign: %w", err)
	}
	return string(signed), nil
}

var (
	errSignature = errors.New("it is not signed with the key of this log")
	errForm      = errors.New("it does not have the form of a checkpoint")
)

// Open returns what a signed note says. It returns an error if k did not sign it.
func (k Key) Open(text string) (Checkpoint, error) {
	n, err := note.Open([]byte(text), note.VerifierList(k.verifier))
	if err != nil {
		return Checkpoint{}, errSignature
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 9 || lines[0] != k.Name() || lines[8] != "" {
		return Checkpoint{}, errForm
	}
	var c Checkpoint
	var failed [8]error
	c.Size, failed[0] = strconv.ParseInt(lines[1], 10, 64)
	c.Root, failed[1] = tlog.ParseHash(lines[2])
	c.At, failed[2] = time.Parse("time "+moment, lines[3])
	c.Previous, failed[3] = strconv.ParseInt(strings.TrimPrefix(lines[4], "previous "), 10, 64)
	c.Deleted, failed[4] = strconv.ParseInt(strings.TrimPrefix(lines[5], "deleted "), 10, 64)
	if lines[6] != "older none" {
		c.Older, failed[5] = time.Parse("older "+moment, lines[6])
	}
	if lines[7] != "restored none" {
		size, at, _ := strings.Cut(strings.TrimPrefix(lines[7], "restored "), " ")
		c.Restored.Events, failed[6] = strconv.ParseInt(size, 10, 64)
		c.Restored.At, failed[7] = time.Parse(moment, at)
	}
	if errors.Join(failed[:]...) != nil {
		return Checkpoint{}, errForm
	}
	return c, nil
}
