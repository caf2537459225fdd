//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package guard

import (
	"errors"
	"os"
	"syscall"
)

// lockFile makes and locks a file, until it is closed or the process ends. It returns an error if it is locked already.
func lockFile(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // in the spool
	if err != nil {
		return nil, err
	}
	fd := int(file.Fd()) //nolint:gosec // a descriptor fits
	if err := syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.New("another process uses it; give each its own")
		}
		return nil, err
	}
	return file, nil
}
