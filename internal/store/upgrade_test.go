package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// newestReleased is the newest migration of the newest release, "" before the first one. Raise it with each release.
const newestReleased = ""

// A program of the previous release may run while these are executed, and after that. Each has the reason why it may
// not.
var breaking = []struct {
	statement *regexp.Regexp
	why       string
}{
	{regexp.MustCompile(`(?is)^\s*DROP TABLE`), "the previous release uses the table"},
	{regexp.MustCompile(`(?is)^\s*ALTER TABLE\b.*\sDROP\s`), "the previous release uses the column"},
	{regexp.MustCompile(`(?is)^\s*ALTER\b.*\sRENAME\s`), "the previous release uses the old name"},
	{regexp.MustCompile(`(?is)^\s*ALTER TABLE\b.*\sADD COLUMN\b.*\sNOT\s+NULL\b`),
		"the previous release does not set the column: give it a DEFAULT"},
	{regexp.MustCompile(`(?is)^\s*ALTER TABLE\b.*\sADD (?:CONSTRAINT|CHECK|UNIQUE|FOREIGN|PRIMARY)`),
		"what the previous release writes may violate it"},
	{regexp.MustCompile(`(?is)^\s*ALTER TABLE\b.*\sALTER\s`), "the previous release knows the column as it was"},
	{regexp.MustCompile(`(?is)^\s*CREATE UNIQUE INDEX`), "what the previous release writes may violate it"},
	{regexp.MustCompile(`(?is)^\s*(?:CREATE TRIGGER|CREATE VIEW)`), "the two databases have no common form of it"},
}

var (
	hasDefault  = regexp.MustCompile(`(?i)\bDEFAULT\b`)
	newTable    = regexp.MustCompile(`(?i)^CREATE TABLE (\w+)`)
	onTable     = regexp.MustCompile(`(?i)\bON (\w+) \(`)
	uniqueIndex = regexp.MustCompile(`(?i)^CREATE UNIQUE INDEX (\w+)`)
	dropIndex   = regexp.MustCompile(`(?i)^DROP INDEX (\w+)`)
)

// exceptions are statements that break the rule and are allowed because no release of theirs ran beside the one before.
// A change that needs one is done in two releases: the first no longer uses what the second removes.
var exceptions = map[string]string{
	"ALTER TABLE events ALTER COLUMN rowid SET DEFAULT nextval('event_rows')": "the statement before it adds the column",
}

// violations returns what of migrations a program of the release before them cannot live beside.
func violations(migrations map[string][]string, released string) (found []string) {
	unique := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(migrations)) {
		created := map[string]bool{}
		for _, statement := range migrations[name] {
			if m := newTable.FindStringSubmatch(statement); m != nil {
				created[m[1]] = true
			}
			if m := uniqueIndex.FindStringSubmatch(statement); m != nil {
				unique[m[1]] = true
			}
			if name <= released {
				continue
			}
			why := ""
			for _, b := range breaking {
				if b.statement.MatchString(statement) && why == "" {
					why = b.why
				}
			}
			if m := dropIndex.FindStringSubmatch(statement); m != nil && unique[m[1]] {
				why = "the previous release relies on it for ON CONFLICT"
			}
			if strings.HasPrefix(strings.ToUpper(statement), "ALTER TABLE") && hasDefault.MatchString(statement) &&
				strings.HasSuffix(why, "DEFAULT") {
				why = ""
			}
			if m := onTable.FindStringSubmatch(statement); m != nil && created[m[1]] {
				why = "" // the previous release does not know the table
			}
			if why != "" && exceptions[statement] == "" {
				found = append(found, fmt.Sprintf("%s: %s: %s", name, strings.Join(strings.Fields(statement), " "),
					why))
			}
		}
	}
	return found
}

