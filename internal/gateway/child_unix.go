//go:build unix

package gateway

import (
	"os/exec"
	"strconv"
	"syscall"
)

func endGroup(cmd *exec.Cmd)  { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
func killGroup(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }

// watch kills the process group when the gateway ends without doing so itself, as when it is killed. The kernel ends
// only the program itself then, not what it has started. The function that it returns ends the watching. On a machine
// without a shell nobody watches.
func watch(group int) (end func()) {
	//nolint:gosec,noctx // the script is fixed and gets a number; it ends when the gateway does
	watcher := exec.Command("/bin/sh", "-c", `read -r _; kill -KILL "-$1"`, "sh", strconv.Itoa(group))
	watcher.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	watcher.Env = []string{}
	stdin, err := watcher.StdinPipe()
	if err != nil || own.start(watcher) != nil {
		return func() {}
	}
	return func() {
		_ = watcher.Process.Kill() // before its input ends, so that it does not kill
		own.wait(watcher)
		_ = stdin.Close()
	}
}
