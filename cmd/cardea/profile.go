package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/client"
	"github.com/cardea-auth/cardea/internal/store"
)

// profileView is a client profile as commands print it, with its use here.
type profileView struct {
	client.Profile
	Uses       int64  `json:"uses"`
	LastUsedAt moment `json:"last_used_at"`
	Due        bool   `json:"due"` // the day to look whether it is still needed has come
}

type profileList struct{ output }

func (c *profileList) Run(ctx context.Context, sh *shell) error {
	views := make([]profileView, len(client.Profiles))
	for i, p := range client.Profiles {
		views[i] = profileView{Profile: p, Due: !time.Now().Before(p.LookAgain)}
	}
	err := sh.view(ctx, func(tx *store.Tx) error {
		used, err := tx.ProfileUses()
		for _, use := range used {
			for i := range views {
				if views[i].Name == use.Name {
					views[i].Uses, views[i].LastUsedAt = use.Uses, moment{use.LastUsedAt}
				}
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	return c.print(sh, views, func(t *table) {
		t.row("PROFILE", "USES", "LAST USED", "LOOK AGAIN", "FOR", "REASON")
		for _, v := range views {
			again := v.LookAgain.Format(time.DateOnly)
			if v.Due {
				again += " (due)"
			}
			t.row(v.Name, strconv.FormatInt(v.Uses, 10), v.LastUsedAt.String(), again, strings.Join(append(v.ClientIDs, v.RedirectHosts...), " "), v.Reason)
		}
	})
}
