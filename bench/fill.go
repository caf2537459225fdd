package main

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

// sizes are how many records a large installation has.
type sizes struct{ clients, grants, people, events int }

func (s sizes) String() string {
	return fmt.Sprintf("%d clients, %d grants, %d people and %d events", s.clients, s.grants, s.people, s.events)
}

// The parts of a large installation that do not grow with its size.
const (
	servers      = 200
	busyTools    = 500 // of the first server
	busyGroups   = 300
	waiting      = 2000
	blocked      = 1000
	invited      = 2000
	tokensAtHand = 500 // initial access tokens
)

// machines is how many clients there are for one that is bound to a server and asks in its own name.
const machines = 200

// year is how far back the records go.
const year = 365 * 24 * time.Hour

// installation makes the records of a large installation. Each is a function of its number, so that records can refer
// to others without keeping them.
//
// One person and one client have a tenth of the grants each. A third of the clients have the same name, and many people
// share theirs. A twentieth of the grants, the newest and all at one server, were revoked together.
type installation struct {
	sizes
	now time.Time
}

// id returns the id of record i of a kind.
func (n *installation) id(prefix string, i int) string {
	var seed [8]byte
	binary.BigEndian.PutUint64(seed[:], uint64(i)) // #nosec G115 -- not negative
	sum := sha256.Sum256(append([]byte(prefix), seed[:]...))
	return prefix + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:26])
}

// timed returns an id as id does that begins with a time.
func (n *installation) timed(prefix string, i int, at time.Time) string {
	const timeChars = 11
	return oauth.NewTimedID(prefix, at)[:len(prefix)+timeChars] + n.id("", i)[timeChars:]
}

// when returns the time of record i of total, spread evenly over the year.
func (n *installation) when(i, total int) time.Time {
	return n.now.Add(-year + time.Duration(float64(year)*float64(i+1)/float64(total+1)))
}

func micros(at time.Time) int64 { return at.UnixMicro() }

var (
	firstNames = strings.Fields("Ada Alan Grace Edsger Barbara Donald Katherine Dennis Margaret Ken Radia Linus " +
		"Frances John Hedy Tim Joan Claude Annie Niklaus Sophie Bjarne Adele Guido Jean Rob Karen Brian Mary Leslie")
	lastNames = strings.Fields("Lovelace Turing Hopper Dijkstra Liskov Knuth Johnson Ritchie Hamilton Thompson " +
		"Perlman Torvalds Allen Backus Lamarr Lee Clarke Shannon Easley Wirth Wilson Stroustrup Goldberg Rossum " +
		"Bartik Pike")
	agents = strings.Fields("Claude-Code Cursor VS-Code Goose Zed Windsurf Inspector")
)

func (n *installation) person(i int) (id, email, name string) {
	first, last := firstNames[i%len(firstNames)], lastNames[i/len(firstNames)%len(lastNames)]
	return n.id("usr_", i), fmt.Sprintf("%s.%s%d@example.com", strings.ToLower(first), strings.ToLower(last), i),
		first + " " + last
}

// origin returns how client i came to be known: every hundredth was made by an operator, and every twentieth has a
// document.
func origin(i int) oauth.Origin {
	switch {
	case i%100 == 1:
		return oauth.ByOperator
	case i%20 == 2:
		return oauth.ByDocument
	}
	return oauth.ByRegistration
}

func (n *installation) client(i int) (id, name string) {
	id, name = n.id("mcp_", i), fmt.Sprintf("Agent %d", i)
	if origin(i) == oauth.ByDocument {
		id = fmt.Sprintf("https://agent%d.example/client.json", i)
	}
	if i%3 == 0 {
		name = strings.ReplaceAll(agents[i/3%len(agents)], "-", " ")
	}
	return id, name
}

func mcpServer(i int) string { return fmt.Sprintf("https://server%d.example.com/mcp", i) }

// A given grant is what grant i refers to.
type given struct {
	user, client, server int
	at                   time.Time
	revoked              bool
}

