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
	flows       = 16                     // connections of people at work
	warmUp      = 300 * time.Millisecond // before counting begins
)

// next makes a connection's next request, of the reply to its last one, which is
// nil at first. finished reports whether that reply ended a piece of work, of which
// there may be several requests.
type next func(connection int, last *reply) (wire []byte, finished bool, err error)

// reply is what a server answered; its memory is used again for the next one.
type reply struct {
	status   int
	location string
	cookies  []string // NAME=VALUE of each that is set
	body     []byte
}

// figures are what a turn of load says of a server, for each piece of work.
type figures struct {
	rate    float64 // how many were done in a second
	cpu     float64 // microseconds of processor time, the user's and the system's
	written float64 // bytes that went to the disk
}

// load sends requests to a server on that many connections, one at a time on each.
// It writes and reads HTTP/1.1 by hand: a client that costs more than the server
// would measure itself.
//
// It measures for that long, or until about so many pieces of work are done; 0 is
// any number.
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

// usage is what a process has used since it began.
type usage struct {
	cpu     time.Duration
	written int64 // bytes
}

// used returns what a process has used (proc(5), stat and io).
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

// busy returns how much processor time a process has taken (proc(5), stat).
func busy(pid int) (time.Duration, error) {
	const tick = time.Second / 100 // USER_HZ
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	var user, system int64
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]) // the name before may hold anything
	if len(fields) > 12 {
		_, err = fmt.Sscan(string(fields[11])+" "+string(fields[12]), &user, &system)
	} else {
		err = fmt.Errorf("/proc/%d/stat is too short", pid)
	}
	return time.Duration(user+system) * tick, err
}

// talk sends what request makes until that is io.EOF. Every request is answered
// and its reply handed to request, so that no refresh token is lost.
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

// read reads one answer. A status other than 200, 201 and 303 is an error.
func (a *reply) read(r *bufio.Reader) error {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return err
	}
	if len(line) < 12 {
		return fmt.Errorf("an answer begins with %q", line)
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
		return fmt.Errorf("an answer of status %d has no Content-Length", a.status)
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

// same is the same request again and again.
func same(wire string) next {
	return func(_ int, last *reply) ([]byte, bool, error) { return []byte(wire), last != nil, nil }
}

// get is the same GET again and again.
func get(path string) next { return same(getRequest(path, "")) }

// post is the same form again and again; header is none or lines that end in CRLF.
func post(path, header, form string) next { return same(formRequest(path, header, form)) }

func getRequest(path, header string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: localhost\r\n" + header + "\r\n"
}

func formRequest(path, header, form string) string {
	return "POST " + path + " HTTP/1.1\r\nHost: localhost\r\n" + header +
		"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: " + strconv.Itoa(len(form)) + "\r\n\r\n" + form
}
