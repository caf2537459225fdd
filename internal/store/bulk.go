package store

import (
	"strconv"
	"strings"
	"sync"

	"github.com/cardea-auth/cardea/internal/store/engine"
)

// atOnce is how many rows one INSERT has at most: more are hardly faster.
const atOnce = 16

// bulk is an INSERT of one row or several. Its texts are made once, so that a database prepares each once.
type bulk struct {
	begin string // up to VALUES
	width int    // values of a row
	end   string // after the rows
	texts map[string]*[atOnce + 1]bulkText
}

type bulkText struct {
	once sync.Once
	text string
}

// newBulk returns the INSERT of rows into table. columns is their list, separated by commas, and end is the text after
// the rows.
func newBulk(table, columns, end string) *bulk {
	return &bulk{"INSERT INTO " + table + " (" + columns + ") VALUES ", strings.Count(columns, ",") + 1, end,
		map[string]*[atOnce + 1]bulkText{"sqlite": {}, "postgres": {}}}
}

// of returns the statement for n rows, at least 1 and at most atOnce. Its parameters have no numbers on SQLite, which
// looks numbers up one by one: that would take a third of the time.
func (b *bulk) of(dialect string, n int) string {
	t := &b.texts[dialect][n]
	t.once.Do(func() {
		var s strings.Builder
		s.WriteString(b.begin)
		for i := range n * b.width {
			switch {
			case i == 0:
				s.WriteString("(")
			case i%b.width == 0:
				s.WriteString("), (")
			default:
				s.WriteString(", ")
			}
			if dialect == "sqlite" {
				s.WriteString("?")
			} else {
				s.WriteString("$" + strconv.Itoa(i+1))
			}
		}
		s.WriteString(")" + b.end)
		t.text = s.String()
	})
	return t.text
}

// insert runs the statement for rows, whose values stand one after the other, and returns how many rows it inserted.
func (b *bulk) insert(on *engine.Tx, dialect string, rows args) (inserted int64, err error) {
	for len(rows) > 0 {
		n := min(len(rows)/b.width, atOnce)
		some, err := on.Exec(b.of(dialect, n), rows[:n*b.width])
		if err != nil {
			return 0, err
		}
		inserted, rows = inserted+some, rows[n*b.width:]
	}
	return inserted, nil
}