func (n *installation) grant(i int) given {
	g := given{user: i * 7919 % n.people, client: i * 104729 % n.clients, server: i % servers, at: n.when(i, n.grants)}
	switch {
	case i%10 == 0: // the busy person, who disconnects again and again
		g.user, g.revoked = 0, i > n.grants/1000
	case i%10 == 1:
		g.client = 0
	case i%10 < 6:
		g.server = 0
	}
	if i >= n.grants-n.grants/20 {
		g.server, g.revoked = 1, true
	}
	return g
}

// populate writes the records of a large installation into the database that dsn names, whose tables are there. It
// writes to it as no server does, so that it takes minutes rather than hours: on PostgreSQL it needs a superuser.
func populate(ctx context.Context, dsn string, s sizes) error {
	n := &installation{s, time.Now().UTC().Truncate(time.Microsecond)}
	w, err := open(ctx, dsn)
	if err != nil {
		return err
	}
	defer w.close()
	began := time.Now()
	indexes, err := w.dropIndexes(ctx)
	if err != nil {
		return err
	}
	for _, t := range n.tables() {
		if err := w.write(ctx, t); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		fmt.Fprintf(os.Stderr, "%8s  %s: %d rows\n", time.Since(began).Round(time.Second), t.name, t.rows)
	}
	for _, statement := range append(indexes, n.finish(w.analyze)...) {
		if err := w.exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	fmt.Fprintf(os.Stderr, "%8s  indexes\n", time.Since(began).Round(time.Second))
	return nil
}

// table is rows to write: cells returns those of row i.
type table struct {
	name, columns string
	rows          int
	cells         func(i int) []any
}

const allowedOnce = `["authorization_code","refresh_token"]`

func (n *installation) tables() []table {
	key := func(name string) []byte { return []byte(identity.Fold(name)) }
	month := micros(n.now.Add(30 * 24 * time.Hour))
	return []table{
		{"resources", "id identifier name scopes signing_alg access_ttl refresh_idle_ttl refresh_max_ttl created_at " +
			"updated_at", servers, func(i int) []any {
			at := micros(n.when(i, servers))
			return []any{n.id("res_", i), mcpServer(i), fmt.Sprintf("Server %d", i),
				`[{"name":"mcp:tools:weather","description":"Forecasts","default":true}]`, "", 0, 0, 0, at, at}
		}},
		{"resource_names", "key resource_id", 2 * servers, func(i int) []any {
			return []any{key([]string{fmt.Sprintf("Server %d", i/2), mcpServer(i / 2)}[i%2]), n.id("res_", i/2)}
		}},
		{"resource_tools", "resource_id name hash definition scopes risk reviewed_at seen_hash seen seen_at", busyTools,
			func(i int) []any {
				definition := fmt.Sprintf(`{"name":"tool_%d","description":"Returns the forecast of a place.",`+
					`"inputSchema":{"type":"object","properties":{"city":{"type":"string"}}}}`, i)
				at := micros(n.when(i, busyTools))
				return []any{n.id("res_", 0), fmt.Sprintf("tool_%d", i), n.id("", i), definition, "mcp:tools:weather",
					"read", at, n.id("", i), "", at}
			}},
		{"users", "id email email_key name password_hash created_at", n.people, func(i int) []any {
			id, email, name := n.person(i)
			return []any{id, email, identity.EmailKey(email), name, "", micros(n.when(i, n.people))}
		}},
		{"user_names", "key user_id", 3 * n.people, func(i int) []any {
			id, email, name := n.person(i / 3)
			return []any{key([]string{id, email, name}[i%3]), id}
		}},
		{"groups", "id name description created_at", busyGroups, func(i int) []any {
			return []any{n.id("grp_", i), fmt.Sprintf("group-%d", i), "", micros(n.when(i, busyGroups))}
		}},
		{"group_names", "key group_id", busyGroups, func(i int) []any {
			return []any{key(fmt.Sprintf("group-%d", i)), n.id("grp_", i)}
		}},
		{"group_members", "group_id user_id added_at", 2 * n.people, func(i int) []any { // all are in the first
			at := micros(n.when(i, 2*n.people))
			if i%2 == 0 {
				return []any{n.id("grp_", 0), n.id("usr_", i/2), at}
			}
			return []any{n.id("grp_", 1+i/2%(busyGroups-1)), n.id("usr_", i/2), at}
		}},
		{"sessions", "hash user_id signed_in_at amr seen_at expires_at ends_at id address user_agent", n.people,
			func(i int) []any {
				at := micros(n.now)
				user := i
				if i%10 == 0 {
					user = 0
				}
				return []any{n.id("", i), n.id("usr_", user), at, "pwd", at, month - int64(i), month, n.id("ses_", i),
					n.address(i), "Mozilla/5.0"}
			}},
		{"clients", "id origin metadata allowed resources resource_server access_ttl fingerprint created_at " +
			"approved_at used_at incarnation", n.clients, n.clientRow},
		{"client_names", "key client_id origin", n.clients, func(i int) []any {
			id, name := n.client(i)
			return []any{key(name), id, string(origin(i))}
		}},
		{"client_resources", "client_id origin resource created_at", (n.clients-2)/machines + 1, func(i int) []any {
			row := n.clientRow(machines*i + 1)
			return []any{row[0], row[1], row[4], row[8]}
		}},
		{"waiting_clients", "client_id first_at last_at people user_id resource_id scope redirect_uri",
			min(waiting, n.clients), func(i int) []any {
				at := micros(n.when(i, waiting))
				id, _ := n.client(i)
				return []any{id, at, micros(n.now), 1, n.id("usr_", i%n.people), n.id("res_", 0), "mcp:tools:weather",
					redirectURI}
			}},
		{"client_blocks", "id client_id name reason marks created_at", blocked, func(i int) []any {
			return []any{n.id("blk_", i), n.id("mcp_", n.clients+i), "Agent", "", "{}", micros(n.when(i, blocked))}
		}},
		{"invitations", "user_id email email_key role hash inviter_type inviter_id inviter_name created_at expires_at",
			invited, func(i int) []any {
				email := fmt.Sprintf("guest%d@example.com", i)
				return []any{n.id("usr_", n.people+i), email, email, "", n.id("inv_", i), "command", "ada", "",
					micros(n.now), month}
			}},
		{"initial_access_tokens", "id hash name uses max_uses created_at", tokensAtHand, func(i int) []any {
			return []any{n.id("iat_", i), n.id("", i), fmt.Sprintf("Token %d", i), 0, 0,
				micros(n.when(i, tokensAtHand))}
		}},
		{"grants", "id client_id user_id resource_id redirect_uri scope refreshable secret generation signed_in_at " +
			"amr created_at last_used_at expires_at ends_at revoked_at revoked_reason method client_incarnation " +
			"status_index", n.grants, func(i int) []any {
			g := n.grant(i)
			client, _ := n.client(g.client)
			at, ends := micros(g.at), micros(n.now.Add(2*year))
			var revoked any
			reason := ""
			if g.revoked {
				revoked, reason = micros(n.now.Add(-time.Hour)), "operator"
			}
			return []any{n.id("grt_", i), client, n.id("usr_", g.user), n.id("res_", g.server), redirectURI,
				"mcp:tools:weather", 1, n.id("", i), 1, at, "pwd", at, at, ends, ends, revoked, reason, "none", "inc",
				i}
		}},
		{"codes", "hash grant_id redirect_uri challenge expires_at spent_at", n.grants, func(i int) []any {
			at := micros(n.grant(i).at)
			return []any{n.id("", i), n.id("grt_", i), redirectURI, n.id("", i), at, at}
		}},
		{"events", "at id action outcome reason description client_id user_id grant_id resource scope detail " +
			"request_id address user_agent actor_type actor_id actor_name changes", n.events, n.event},
	}
}

func (n *installation) clientRow(i int) []any {
	id, name := n.client(i)
	grantTypes, bound, at := allowedOnce, "", micros(n.when(i, n.clients))
	var approved, fingerprint any
	switch origin(i) {
	case oauth.ByOperator:
		approved = at
		switch { // of ten machines, one operates this server
		case i%(10*machines) == 1:
			grantTypes, bound = `["client_credentials"]`, scaleIssuer+admin.APIPath
		case i%machines == 1:
			grantTypes, bound = `["client_credentials"]`, mcpServer(i/machines%servers)
		}
	case oauth.ByRegistration:
		fingerprint = n.id("", i)
	case oauth.ByDocument: // has nothing of these
	}
	return []any{id, string(origin(i)), fmt.Sprintf(`{"client_name":%q,"redirect_uris":[%q],"grant_types":%s,`+
		`"response_types":["code"],"token_endpoint_auth_method":"none"}`, name, redirectURI, grantTypes),
		"", bound, "", 0, fingerprint, at, approved, at, "inc"}
}

func (n *installation) address(i int) string {
	if i%20 == 0 {
		return "192.0.2.1" // where many people work
	}
	return fmt.Sprintf("10.%d.%d.%d", i%199, i/199%251, i/7%253)
}

// event returns the cells of event i. Most are about a grant that was given shortly before; a hundredth are about one
// grant, and every ten-thousandth is a change by an operator.
func (n *installation) event(i int) []any {
	at := n.when(i, n.events)
	grant := max(0, int(int64(i)*int64(n.grants)/int64(n.events))-i*31%1000)
	if i%100 == 3 {
		grant = 2 // of the busy server, and live
	}
	g := n.grant(grant)
	clientID, _ := n.client(g.client)
	userID, grantID := n.id("usr_", g.user), n.id("grt_", grant)
	action, outcome, reason := "token.request", "allowed", ""
	kind, actor, actorName, changes, detail := "client", clientID, "", "", `{"grant_type":"refresh_token"}`
	resource := mcpServer(g.server)
	switch {
	case i%10000 == 5000:
		action, kind, actor, actorName = "client.update", "command", "ada", "ada"
		changes = `{"before":{"client_name":"Agent"},"after":{"client_name":"Another"}}`
		userID, grantID, detail = "", "", ""
	case i%50 == 7:
		outcome, reason = "refused", "invalid_grant"
	case i%50 == 8:
		action, kind, actor, clientID, grantID, resource = "login.sign_in", "user", userID, "", "", ""
	case i%50 == 9:
		action = "authorize.code"
	case i%20 == 11: // a machine
		clientID, _ = n.client((i/20%(n.clients/machines)*machines + 1) % n.clients)
		actor, userID, grantID, detail = clientID, "", "", `{"grant_type":"client_credentials"}`
	case i%50 == 13:
		action, kind, actor, detail = "tool.call", "client", clientID, `{"tool":"get_forecast"}`
	}
	return []any{micros(at), n.timed("evt_", i, at), action, outcome, reason, "", clientID, userID, grantID,
		resource, "mcp:tools:weather", detail, n.timed("", i, at), n.address(i), "agent/1.0", kind, actor,
		actorName, changes}
}

// finish returns the statements that make of the tables what a server would have made: the tallies, and the counters.
func (n *installation) finish(analyze string) []string {
	var statements []string
	for _, span := range []int64{int64(time.Hour / time.Microsecond), int64(24 * time.Hour / time.Microsecond)} {
		statements = append(statements,
			fmt.Sprintf("INSERT INTO tallies (span, begins, action, outcome, reason, n) SELECT %d, at - at %% %d, "+
				"action, outcome, reason, COUNT(*) FROM events GROUP BY at - at %% %d, action, outcome, reason",
				span, span, span),
			fmt.Sprintf("INSERT INTO tallies (span, begins, action, outcome, reason, n) SELECT %d, at - at %% %d, "+
				"'active', '', '', COUNT(DISTINCT client_id) FROM events WHERE action = 'token.request' AND outcome = "+
				"'allowed' GROUP BY at - at %% %d", span, span, span))
	}
	return append(statements, "UPDATE tallied SET until = (SELECT MAX(at) FROM events)",
		fmt.Sprintf("UPDATE status_next SET next = %d WHERE kind = 'g'", n.grants),
		fmt.Sprintf("INSERT INTO settings (name, value) VALUES ('%s', '%s')", filled, n.sizes), analyze)
}

// filled is the setting that says which installation a database has.
const filled = "bench_scale"

// has reports whether the database has the installation already. It is an error if it has another.
func has(ctx context.Context, db *store.DB, s sizes) (there bool, err error) {
	err = db.View(ctx, func(tx *store.Tx) error {
		value, err := tx.Setting(filled)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return nil
		case err == nil && value != s.String():
			return fmt.Errorf("the database has %s: use another one, or these sizes", value)
		}
		there = err == nil
		return err
	})
	return there, err
}

