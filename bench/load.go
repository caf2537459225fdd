package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	connections = 64
	flows       = 16                     // connections that run code flows
	warmUp      = 300 * time.Millisecond // before counting begins
)

// next returns the next request of a connection. It gets the reply to the previous request, or nil for the first one.
// finished reports whether that reply completed a piece of work, which may take several requests.
type next func(connection int, last *reply) (wire []byte, finished bool, err error)

// reply is a response. Its memory is reused for the next one.
type reply struct {
	status   int
	location string
	cookies  []string // NAME=VALUE of each Set-Cookie header
	body     []byte
}

// figures are the results of a turn of load, per piece of work.
type figures struct {
	rate    float64 // pieces of work per second
	cpu     float64 // microseconds of processor time, user and system
	written float64 // bytes written to the disk
}

// load sends requests to a server on the given number of connections, one at a time on each. It writes and parses
// HTTP/1.1 itself, because a client that costs more than the server would distort the result.
//
// It measures for the given time, or until about the given number of pieces of work are done; 0 means any number.
func load(s server, seconds time.Duration, most, connections int, request next) (figures, error) {
	var done atomic.Int64
	var stop atomic.Bool
	enough := make(chan struct{})
	errs := make([]error, connections)
	var wg sync.WaitGroup
	for i := range connections {
		wg.Go(func() {
			errs[i] = talk(s.address, func(last *reply) ([]byte, error) {
				wire, finished, err := request(i, last)
				if finished && done.Add(1) == int64(most) {
					close(enough)
				}
				if stop.Load() && (finished || last == nil || err != nil) {
					return nil, io.EOF
				}
				return wire, err
			})
			if errs[i] != nil {
				stop.Store(true)
			}
		})
	}
	if most == 0 {
		time.Sleep(warmUp)
	}
	from, before := time.Now(), done.Load()
	usedBefore, err := used(s.pid)
	select {
	case <-time.After(seconds):
	case <-enough:
	}
	count, took := float64(done.Load()-before), time.Since(from)
	usedAfter, alsoErr := used(s.pid)
	stop.Store(true)
	wg.Wait()
	return figures{
		rate:    count / took.Seconds(),
		cpu:     float64((usedAfter.cpu - usedBefore.cpu).Microseconds()) / count,
		written: float64(usedAfter.written-usedBefore.written) / count,
	}, errors.Join(append(errs, err, alsoErr)...)
}

// usage is the resources that a process has used since its start.
type usage struct {
	cpu     time.Duration
	written int64 // bytes
}

// used returns the usage of a process (proc(5), stat and io).
func used(pid int) (u usage, err error) {
	if u.cpu, err = busy(pid); err != nil {
		return u, err
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return u, err
	}
	_, after, _ := bytes.Cut(text, []byte("\nwrite_bytes: "))
	_, err = fmt.Sscan(string(after), &u.written)
	return u, err
}

// busy returns the processor time of a process (proc(5), stat).
func busy(pid int) (time.Duration, error) {
	const tick = time.Second / 100 // USER_HZ
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	var user, system int64
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]) // the name before it may contain any characters
	if len(fields) > 12 {
		_, err = fmt.Sscan(string(fields[11])+" "+string(fields[12]), &user, &system)
	} else {
		err = fmt.Errorf("/proc/%d/stat is too short", pid)
	}
	return time.Duration(user+system) * tick, err
}

// talk sends the requests that request returns until it returns io.EOF. It reads each reply and passes it to request,
// so that no refresh token is lost.
func talk(address string, request func(last *reply) ([]byte, error)) error {
	conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	r := bufio.NewReaderSize(conn, 32<<10)
	var memory reply
	var last *reply
	for {
		wire, err := request(last)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := conn.Write(wire); err != nil {
			return err
		}
		last = &memory
		if err := last.read(r); err != nil {
			return err
		}
	}
}

// read reads one response. It returns an error if the status is not 200, 201 or 303.
func (a *reply) read(r *bufio.Reader) error {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return err
	}
	if len(line) < 12 {
		return fmt.Errorf("a response begins with %q", line)
	}
	if a.status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return err
	}
	a.location, a.cookies = "", a.cookies[:0]
	length := -1
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if line = bytes.TrimSpace(line); len(line) == 0 {
			break
		}
		if value, found := bytes.CutPrefix(line, []byte("Content-Length: ")); found {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return err
			}
		} else if value, found := bytes.CutPrefix(line, []byte("Location: ")); found {
			a.location = string(value)
		} else if value, found := bytes.CutPrefix(line, []byte("Set-Cookie: ")); found {
			pair, _, _ := bytes.Cut(value, []byte(";"))
			a.cookies = append(a.cookies, string(pair))
		}
	}
	if length < 0 {
		return fmt.Errorf("a response with status %d has no Content-Length", a.status)
	}
	if cap(a.body) < length {
		a.body = make([]byte, length)
	}
	a.body = a.body[:length]
	if _, err := io.ReadFull(r, a.body); err != nil {
		return err
	}
	switch a.status {
	case http.StatusOK, http.StatusCreated, http.StatusSeeOther:
		return nil
	}
	return fmt.Errorf("status %d: %s", a.status, a.body)
}

// same returns the same request each time.
func same(wire string) next {
	return func(_ int, last *reply) ([]byte, bool, error) { return []byte(wire), last != nil, nil }
}

// get returns the same GET request each time.
func get(path string) next { return same(getRequest(path, "")) }

// post returns the same POST of a form each time. header is "" or lines that end with CRLF.
func post(path, header, form string) next { return same(formRequest(path, header, form)) }

func getRequest(path, header string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: localhost\r\n" + header + "\r\n"
}

func formRequest(path, header, form string) string {
	return "POST " + path + " HTTP/1.1\r\nHost: localhost\r\n" + header +
		"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: " + strconv.Itoa(len(form)) + "\r\n\r\n" +
		form
}
