//go:build unix

package config

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// hasRoom reports whether file takes a write of atOnce bytes, at the latest after patience.
func hasRoom(file *os.File, patience time.Duration) bool {
	conn, err := file.SyscallConn()
	if err != nil {
		return true
	}
	ready := true
	err = conn.Control(func(fd uintptr) {
		for until := time.Now().Add(patience); ; {
			left := max(0, time.Until(until))
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, int(left.Milliseconds()))
			if errors.Is(err, unix.EINTR) {
				continue
			}
			ready = n != 0 // what cannot be polled is written to, and says why not
			return
		}
	})
	return err != nil || ready
}
