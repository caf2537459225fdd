package gateway_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// init makes orphans come to this process, if it is started so (prctl(2), PR_SET_CHILD_SUBREAPER).
func init() {
	if os.Getenv("SUBREAPER") == "" {
		return
	}
	const setChildSubreaper = 36
	if _, _, failed := syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 1, 0); failed != 0 {
		panic(failed)
	}
}

// A gateway to which the kernel gives orphans, as to the first process of a container, waits on them when they end.
func TestItem43Orphans(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	w := startProgram(t, files) // for its issuer
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The program leaves behind a process that is in another group, and ends when it is told to.
	t.Setenv("SUBREAPER", "1")
	w.write(strings.NewReplacer(`["{program}"]`, `[sh, -c, "(setsid sh -c 'echo $$ > `+pids+`; while [ ! -e `+pids+
		`.end ]; do sleep 0.01; done' &); exec '`+self+`'"]`).Replace(program) + "listen: 127.0.0.1:0\n")
	g := w.process()
	token := w.token("/files", "")
	g.initialize("/files", token)
	var orphan string
	eventually(t, "there is no orphan", func() bool {
		text, _ := os.ReadFile(pids)
		orphan = strings.TrimSpace(string(text))
		return orphan != ""
	})
	if err := os.WriteFile(pids+".end", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the orphan is still there", func() bool {
		_, err := os.Stat("/proc/" + orphan)
		return os.IsNotExist(err)
	})
	if _, err := strconv.Atoi(orphan); err != nil {
		t.Error(err)
	}
	g.initialize("/files", token) // programs of its own are as before
}
