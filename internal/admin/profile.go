package admin

import (
	"context"

	"github.com/cardea-auth/cardea/internal/client"
	"github.com/cardea-auth/cardea/internal/store"
)

// Profile is an exception to the rules for the clients that it names, with how often it was used here.
type Profile struct {
	client.Profile
	Uses       int64  `json:"uses"`
	LastUsedAt Moment `json:"last_used_at"`
	Due        bool   `json:"due"` // it is time to check whether it is still needed
}

// Profiles returns all client profiles.
func (o *Operations) Profiles(ctx context.Context, by Caller) ([]Profile, error) {
	views := make([]Profile, len(client.Profiles))
	err := o.look(ctx, by, Clients, func(tx *store.Tx) error {
		used, err := tx.ProfileUses()
		for i, p := range client.Profiles {
			views[i] = Profile{Profile: p, Due: !tx.Now().Before(p.LookAgain)}
			for _, use := range used {
				if use.Name == p.Name {
					views[i].Uses, views[i].LastUsedAt = use.Uses, Moment{use.LastUsedAt}
				}
			}
		}
		return err
	})
	return views, err
}
