package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/store"
)

// openTerminal returns the two sides of a terminal: what is written to one is read from the other.
func openTerminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = person.Close() })
	var number, unlock uint32
	for _, call := range []struct {
		request uintptr
		value   *uint32
	}{{syscall.TIOCSPTLCK, &unlock}, {syscall.TIOCGPTN, &number}} {
		_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, person.Fd(), call.request,
			uintptr(unsafe.Pointer(call.value)))
		if errno != 0 {
			t.Fatal(errno)
		}
	}
	program, err = os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() })
	return person, program
}

// A person at a terminal gets the link for the setup in one line; a log in JSON has none even there.
func TestSetupLinkOnTerminal(t *testing.T) {
	for _, format := range []string{"auto", "json"} {
		t.Run(format, func(t *testing.T) {
			person, program := openTerminal(t)
			dir := t.TempDir()
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			ended := make(chan int, 1)
			go func() {
				ended <- run(ctx,
					[]string{"serve", "--listen", "127.0.0.1:0", "--data-dir", dir, "--issuer",
						"https://auth.example.com"},
					&shell{in: strings.NewReader(""), out: program, errs: program,
						environ: []string{"CARDEA_LOG_FORMAT=" + format}})
			}()
			link := ""
			for lines := bufio.NewScanner(person); lines.Scan(); {
				line := strings.TrimSpace(lines.Text())
				if at := strings.Index(line, "https://auth.example.com/setup#"); at >= 0 {
					link = line[at:]
				}
				if strings.Contains(line, "Next,") || strings.Contains(line, `"next"`) {
					break
				}
			}
			stop()
			if code := <-ended; code != exitFine {
				t.Errorf("serve ended with %d", code)
			}
			if format == "json" {
				if link != "" {
					t.Errorf("the log has the link")
				}
				return
			}
			db, err := store.Open(t.Context(), "sqlite:"+filepath.Join(dir, "cardea.db"), store.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = db.Close() }()
			_, token, _ := strings.Cut(link, "#")
			if err := (&admin.Operations{DB: db}).CheckSetup(t.Context(), token); err != nil {
				t.Errorf("the link %q: %v", link, err)
			}
		})
	}
}
