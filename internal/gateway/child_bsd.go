//go:build unix && !linux

package gateway

import (
	"context"
	"os/exec"
	"syscall"
)

// ownGroup gives the program a process group.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// adopt does nothing, because only on Linux a gateway is the first process of a container.
func adopt(context.Context) {}
