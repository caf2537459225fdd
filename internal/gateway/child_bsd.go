//go:build unix && !linux

package gateway

import (
	"os/exec"
	"syscall"
)

// ownGroup gives the program a process group.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
