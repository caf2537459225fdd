package identity

import "time"

// Passkey is a key pair with which a person signs in (WebAuthn). Only their device, or their password manager, has the
// private key.
type Passkey struct {
	ID           string // "psk_…"
	UserID       string
	CredentialID []byte // the authenticator's name for it, which no other passkey has
	PublicKey    []byte // COSE_Key (RFC 9052 §7)
	// SignCount is the highest counter that the authenticator has sent; 0: it does not count.
	SignCount uint32
	// BackupEligible is whether the authenticator may copy it to other devices, and BackedUp whether it has done so.
	// Both are what the authenticator said last.
	BackupEligible, BackedUp bool
	Transports               []string // how browsers reach the authenticator: "internal", "usb", …
	AAGUID                   string   // the model of the authenticator, as a UUID
	Name                     string   // for the person
	CreatedAt                time.Time
	UsedAt                   time.Time // the last sign-in; zero: never
}