// writer writes tables in bulk.
type writer struct {
	lite    *sql.DB
	pg      *pgx.Conn
	analyze string
}

func open(ctx context.Context, dsn string) (w *writer, err error) {
	if path, found := strings.CutPrefix(dsn, "sqlite:"); found {
		w = &writer{analyze: "PRAGMA wal_checkpoint(TRUNCATE)"} // a server of SQLite has no statistics
		w.lite, err = sql.Open("sqlite", "file:"+path+"?_pragma=synchronous(OFF)&_pragma=cache_size(-200000)")
		return w, err
	}
	w = &writer{analyze: "VACUUM ANALYZE"}
	if w.pg, err = pgx.Connect(ctx, dsn); err != nil {
		return nil, err
	}
	return w, w.exec(ctx, "SET session_replication_role = replica") // no foreign key is checked
}

func (w *writer) close() {
	if w.lite != nil {
		_ = w.lite.Close()
		return
	}
	_ = w.pg.Close(context.Background())
}

func (w *writer) exec(ctx context.Context, statement string) (err error) {
	if w.lite != nil {
		_, err = w.lite.ExecContext(ctx, statement)
	} else {
		_, err = w.pg.Exec(ctx, statement)
	}
	return err
}

// dropIndexes drops the indexes of the large tables, and returns the statements that make them again.
func (w *writer) dropIndexes(ctx context.Context) (again []string, err error) {
	const large = "('users', 'user_names', 'sessions', 'clients', 'client_names', 'grants', 'codes', 'events')"
	var names []string
	if w.lite != nil {
		rows, err := w.lite.QueryContext(ctx,
			"SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name IN "+large)
		if err != nil {
			return nil, err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var name, statement string
			if err := rows.Scan(&name, &statement); err != nil {
				return nil, err
			}
			names, again = append(names, name), append(again, statement)
		}
		if err := rows.Err(); err != nil {
			return nil, err
		}
	} else {
		rows, err := w.pg.Query(ctx, "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema() "+
			"AND tablename IN "+large+" AND indexname NOT IN (SELECT conname FROM pg_constraint)")
		if err != nil {
			return nil, err
		}
		var name, statement string
		if _, err = pgx.ForEachRow(rows, []any{&name, &statement}, func() error {
			names, again = append(names, name), append(again, statement)
			return nil
		}); err != nil {
			return nil, err
		}
	}
	for _, name := range names {
		if err := w.exec(ctx, "DROP INDEX "+name); err != nil {
			return nil, err
		}
	}
	return again, nil
}

