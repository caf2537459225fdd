package client

import (
	"errors"
	"net/http"
	"reflect"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

// Directory finds clients by their client_id: registered clients, and clients whose client_id is the URL of a metadata
// document.
type Directory struct {
	DB        *store.DB
	Documents *Documents // nil: metadata documents are not accepted
	// ApprovalRequired says that a person can allow a client something only if an operator has approved it for
	// everybody, for a group of the person, or for the person once.
	ApprovalRequired bool
}

// Find returns the client with the given id. person is the ID of the signed-in person, or "". If a client is registered
// under a URL, Find returns that client and ignores the document. It returns store.ErrNotFound if there is no such
// client, and a refusal if its document is not accepted or cannot be fetched.
func (d *Directory) Find(r *http.Request, id, person string) (*oauth.Client, error) {
	return d.find(r, id, person, time.Time{})
}

// FindAgain is Find for a client whose metadata does not match its request. It fetches the metadata document again,
// unless that was done since asked or too often, because anybody can cause it. It returns c itself if c has no metadata
// document.
func (d *Directory) FindAgain(r *http.Request, c *oauth.Client, person string, asked time.Time) (*oauth.Client, error) {
	if c.Origin != oauth.ByDocument {
		return c, nil
	}
	return d.find(r, c.ID, person, asked)
}

// FindUsed is Find for stored clients only. It never fetches the document of an unknown client.
func (d *Directory) FindUsed(r *http.Request, id string) (*oauth.Client, error) {
	if _, err := d.DB.Client(r.Context(), id); err != nil {
		return nil, err
	}
	return d.find(r, id, "", time.Time{})
}

func (d *Directory) find(r *http.Request, id, person string, newerThan time.Time) (*oauth.Client, error) {
	known, err := d.DB.Client(r.Context(), id)
	unknown := errors.Is(err, store.ErrNotFound)
	switch {
	case err != nil && (!unknown || !IsDocumentURL(id)):
		return nil, err
	case known != nil && (known.Origin != oauth.ByDocument || known.Disabled()):
		return known, nil
	case d.Documents == nil:
		return nil, store.ErrNotFound
	}
	probe := known
	if unknown {
		probe = &oauth.Client{ID: id, Origin: oauth.ByDocument}
	}
	switch err := d.Unblocked(r.Context(), probe); {
	case errors.Is(err, ErrBlocked) && known != nil:
		return known, nil // Standing refuses it; nothing is fetched for it
	case err != nil:
		return nil, err
	}
	m, fetchedAt, err := d.Documents.find(r, id, person, known, newerThan)
	if err != nil {
		return nil, err
	}
	c := &oauth.Client{ID: id, Origin: oauth.ByDocument, CreatedAt: d.DB.Now()}
	if known != nil {
		copied := *known
		c = &copied
	}
	c.Metadata, c.FetchedAt = *m, fetchedAt
	if known != nil && isNews(c, known) {
		err = d.DB.Update(r.Context(), func(tx *store.Tx) error { return Save(tx, c) })
	}
	return c, err
}

// rememberEvery is how often the time of the last fetch is stored for a document that did not change.
const rememberEvery = 24 * time.Hour

// isNews reports whether a client whose document was just read must be stored again.
func isNews(c, stored *oauth.Client) bool {
	return c.FetchedAt.Sub(stored.FetchedAt) >= rememberEvery ||
		c.FetchedAt.After(stored.FetchedAt) && !reflect.DeepEqual(c.Metadata, stored.Metadata)
}

// Admits reports whether Find would still accept the client. It uses the configuration only and neither fetches nor
// reads the database.
func (d *Directory) Admits(c *oauth.Client) bool {
	return c.Origin != oauth.ByDocument || d.Documents != nil && d.Documents.check(c.ID) == nil
}

// Save stores a client with a metadata document, so that a grant can refer to it. It does nothing for a registered
// client, which is stored already.
func Save(tx *store.Tx, c *oauth.Client) error {
	if c.Origin != oauth.ByDocument {
		return nil
	}
	stored, err := tx.Client(c.ID)
	if errors.Is(err, store.ErrNotFound) {
		err = tx.CreateClient(c, "")
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
		stored, err = tx.Client(c.ID) // a concurrent transaction stored it first
	}
	if err != nil {
		return err
	}
	if stored.Origin != oauth.ByDocument || !isNews(c, stored) { // a document does not change an operator's client
		return nil
	}
	return tx.ReplaceMetadata(c, true) // keeps what an operator has changed meanwhile
}