// A release is installed on one node after the other, so that the previous release works on the new schema for a while.
func TestPreviousReleaseLivesBesideMigrations(t *testing.T) {
	for _, dsn := range []string{"sqlite:cardea.db", "postgres://"} {
		all := map[string][]string{}
		for _, name := range store.MigrationNames() {
			statements, err := store.Statements(dsn, name)
			if err != nil {
				t.Fatal(err)
			}
			all[name] = statements
		}
		for _, fault := range append(violations(all, newestReleased), unsaid(all, numberOf(newestReleased))...) {
			t.Errorf("%s: %s", dsn, fault)
		}
		if newestReleased != "" && all[newestReleased] == nil {
			t.Errorf("the released migration %s is not there any more", newestReleased)
		}
	}
}

// The rules themselves, each seen to fail.
func TestViolations(t *testing.T) {
	for statement, want := range map[string]bool{
		"DROP TABLE users":                                        true,
		"ALTER TABLE users DROP COLUMN name":                      true,
		"ALTER TABLE users RENAME COLUMN name TO called":          true,
		"ALTER TABLE users RENAME TO people":                      true,
		"ALTER TABLE users ADD COLUMN age BIGINT NOT NULL":        true,
		"ALTER TABLE users\n\tADD COLUMN age BIGINT\n\tNOT NULL":  true,
		"ALTER TABLE users ADD CONSTRAINT grown CHECK (age > 17)": true,
		"ALTER TABLE users ALTER COLUMN age SET NOT NULL":         true,
		"ALTER TABLE users ALTER COLUMN age TYPE TEXT":            true,
		"CREATE UNIQUE INDEX users_age ON users (age)":            true,
		"DROP INDEX users_email":                                  true,
		"CREATE TRIGGER t AFTER INSERT ON users BEGIN SELECT 1":   true,

		"ALTER TABLE users ADD COLUMN age BIGINT NOT NULL DEFAULT 0": false,
		"ALTER TABLE users ADD COLUMN age BIGINT":                    false,
		"CREATE INDEX users_age ON users (age)":                      false,
		"DROP INDEX users_age":                                       false,
		"CREATE UNIQUE INDEX pets_name ON pets (name)":               false,
		"UPDATE users SET age = 1":                                   false,
	} {
		found := violations(map[string][]string{
			"0001_core": {"CREATE TABLE users (name TEXT)", "CREATE UNIQUE INDEX users_email ON users (email)"},
			"0002_more": {"CREATE TABLE pets (name TEXT NOT NULL)", statement},
		}, "0001_core")
		if (len(found) > 0) != want {
			t.Errorf("%s: %q", statement, found)
		}
		if found := violations(map[string][]string{"0001_core": {statement}}, "0001_core"); len(found) > 0 {
			t.Errorf("released: %q", found)
		}
	}
	for statement, want := range map[string]bool{
		"CREATE TABLE pets (name TEXT)":                                       true,
		"INSERT INTO schema_compatible (version, down_to) VALUES (70, 60)":    true,
		"INSERT INTO schema_compatible (version, down_to) VALUES (71, 34)":    true,
		"INSERT INTO schema_compatible (version, down_to) VALUES (71, 61)":    true,
		"INSERT INTO schema_compatible (version, down_to)\nVALUES (71, 60)":   false,
		"INSERT INTO schema_compatible (version, down_to) VALUES (71,\t\t60)": false,
	} {
		found := unsaid(map[string][]string{"0034_token": nil, "0060_grants": nil, "0071_pets": {statement}}, 60)
		if (len(found) > 0) != want {
			t.Errorf("%s: %q", statement, found)
		}
	}
}

