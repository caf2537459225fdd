package admin

import (
	"strings"

	"github.com/cardea-auth/cardea/internal/store"
)

// searched is the number of entries of a list that one page of a search looks at, at most.
const searched = 2000

// search returns a page of what matches in a list, and the cursor of the next page, "" if there is none. It looks at
// searched entries, so a page may have fewer than page.Limit, even none, although a next one follows; and as it looks at
// page.Limit at once, it may have up to twice as many.
func search[T any](page store.Page, list func(store.Page) ([]T, string, error), matches func(T) bool) (found []T, next string, err error) {
	for looked := 0; ; {
		items, cursor, err := list(page)
		if err != nil {
			return nil, "", err
		}
		for _, item := range items {
			if matches(item) {
				found = append(found, item)
			}
		}
		looked += len(items)
		if cursor == "" || looked >= searched || len(found) > 0 && len(found) >= page.Limit {
			return found, cursor, nil
		}
		page.After = cursor
	}
}

// anyBegins reports whether one of texts begins with start, in whatever case.
func anyBegins(start string, texts ...string) bool {
	for _, text := range texts {
		if strings.HasPrefix(strings.ToLower(text), strings.ToLower(start)) {
			return true
		}
	}
	return false
}
