package server_test

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/keys"
	"github.com/cardea-auth/cardea/internal/server"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// What a server says of the files of its certificate: once for each change, and what is wrong with them.
func TestReload(t *testing.T) {
	folder := t.TempDir()
	loaded, err := config.Load(config.Sources{Flags: map[string]string{"issuer": "https://cardea.example",
		"data_dir": t.TempDir(), "listen": "127.0.0.1:0", "tls.cert": filepath.Join(folder, "cert.pem"),
		"tls.key": filepath.Join(folder, "key.pem")}})
	if err != nil {
		t.Fatal(err)
	}
	issue(t, folder, 1, time.Now())
	db, _ := storetest.Open(t, storetest.SQLite)
	master, _ := keys.NewMaster()
	var log bytes.Buffer
	s, err := server.New(t.Context(), loaded.Config, db, master, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := s.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	says := func(when string, want ...string) {
		t.Helper()
		log.Reset()
		s.Reload()
		s.Reload() // says nothing more
		lines := strings.Split(strings.TrimSuffix(log.String(), "\n"), "\n")
		if len(lines) != max(1, len(want)) {
			t.Errorf("%s, the log is\n%s", when, log.String())
			return
		}
		for i, text := range want {
			if !strings.Contains(lines[i], text) {
				t.Errorf("%s, the log is\n%s", when, log.String())
			}
		}
	}
	says("unchanged", "")
	issue(t, folder, 2, time.Now())
	says("renewed", "the TLS certificate was read again")
	put(t, folder, "key.pem", []byte("half a k"), time.Now())
	says("broken", "the old one stays in use; mend the files")
	put(t, folder, "cert.pem", []byte("half a certific"), time.Now())
	says("both broken", "failed to find any PEM data in certificate input")
	issue(t, folder, 3, time.Now())
	says("mended", "the TLS certificate was read again")
	issue(t, folder, 4, time.Now().AddDate(-3, 0, 0))
	says("too old", "clients will not accept the certificate", "the TLS certificate was read again")

	issue(t, folder, 5, time.Now())
	for host, want := range map[string]string{"cardea.example": "", "other.example": "other.example"} {
		told := ""
		loaded.Issuer = "https://" + host
		if err := server.CheckCertificate(loaded.Config, func(text string) { told = text }); err != nil {
			t.Error(err)
		}
		if told == "" != (want == "") || !strings.Contains(told, want) {
			t.Errorf("a certificate for cardea.example at %s: %q", host, told)
		}
	}
}
