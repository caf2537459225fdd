package server

import (
	"github.com/cardea-auth/cardea/internal/client"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/fetch"
	"github.com/cardea-auth/cardea/internal/store"
)

// NewDirectory returns the directory of the clients that c permits, for programs that read the database without
// serving. What it fetches is not limited. If db is nil, NewDirectory only checks c. An error names the invalid pinned
// document.
func NewDirectory(c config.Config, db *store.DB) (*client.Directory, error) {
	directory := &client.Directory{DB: db}
	if c.Registration.CIMD == "off" {
		return directory, nil
	}
	fetcher := fetch.New(fetch.Options{AllowLoopback: c.Registration.AllowLoopback, Now: db.Now})
	var err error
	directory.Documents, err = client.NewDocuments(db, c.Issuer, policy(c, nil), c.Registration.PinnedDir, fetcher, nil)
	return directory, err
}
