package gateway

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// grace is how long a program may take to end, first after its input was closed, then after it was asked to.
const grace = 2 * time.Second

// inherited are the variables of the gateway's environment that a program gets. Secrets of the gateway are not among
// them.
var inherited = []string{"PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "SHELL", "TERM"}

// child is a running program that speaks MCP over its standard input and output. It leads a process group of its own,
// so that all that it starts ends with it.
type child struct {
	cmd   *exec.Cmd
	stdin *os.File
	log   *slog.Logger
	ended chan struct{} // is closed when the program and its group have ended
	quiet chan struct{} // is closed when nobody holds its standard error any more

	patience time.Duration // with the program, until it reads a message

	mu      sync.Mutex // of stdin
	closing sync.Once
}

// own are the processes that this one has started and waits on. Others are waited on by [adopt].
var own processes

type processes struct {
	mu   sync.Mutex // is held while a process starts, so that none is there that is not in pids
	pids map[int]bool
}

func (p *processes) start(cmd *exec.Cmd) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := cmd.Start()
	if err == nil {
		if p.pids == nil {
			p.pids = map[int]bool{}
		}
		p.pids[cmd.Process.Pid] = true
	}
	return err
}

func (p *processes) wait(cmd *exec.Cmd) {
	_ = cmd.Wait() // how it ended does not matter
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.pids, cmd.Process.Pid)
}

// startChild starts the program of s, which is ended if it does not read a message within patience. It calls line for
// each line of JSON that the program writes, and once with nil when it has ended.
func startChild(s *Server, log *slog.Logger, patience time.Duration, line func([]byte)) (*child, error) {
	c := &child{log: log.With("server", s.Name), ended: make(chan struct{}), quiet: make(chan struct{}),
		patience: patience}
	//nolint:gosec,noctx // the operator names the program, which lives as long as its session
	c.cmd = exec.Command(s.Command[0], s.Command[1:]...)
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); slices.Contains(inherited, name) {
			c.cmd.Env = append(c.cmd.Env, variable)
		}
	}
	c.cmd.Env = append(c.cmd.Env, s.Env...)
	ownGroup(c.cmd)
	// Pipes of our own, because Wait would wait for all that hold those of exec open.
	stdin, toStdin, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	stdout, out, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, stdin.Close(), toStdin.Close())
	}
	stderr, errs, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, stdin.Close(), toStdin.Close(), stdout.Close(), out.Close())
	}
	c.stdin, c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = toStdin, stdin, out, errs
	started := make(chan error)
	go func() {
		// The kernel kills the program when the thread ends that started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := own.start(c.cmd)
		_ = errors.Join(stdin.Close(), out.Close(), errs.Close())
		if err != nil {
			_ = errors.Join(toStdin.Close(), stdout.Close(), stderr.Close())
		}
		started <- err
		if err != nil {
			return
		}
		watcher := watch(c.cmd.Process.Pid)
		own.wait(c.cmd)
		killGroup(c.cmd)
		watcher()
		close(c.ended)
		// What it has written is still read, but what held its pipes is gone.
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	go c.drain(stderr)
	go func() {
		defer func() { _ = stdout.Close() }()
		c.read(bufio.NewReaderSize(stdout, 64<<10), line)
		c.stop()
		line(nil)
	}()
	return c, nil
}

// read calls line for each line of JSON, and skips others, which programs print by mistake.
func (c *child) read(r *bufio.Reader, line func([]byte)) {
	skipped := 0
	for {
		text, err := readLine(r, maxEvent)
		if err != nil {
			if errors.Is(err, errLongEvent) {
				c.log.Error("gateway: the program wrote a line of more than 16 MiB; it was stopped")
			}
			return
		}
		// Programs on some systems begin with a byte order mark, or write another character set into a text.
		text = bytes.ToValidUTF8(bytes.TrimSpace(bytes.TrimPrefix(text, byteOrderMark)), []byte("\ufffd"))
		if len(text) == 0 {
			continue
		}
		if _, ok := objectOf(text); !ok && text[0] != '[' {
			if skipped++; skipped&(skipped-1) == 0 {
				c.log.Warn("gateway: the program wrote lines that are not JSON; they were skipped", "lines", skipped)
			}
			if text = unreadable(text); text == nil {
				continue
			}
		}
		line(text)
	}
}

// unreadable returns an error response in place of an answer that has a member twice, because two clients could read
// that differently. It returns nil if text is not an answer.
func unreadable(text []byte) []byte {
	var m struct {
		Version string          `json:"jsonrpc"`
		ID      json.RawMessage `json:"id"`
		Method  *string         `json:"method"`
	}
	if json.Unmarshal(text, &m) != nil || m.Version != "2.0" || m.ID == nil || m.Method != nil {
		return nil
	}
	return problem(m.ID, http.StatusBadGateway,
		"The MCP server behind this gateway sent an answer that cannot be read.")
}

// Says is the key in records of the log of what a program said on standard error.
const Says = "text"

// drain reads what the program says on standard error, and logs a part of it. Clients never see it.
func (c *child) drain(r io.ReadCloser) {
	defer close(c.quiet)
	defer r.Close()
	some := rate.NewLimiter(5, 20)
	lines := bufio.NewReaderSize(r, 4<<10)
	for {
		text, isPrefix, err := lines.ReadLine()
		if err != nil {
			return
		}
		if some.Allow() {
			c.log.Info("gateway: the program says", Says, string(text))
		}
		for isPrefix && err == nil {
			_, isPrefix, err = lines.ReadLine()
		}
	}
}

// send writes a message. A line feed in it can only be white space between tokens, because it is JSON. A program that
// does not read it in time is ended, because it may have read a part, and would be waited for by all that come after.
func (c *child) send(message []byte) error {
	line := append(bytes.Map(func(r rune) rune {
		if r == '\n' || r == '\r' {
			return ' '
		}
		return r
	}, message), '\n')
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.stdin.SetWriteDeadline(time.Now().Add(c.patience)) // fails where pipes have none
	_, err := c.stdin.Write(line)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.log.Error("gateway: the program does not read its standard input; it was stopped")
		go c.stop()
	}
	return err
}

// stop ends the program and all that it started: it closes its input, waits, asks it to end, waits, and kills it. It
// returns when all have ended.
func (c *child) stop() {
	c.closing.Do(func() {
		_ = c.stdin.Close()
		for _, end := range []func(*exec.Cmd){endGroup, killGroup} {
			timer := time.NewTimer(grace)
			select {
			case <-c.ended:
				timer.Stop()
				return
			case <-timer.C:
				end(c.cmd)
			}
		}
	})
	<-c.ended
}
