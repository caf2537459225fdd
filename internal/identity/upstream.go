package identity

import "time"

// Identity is an account at an identity provider with which a user signs in here.
type Identity struct {
	ID       string // "idn_…"
	Provider string // its id in the configuration
	Issuer   string
	Subject  string // sub: the provider's name for the account, which it gives to nobody else
	UserID   string
	Email    string   // as the provider has it, verified or not; may be ""
	Groups   []string // names of the groups into which the last sign-in put the user
	// Credential is the sealed token with which the provider is asked about the person; "" if it is not asked.
	Credential  string
	CreatedAt   time.Time
	UsedAt      time.Time // the last sign-in
	ConfirmedAt time.Time // when the provider last said that it knows the person
}