// A program that is older than the schema works with it if each migration that it does not know says so. A migration
// with a number between those that were applied is applied too.
func TestOtherSchema(t *testing.T) {
	for _, engine := range storetest.Engines() {
		t.Run(string(engine), func(t *testing.T) {
			const late = "0050_acme"
			dsn := storetest.Bare(t, engine)
			db := storetest.Connect(t, dsn, storetest.NewClock())
			without := func(name string) bool { return name != late }
			if applied, err := db.MigrateOnly(t.Context(), without); err != nil || slices.Contains(applied, late) {
				t.Fatalf("%v, %v", applied, err)
			}
			for range 2 {
				pending, err := db.Pending(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				same(t, []string{late}, pending)
			}
			applied, err := db.Migrate(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			same(t, []string{late}, applied)
			update(t, db, set("x", nil))

			raw := rawly(t, dsn)
			newest := numberOf(slices.Max(store.MigrationNames()))
			for _, c := range []struct {
				number, downTo int
				fits           bool
			}{{9001, newest, true}, {9002, 1, true}, {45, newest, true}, {9003, newest + 1, false}} {
				if _, err := raw.ExecContext(t.Context(), fmt.Sprintf("INSERT INTO schema_versions (version_id, "+
					"is_applied) VALUES (%d, true)", c.number)); err != nil {
					t.Fatal(err)
				}
				refused := fmt.Sprintf("has migration %d of a newer cardea", c.number)
				if _, err := db.Migrate(t.Context()); err == nil || !strings.Contains(err.Error(), refused) {
					t.Errorf("migration %d says nothing: %v", c.number, err)
				}
				if _, err := raw.ExecContext(t.Context(), fmt.Sprintf("INSERT INTO schema_compatible (version, "+
					"down_to) VALUES (%d, %d)", c.number, c.downTo)); err != nil {
					t.Fatal(err)
				}
				applied, err := db.Migrate(t.Context())
				if c.fits != (err == nil) || !c.fits && !strings.Contains(err.Error(), refused) || len(applied) > 0 {
					t.Errorf("%+v: %v, %v", c, applied, err)
				}
			}
			// The program before this one, which has a migration less, is refused by what works down to this one.
			if _, err := raw.ExecContext(t.Context(),
				"DELETE FROM schema_versions WHERE version_id = 9003"); err != nil {
				t.Fatal(err)
			}
			_, err = db.MigrateOnly(t.Context(), func(name string) bool { return numberOf(name) < newest })
			if err == nil || !strings.Contains(err.Error(), "of a newer cardea") {
				t.Errorf("an older program: %v", err)
			}
		})
	}
}

// rawly opens the database beside the store.
func rawly(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	driver, source := "pgx", dsn
	if path, isFile := strings.CutPrefix(dsn, "sqlite:"); isFile {
		driver, source = "sqlite", path
	}
	raw, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	return raw
}

// says is how a migration says with which programs it works.
var says = regexp.MustCompile(`^INSERT INTO schema_compatible \(version, down_to\) VALUES \((\d+), (\d+)\)$`)

// unsaid returns what is wrong with what each of migrations, by their names, says of the programs that work with it.
// The rules above hold it to the newest release, with that number.
func unsaid(migrations map[string][]string, released int) (found []string) {
	numbers := map[int]bool{}
	for name := range migrations {
		numbers[numberOf(name)] = true
	}
	for _, name := range slices.Sorted(maps.Keys(migrations)) {
		number := numberOf(name)
		var said [][]string
		for _, statement := range migrations[name] {
			if m := says.FindStringSubmatch(strings.Join(strings.Fields(statement), " ")); m != nil {
				said = append(said, m)
			}
		}
		switch {
		case number <= 34, number == 50, number == 60: // they were there before the table
		case len(said) != 1 || said[0][1] != strconv.Itoa(number):
			found = append(found, fmt.Sprintf("%s does not say with which programs it works; write: INSERT INTO "+
				"schema_compatible (version, down_to) VALUES (%d, …), with the number of the newest migration of the "+
				"previous release", name, number))
		default:
			downTo, _ := strconv.Atoi(said[0][2])
			if !numbers[downTo] || downTo < released {
				found = append(found, fmt.Sprintf("%s works down to %d, which is not a migration of the newest "+
					"release or of a later program", name, downTo))
			}
		}
	}
	return found
}

func numberOf(migration string) int {
	digits, _, _ := strings.Cut(migration, "_")
	number, _ := strconv.Atoi(digits)
	return number
}

// TestUpgrade upgrades a database from each schema to the next one while two programs of the earlier schema go on
// writing, before, meanwhile and afterwards. None of their writes fails, and none is lost. At the end the database has
// what each of them wrote, and the program of today reads it.
func TestUpgrade(t *testing.T) {
	names := store.MigrationNames()
	for _, engine := range []storetest.Engine{storetest.SQLite, storetest.Postgres} {
		t.Run(string(engine), func(t *testing.T) {
			past := newEarlier(t, engine)
			db := storetest.Connect(t, past.dsn, storetest.NewClock())
			if _, err := db.MigrateTo(t.Context(), names[0]); err != nil {
				t.Fatal(err)
			}
			for _, name := range names[1:] {
				past.during(t, func() {
					if applied, err := db.MigrateTo(t.Context(), name); err != nil {
						t.Errorf("%s: %v", name, err)
					} else {
						same(t, []string{name}, applied)
					}
				})
			}
			past.check(t)
			now(t, db)
		})
		t.Run(string(engine)+" at once", func(t *testing.T) {
			past := newEarlier(t, engine)
			db := storetest.Connect(t, past.dsn, storetest.NewClock())
			if _, err := db.MigrateTo(t.Context(), names[0]); err != nil {
				t.Fatal(err)
			}
			past.during(t, func() {
				if applied, err := db.Migrate(t.Context()); err != nil {
					t.Error(err)
				} else {
					same(t, names[1:], applied)
				}
			})
			past.check(t)
			now(t, db)
		})
	}
}

// now has the program of today read and write the database.
func now(t *testing.T, db *store.DB) {
	t.Helper()
	if pending, err := db.Pending(t.Context()); err != nil || len(pending) > 0 {
		t.Errorf("pending: %v, %v", pending, err)
	}
	update(t, db, set("x", nil))
	page := store.Page{Limit: 5, Newest: true}
	err := db.View(t.Context(), func(tx *store.Tx) error {
		users, _, err := tx.Users(page)
		if err != nil {
			return err
		}
		clients, _, err := tx.Clients(store.ClientFilter{}, page)
		if err != nil {
			return err
		}
		if len(users) != 5 || len(clients) != 5 {
			return fmt.Errorf("%d people and %d clients are found", len(users), len(clients))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// during has two programs of the schema as it is write before, during and after the upgrade. During it each writes at
// most 20 flows, because SQLite lets a writer wait as long as others write without a pause.
func (p *earlier) during(t *testing.T, upgrade func()) {
	t.Helper()
	p.describe(t)
	stop := make(chan struct{})
	var wrote [2]chan struct{}
	var others sync.WaitGroup
	for i := range wrote {
		wrote[i] = make(chan struct{})
		others.Go(func() { p.write(t, stop, wrote[i]) })
	}
	let := func(flows int) {
		for range flows {
			for i := range wrote {
				<-wrote[i]
			}
		}
	}
	let(3)
	others.Go(func() { let(20) })
	upgrade()
	let(3) // the first may be of a write that began before
	close(stop)
	others.Wait()
}

// earlier is a database as an earlier program made it, and that program.
type earlier struct {
	dsn     string
	handle  *sql.DB
	query   string              // of the columns of a table
	columns map[string][]column // of each table that write fills
	next    atomic.Int64        // number of the next flow
	written atomic.Int64        // how many flows were committed
}

type column struct{ name, kind string }

// writtenTables are the tables that a flow fills, in this order.
var writtenTables = []string{"users", "resources", "clients", "grants", "codes", "sessions", "events"}

func newEarlier(t *testing.T, engine storetest.Engine) *earlier {
	t.Helper()
	p := &earlier{dsn: storetest.Bare(t, engine)}
	driver, source := "pgx", p.dsn
	p.query = `SELECT column_name, data_type FROM information_schema.columns
		WHERE table_schema = current_schema() AND table_name = $1 ORDER BY ordinal_position`
	if path, ok := strings.CutPrefix(p.dsn, "sqlite:"); ok {
		driver = "sqlite"
		source = "file:" + path + "?_pragma=foreign_keys(1)&_pragma=busy_timeout(60000)&_pragma=synchronous(OFF)" +
			"&_txlock=immediate"
		p.query = "SELECT name, type FROM pragma_table_info($1) ORDER BY cid"
	}
	var err error
	if p.handle, err = sql.Open(driver, source); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.handle.Close() })
	return p
}

// describe reads which columns the tables have.
func (p *earlier) describe(t *testing.T) {
	t.Helper()
	p.columns = map[string][]column{}
	for _, table := range writtenTables {
		columns, err := p.columnsOf(t.Context(), table)
		if err != nil || len(columns) < 3 {
			t.Fatalf("the columns of %s are not found: %v", table, err)
		}
		p.columns[table] = columns
	}
}

func (p *earlier) columnsOf(ctx context.Context, table string) (columns []column, err error) {
	rows, err := p.handle.QueryContext(ctx, p.query, table)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var c column
		if err := rows.Scan(&c.name, &c.kind); err != nil {
			return nil, err
		}
		columns = append(columns, c)
	}
	return columns, rows.Err()
}

// write does what a flow does, again and again until stop is closed. After each time it waits until somebody receives
// from wrote, which it closes in the end.
func (p *earlier) write(t *testing.T, stop <-chan struct{}, wrote chan<- struct{}) {
	defer close(wrote)
	for {
		err := p.flow(t.Context(), p.next.Add(1))
		deadlocked := (*pgconn.PgError)(nil)
		switch {
		case errors.As(err, &deadlocked) && deadlocked.Code == "40P01": // a client is told to try again, and does
		case err != nil:
			t.Errorf("a write of the earlier program: %v", err)
			return
		default:
			p.written.Add(1)
		}
		select {
		case <-stop:
			return
		case wrote <- struct{}{}:
		}
	}
}

// flow inserts a row into each table, naming each column of the earlier schema, changes the grant, and reads all.
func (p *earlier) flow(ctx context.Context, n int64) error {
	tx, err := p.handle.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after the commit
	id := fmt.Sprint(n)
	for _, table := range writtenTables {
		var names, places []string
		var values []any
		for i, c := range p.columns[table] {
			names = append(names, c.name)
			places = append(places, fmt.Sprintf("$%d", i+1))
			values = append(values, valueOf(c, id, n))
		}
		columns := strings.Join(names, ", ")
		if _, err := tx.ExecContext(ctx, "INSERT INTO "+table+" ("+columns+") VALUES ("+
			strings.Join(places, ", ")+")", values...); err != nil {
			return fmt.Errorf("insert into %s: %w", table, err)
		}
		if _, err := tx.ExecContext(ctx, "SELECT "+columns+" FROM "+table+" WHERE 1 = 0"); err != nil {
			return fmt.Errorf("select from %s: %w", table, err)
		}
	}
	if _, err := tx.ExecContext(ctx, "UPDATE grants SET generation = generation + 1 WHERE id = $1", id); err != nil {
		return err
	}
	return tx.Commit()
}

// valueOf returns the value of a column in the row of a flow.
func valueOf(c column, id string, n int64) any {
	switch {
	case strings.EqualFold(c.kind, "BIGINT"):
		return n
	case c.name == "metadata":
		return `{"client_name":"Agent ` + id + `"}`
	case c.name == "origin":
		return string(oauth.ByRegistration)
	case c.name == "scopes", c.name == "group_names":
		return "[]"
	}
	return id
}

// check compares the tables with what was written.
func (p *earlier) check(t *testing.T) {
	t.Helper()
	for _, table := range writtenTables {
		var rows int64
		if err := p.handle.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM "+table).Scan(&rows); err != nil {
			t.Fatal(err)
		}
		if rows != p.written.Load() {
			t.Errorf("%s has %d rows, and %d were written", table, rows, p.written.Load())
		}
	}
}
