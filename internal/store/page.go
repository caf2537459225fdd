package store

import (
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// Page selects a part of a list. The zero Page is the first hundred entries, oldest first.
type Page struct {
	After  string // the cursor that came with the previous page; "": from the start
	Limit  int    // the largest number of entries: 0 means 100, more than 1000 means 1000
	Newest bool   // newest first
	// Begins selects what has a name, an address or an id that begins with it, in upper or lower case, and orders the
	// list by these. It is at most MaxBegins bytes long. "" selects all. The lists of clients, people, groups and
	// resources know it.
	Begins string
}

const (
	defaultLimit = 100
	maxLimit     = 1000
)

func (p Page) limit() int {
	if p.Limit <= 0 {
		return defaultLimit
	}
	return min(p.Limit, maxLimit)
}

// listing is a list that is read in pages.
type listing[T any] struct {
	query  string                              // a SELECT without its WHERE
	parts  []string                            // as those of where.first
	at, id string                              // the columns by which it is ordered
	scan   func(func(...any) error) (T, error) // reads an entry
	key    func(T) (time.Time, string)         // returns what an entry has in at and id
	skip   int                                 // how many entries of each page are left out, if there are no parts
}

// page returns a page of the entries that w selects. cursor is "" if there is no next page.
func (l listing[T]) page(tx *Tx, w *where, p Page) (page []T, cursor string, err error) {
	than, direction := ">", "ASC"
	if p.Newest {
		than, direction = "<", "DESC"
	}
	if p.After != "" {
		afterAt, afterID, err := readCursor(p.After)
		if err != nil {
			return nil, "", err
		}
		// SQLite finds an expression in an index only if it stands alone.
		w.add(l.at+" "+than+"= ? AND ("+l.at+", "+l.id+") "+than+" (?, ?)", afterAt, afterAt, afterID)
	}
	limit := p.limit()
	text := w.first(l.query, l.parts, l.at+" "+direction+", "+l.id+" "+direction, limit+1)
	if l.skip > 0 {
		text += " OFFSET " + strconv.Itoa(l.skip)
	}
	page, err = all(tx, text, w.args, l.scan)
	if err != nil || len(page) <= limit {
		return page, "", err
	}
	page = page[:limit]
	lastAt, lastID := l.key(page[limit-1])
	return page, cursorAfter(lastAt.UnixMicro(), lastID), nil
}

// cursorAfter returns the cursor of the page that begins after the row with the given time and id.
func cursorAfter(at int64, id string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(at, 10) + "," + id))
}

// readCursor reads a cursor that cursorAfter wrote. It refuses any other, because cursors come from outside.
func readCursor(cursor string) (at int64, id string, err error) {
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	first, id, found := strings.Cut(string(text), ",")
	at, notNumber := strconv.ParseInt(first, 10, 64)
	if err != nil || !found || notNumber != nil {
		return 0, "", oauth.Refuse(oauth.InvalidRequest,
			"cursor is not valid: use the one that came with the previous page")
	}
	return at, id, nil
}
