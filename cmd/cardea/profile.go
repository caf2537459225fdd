package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/adminapi"
)

type profileList struct{ output }

func (c *profileList) Run(ctx context.Context, sh *shell) error {
	return list(ctx, sh, sh.operate, c.output, "there is no profile", drawProfiles, adminapi.ListProfiles, plainListing)
}

func drawProfiles(views []admin.Profile, t *table) {
	t.Head("PROFILE", "USES", "LAST USED", "LOOK AGAIN", "FOR", "REASON")
	t.Fold(16, "FOR", "REASON")
	for _, v := range views {
		again := v.LookAgain.Format(time.DateOnly)
		if v.Due {
			again += " (due)"
		}
		t.Row(v.Name, strconv.FormatInt(v.Uses, 10), v.LastUsedAt.String(), again,
			strings.Join(append(v.ClientIDs, v.RedirectHosts...), " "), v.Reason)
	}
}