func (w *writer) write(ctx context.Context, t table) error {
	columns := strings.Fields(t.columns)
	if w.pg != nil {
		i := -1
		_, err := w.pg.CopyFrom(ctx, pgx.Identifier{t.name}, columns, pgx.CopyFromFunc(func() ([]any, error) {
			if i++; i == t.rows {
				return nil, nil
			}
			return t.cells(i), nil
		}))
		return err
	}
	const together = 100_000 // rows of a transaction
	for from := 0; from < t.rows; from += together {
		if err := w.part(ctx, t, columns, from, min(from+together, t.rows)); err != nil {
			return err
		}
	}
	return nil
}

// part writes the rows of a table from one number on, before another.
func (w *writer) part(ctx context.Context, t table, columns []string, from, to int) error {
	const row = 20 // rows of a statement
	places := "(" + strings.TrimSuffix(strings.Repeat("?, ", len(columns)), ", ") + ")"
	text := func(rows int) string {
		return "INSERT INTO " + t.name + " (" + strings.Join(columns, ", ") + ") VALUES " +
			strings.TrimSuffix(strings.Repeat(places+", ", rows), ", ")
	}
	tx, err := w.lite.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // an error after the commit
	several, err := tx.PrepareContext(ctx, text(row))
	if err != nil {
		return err
	}
	defer func() { _ = several.Close() }()
	var values []any
	for i := from; i < to; i++ {
		values = append(values, t.cells(i)...)
		if (i+1-from)%row == 0 {
			if _, err := several.ExecContext(ctx, values...); err != nil {
				return err
			}
			values = values[:0]
		}
	}
	if len(values) > 0 {
		if _, err := tx.ExecContext(ctx, text(len(values)/len(columns)), values...); err != nil {
			return err
		}
	}
	return tx.Commit()
}
