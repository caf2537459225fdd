package storetest

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/store"
)

// SecretsAtRest fails the test for every secret that it finds in what db has written: as it is, in hex or in base64.
// secrets maps names, which it reports, to values, which it does not. db must have been opened by Open or Connect.
func SecretsAtRest(t testing.TB, db *store.DB, secrets map[string]string) {
	t.Helper()
	written := AtRest(t, db)
	for name, secret := range secrets {
		if secret == "" {
			t.Fatalf("the secret %q is empty: it would be found anywhere", name)
		}
		for form, text := range map[string]string{
			"as it is":      secret,
			"in hex":        hex.EncodeToString([]byte(secret)),
			"in base64":     base64.RawStdEncoding.EncodeToString([]byte(secret)),
			"in base64 URL": base64.RawURLEncoding.EncodeToString([]byte(secret)),
		} {
			if bytes.Contains(written, []byte(text)) {
				t.Errorf("%s is in the database, %s", name, form)
			}
		}
	}
}

// AtRest returns what db has written: the bytes of the SQLite file and of the files beside it, or every row of every
// table of PostgreSQL as text.
func AtRest(t testing.TB, db *store.DB) []byte {
	t.Helper()
	value, ok := opened.Load(db)
	if !ok {
		t.Fatal("storetest: the database was not opened by Open or Connect")
	}
	dsn := value.(string)
	var all bytes.Buffer
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
			content, err := os.ReadFile(path + suffix)
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			all.Write(content)
		}
		return all.Bytes()
	}
	handle, err := sql.Open("pgx", dsn+"&default_query_exec_mode=exec") // a pooler keeps no prepared statements
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = handle.Close() }()
	tables := column(t, handle, "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = current_schema()")
	for _, table := range tables {
		for _, row := range column(t, handle, "SELECT r::text FROM "+table+" r") {
			all.WriteString(row + "\n")
		}
	}
	return all.Bytes()
}

// column returns the only column of a query's result.
func column(t testing.TB, handle *sql.DB, query string) (values []string) {
	t.Helper()
	rows, err := handle.QueryContext(context.Background(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var value string
		if err := rows.Scan(&value); err != nil {
			t.Fatal(err)
		}
		values = append(values, value)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return values
}
