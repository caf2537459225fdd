//go:build unix

package config

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// hasRoom reports whether file takes a write of atOnce bytes, waiting for about patience at most.
func hasRoom(file *os.File, patience time.Duration) bool {
	conn, err := file.SyscallConn()
	if err != nil {
		return true
	}
	ready := true
	err = conn.Control(func(fd uintptr) {
		asked := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}} //nolint:gosec // a descriptor is an int
		for ; ; patience /= 2 {
			n, err := unix.Poll(asked, int(patience.Milliseconds()))
			if errors.Is(err, unix.EINTR) { // by a signal; how long it waited is not known
				continue
			}
			ready = n != 0 // what cannot be polled is written to, and says why not
			return
		}
	})
	return err != nil || ready
}
