package storetest

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/porttest"
)

// newPgBouncer starts a PgBouncer for the test in front of the database at dsn, with transaction pooling, and returns
// the DSN through it. Its pool is small, so that the transactions of one connection run in several sessions.
func newPgBouncer(t testing.TB, dsn string) string {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		program = "/usr/sbin/pgbouncer" // not in the PATH of every user
	}
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal("CARDEA_TEST_POSTGRES is not a PostgreSQL URL")
	}
	password, _ := u.User.Password()
	dir, err := os.MkdirTemp("", "cardea-pgbouncer-") // other users cannot read t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	port := porttest.Port(t)
	for name, text := range map[string]string{
		"users": fmt.Sprintf("%q %q\n", u.User.Username(), password),
		"pgbouncer.ini": fmt.Sprintf(`[databases]
* = host=%s port=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = plain
auth_file = %s
pool_mode = transaction
default_pool_size = 5
max_client_conn = 500
server_lifetime = 60
`, u.Hostname(), u.Port(), port, filepath.Join(dir, "users")),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program, "-q", filepath.Join(dir, "pgbouncer.ini"))
	cmd.Stderr = t.Output()
	if os.Geteuid() == 0 { // PgBouncer refuses to run as root
		const nobody = 65534
		for _, path := range []string{dir, filepath.Join(dir, "users"), filepath.Join(dir, "pgbouncer.ini")} {
			if err := os.Chown(path, nobody, nobody); err != nil {
				t.Fatal(err)
			}
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("PgBouncer does not start (make test installs it): %v", err)
	}
	ended := make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ended <- cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
	})
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	for deadline := time.Now().Add(time.Minute); ; {
		conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", address)
		if err == nil {
			_ = conn.Close()
			break
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("PgBouncer ended: %v", err)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("PgBouncer does not answer")
		}
		time.Sleep(5 * time.Millisecond)
	}
	u.Host = address
	return u.String()
}
