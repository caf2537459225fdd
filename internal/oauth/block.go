package oauth

import "time"

// Block refuses a client that an operator has blocked, and clients that have its Marks, with which it might return
// under another client_id.
type Block struct {
	ID        string // "blk_…"
	ClientID  string // of the client that was blocked; it may be deleted since
	Name      string // as that client called itself
	Reason    string // for operators; may be ""
	Marks     Marks
	CreatedAt time.Time
}

// Marks are what a blocked client is recognised by if it returns under another client_id.
type Marks struct {
	// Sites are the domains of its document and its redirect URIs, such as "evil.example", each with all hosts below
	// it, or "localhost:8080" for a document on a loopback host.
	Sites []string `json:"sites"`
	// Fingerprint is a hash of its name, its redirect URIs and its software_id. It is "" if none of them is known.
	Fingerprint string `json:"fingerprint"`
}
