//go:build failpoints

package engine

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// armed is CARDEA_FAILPOINT, NAME or NAME:N: the process kills itself, as kill -9 does, when it passes the place called
// NAME for the Nth time. The places are "between-writes" (before every statement that writes), "before-commit" and
// "after-commit-before-answer".
var armed, nth = func() (string, int64) {
	name, count, found := strings.Cut(os.Getenv("CARDEA_FAILPOINT"), ":")
	n, err := strconv.ParseInt(count, 10, 64)
	if !found || err != nil {
		n = 1
	}
	return name, n
}()

var passed atomic.Int64

func failpoint(name string) {
	if name == armed && passed.Add(1) == nth {
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
		select {}
	}
}
