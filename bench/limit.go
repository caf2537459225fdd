package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"runtime"
	"time"

	_ "modernc.org/sqlite" // the same driver as in Cardea
)

// A limit is a minimal token endpoint: one ES256 signature and one durable row for each request, on a plain net/http
// server, without any checks. The share of its rate that Cardea reaches measures the cost of all that Cardea does in
// addition.
type limit struct {
	key  *ecdsa.PrivateKey
	db   *sql.DB
	rows chan row
}

type row struct {
	id   string
	done chan error
}

// serveLimit serves POST /token and GET /hello on address until it fails. If upstream is a URL, it passes on to it what
// is not /hello, and makes no tokens.
func serveLimit(address, dir, upstream string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	if upstream != "" {
		handler, err := proxy(upstream)
		if err != nil {
			return err
		}
		mux.Handle("/", handler)
	} else {
		token, err := newLimit(dir)
		if err != nil {
			return err
		}
		mux.HandleFunc("POST /token", token)
	}
	server := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: time.Minute}
	return server.ListenAndServe()
}

// newLimit returns the token endpoint of a limit whose rows are in dir.
func newLimit(dir string) (http.HandlerFunc, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite",
		"file:"+filepath.Join(dir, "limit.db")+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(context.Background(),
		"CREATE TABLE events (at INTEGER NOT NULL, id TEXT NOT NULL, action TEXT NOT NULL)"); err != nil {
		return nil, err
	}
	l := &limit{key, db, make(chan row, connections)}
	go l.write()
	return l.token, nil
}

// token responds when the row is on the disk.
func (l *limit) token(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return
	}
	id := rand.Text()
	signed := base64.RawURLEncoding.EncodeToString([]byte(`{"typ":"at+jwt","alg":"ES256"}`)) + "." +
		base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"http://localhost","sub":"bot","aud":"`+resource+
			`","jti":"`+id+`"}`))
	hash := sha256.Sum256([]byte(signed))
	sr, ss, err := ecdsa.Sign(rand.Reader, l.key, hash[:])
	if err == nil {
		entry := row{id, make(chan error, 1)}
		l.rows <- entry
		err = <-entry.done
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	var signature [64]byte
	sr.FillBytes(signature[:32])
	ss.FillBytes(signature[32:])
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{ // an error means that the client has disconnected
		"access_token": signed + "." + base64.RawURLEncoding.EncodeToString(signature[:]), "token_type": "Bearer",
		"expires_in": 600,
	})
}

// write commits all waiting rows in one transaction, with one fsync.
func (l *limit) write() {
	for first := range l.rows {
		batch := []row{first}
		runtime.Gosched() // lets other requests add their rows first, as in Cardea
		for more := true; more && len(batch) < connections; {
			select {
			case next := <-l.rows:
				batch = append(batch, next)
			default:
				more = false
			}
		}
		err := l.commit(batch)
		for _, entry := range batch {
			entry.done <- err
		}
	}
}

func (l *limit) commit(batch []row) error {
	tx, err := l.db.BeginTx(context.Background(), nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after a commit
	insert, err := tx.PrepareContext(context.Background(), "INSERT INTO events VALUES (?, ?, 'token.request')")
	if err != nil {
		return err
	}
	defer func() { _ = insert.Close() }()
	for _, entry := range batch {
		if _, err := insert.ExecContext(context.Background(), time.Now().UnixMicro(), entry.id); err != nil {
			return err
		}
	}
	return tx.Commit()
}
