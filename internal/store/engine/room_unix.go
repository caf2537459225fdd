//go:build linux || darwin || freebsd

package engine

import (
	"path/filepath"
	"syscall"
)

// room returns the free space, in bytes, where the file at path is.
func room(path string) (free uint64, known bool) {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(filepath.Dir(path), &stat); err != nil || stat.Bsize <= 0 {
		return 0, false
	}
	return uint64(stat.Bavail) * uint64(stat.Bsize), true
}
