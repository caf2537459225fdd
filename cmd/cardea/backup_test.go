package main

import (
	"io/fs"
	"strings"
	"syscall"
	"testing"
)

// A full disk is not a matter of permissions.
func TestFullDiskOfBackups(t *testing.T) {
	full := &fs.PathError{Op: "write", Path: "/data/.cardea.db.partial-1", Err: syscall.ENOSPC}
	for want, err := range map[string]error{
		"the disk of /data is full; make room":         fromFile(full, "one.db"),
		"one.db cannot be written: the disk is full; ": toFile(full, "one.db"),
	} {
		if !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
}
