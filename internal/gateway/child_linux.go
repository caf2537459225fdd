package gateway

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"unsafe"
)

// ownGroup gives the program a process group, and has the kernel kill it when the gateway ends.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// adopt waits on the processes that come to this one when their parents end, until ctx ends. They come to the first
// process of a container, and stay there for ever, dead, unless it waits on them.
func adopt(ctx context.Context) {
	if !adopts() {
		return
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	defer signal.Stop(ended)
	for {
		own.adopt()
		select {
		case <-ended:
		case <-ctx.Done():
			return
		}
	}
}

// adopts reports whether the kernel gives orphans to this process (prctl(2), PR_GET_CHILD_SUBREAPER).
func adopts() bool {
	const getChildSubreaper = 37
	var is int32
	//nolint:gosec // the kernel writes there, and Go keeps what a call converts to uintptr only in its arguments
	_, _, failed := syscall.RawSyscall(syscall.SYS_PRCTL, getChildSubreaper, uintptr(unsafe.Pointer(&is)), 0)
	return os.Getpid() == 1 || failed == 0 && is != 0
}

// adopt waits on each dead child that is none of p.
func (p *processes) adopt() {
	p.mu.Lock()
	defer p.mu.Unlock()
	all, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range all {
		text, err := os.ReadFile(file) //nolint:gosec // a file of the kernel
		if err != nil {
			continue // it is gone
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		var state string
		var parent int
		after := text[bytes.LastIndexByte(text, ')')+1:] // the name before it may have any characters
		if _, alsoErr := fmt.Sscan(string(after), &state, &parent); err != nil || alsoErr != nil || state != "Z" ||
			parent != os.Getpid() || p.pids[pid] {
			continue
		}
		_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
	}
}
