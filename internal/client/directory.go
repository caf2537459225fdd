package client

import (
	"errors"
	"net/http"
	"reflect"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

// Directory finds clients by their client_id: those that are registered, and those
// whose client_id is the URL of a metadata document.
type Directory struct {
	DB        *store.DB
	Documents *Documents // nil: documents do not count
}

// Find returns the client with the given id. person is the id of who is signed in,
// "" for nobody. A client that is registered under a URL is that client, whatever
// its document says. It is store.ErrNotFound if there is none, and a refusal if its
// document does not count or cannot be had.
func (d *Directory) Find(r *http.Request, id, person string) (*oauth.Client, error) {
	return d.find(r, id, person, time.Time{})
}

// FindAgain is Find with the document fetched again, unless that was done since
// asked, for a client that does not say what it is said to say. A client without
// one is c as it was, and so is one that was fetched again too often: anybody can
// have it looked at.
func (d *Directory) FindAgain(r *http.Request, c *oauth.Client, person string, asked time.Time) (*oauth.Client, error) {
	if c.Origin != oauth.ByDocument {
		return c, nil
	}
	return d.find(r, c.ID, person, asked)
}

// FindUsed is Find for a client that people have used: a stranger who names a
// document that nobody has, has it not fetched.
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

// rememberEvery is how often it is written down that a document is as it was.
const rememberEvery = 24 * time.Hour

// isNews reports whether a client whose document was just read is to be stored
// again.
func isNews(c, stored *oauth.Client) bool {
	return c.FetchedAt.Sub(stored.FetchedAt) >= rememberEvery || c.FetchedAt.After(stored.FetchedAt) && !reflect.DeepEqual(c.Metadata, stored.Metadata)
}

// Admits reports whether a client that was found once would be found still, by what
// is in memory alone.
func (d *Directory) Admits(c *oauth.Client) bool {
	return c.Origin != oauth.ByDocument || d.Documents != nil && d.Documents.check(c.ID) == nil
}

// Save stores a client with a document as it is now, for a grant to hang from. A
// registered one is stored already.
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
		stored, err = tx.Client(c.ID) // somebody else was first
	}
	if err != nil {
		return err
	}
	if stored.Origin != oauth.ByDocument || !isNews(c, stored) { // an operator's client is not what a document says
		return nil
	}
	return tx.ReplaceMetadata(c, true) // what an operator changes meanwhile stands
}
