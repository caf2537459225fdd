package gateway

import (
	"os/exec"
	"syscall"
)

// ownGroup gives the program a process group, and has the kernel kill it when the gateway ends.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
