package main

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cardea-auth/cardea/guard"
	"github.com/cardea-auth/cardea/guard/guardtest"
)

const (
	manyTokens = 64 // of which a guard that remembers few knows none
	manyLists  = 50
	grantsEach = 1 << 20 // places in a status list
	revokedOne = 1000    // one in that many is revoked
	changedOne = 10      // one poll in that many finds that a list has changed
	watchFor   = 6 * time.Second
)

// watch prints the third table: what a guard costs an MCP server. The pieces of work take turns.
func watch(ctx context.Context, turns int) error {
	issuer := guardtest.NewIssuer()
	defer issuer.Close()
	lists := statusLists(issuer)
	defer lists.Close()
	forgetful, err := guardOf(lists.URL, manyTokens/2)
	if err != nil {
		return err
	}
	knowing, err := guardOf(lists.URL, 0)
	if err != nil {
		return err
	}
	tokens := make([]string, manyTokens)
	for i := range tokens {
		tokens[i] = tokenAt(issuer, lists.URL, "/list/0", 2*i)
	}
	var set jose.JSONWebKeySet
	if err := read(ctx, issuer.URL+"/.well-known/jwks", &set); err != nil {
		return err
	}
	var signatures, first, again []float64
	for range turns {
		cost, err := each(200, func(i int) error {
			signed, err := jose.ParseSignedCompact(tokens[i%manyTokens], []jose.SignatureAlgorithm{jose.ES256})
			if err == nil {
				_, err = signed.Verify(set.Keys[0].Key)
			}
			return err
		})
		if err != nil {
			return err
		}
		signatures = append(signatures, cost)
		if cost, err = each(200,
			func(i int) error { return verify(ctx, forgetful, tokens[i%manyTokens]) }); err != nil {
			return err
		}
		first = append(first, cost/signatures[len(signatures)-1])
		if cost, err = each(20_000, func(int) error { return verify(ctx, knowing, tokens[0]) }); err != nil {
			return err
		}
		again = append(again, cost)
	}

	follower, err := guardOf(lists.URL, 0)
	if err != nil {
		return err
	}
	if err := verify(ctx, follower, tokens[0]); err != nil {
		return err
	}
	before := heap()
	for i := range manyLists {
		token := tokenAt(issuer, lists.URL, "/list/"+strconv.Itoa(i+1), 2*i)
		if err := verify(ctx, follower, token); err != nil {
			return err
		}
	}
	memory := float64(heap()-before) / manyLists / 1000
	asked, spent := lists.asked.Load(), processor()
	time.Sleep(watchFor) // while the guard polls
	poll := float64((processor() - spent).Nanoseconds()) / 1000 / float64(max(1, lists.asked.Load()-asked))
	runtime.KeepAlive(follower)

	fmt.Printf("\nmedians of %d turns; the processor time that a guard costs, with status lists of %d grants, one in "+
		"%d revoked; a signature check takes %.0f µs\n\n", turns, grantsEach, revokedOne, median(signatures))
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	above := false
	for _, row := range []struct {
		name           string
		value, ceiling float64
		unit           string
	}{
		{"first validation / signature check", median(first), 1.2, ""},
		{"a remembered token", median(again), 2.5, " µs"},
		{fmt.Sprintf("a poll, one in %d of which finds a change", changedOne), poll, 1000, " µs"},
		{"a list in memory", memory, 1000, " KB"},
	} {
		verdict := "ok"
		if row.value > row.ceiling {
			above, verdict = true, "ABOVE"
		}
		fmt.Fprintf(table, "%s\t%.2f%s\t%.4g%s\t%s\t\n", row.name, row.value, row.unit, row.ceiling, row.unit, verdict)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if above {
		return errMissed
	}
	return nil
}

// each returns how many microseconds of processor time one of n calls of work took.
func each(n int, work func(i int) error) (micros float64, err error) {
	began := processor()
	for i := range n {
		if err := work(i); err != nil {
			return 0, err
		}
	}
	return float64((processor() - began).Nanoseconds()) / 1000 / float64(n), nil
}

// processor returns the processor time that this process has taken.
func processor() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func verify(ctx context.Context, g *guard.Guard, token string) error {
	_, err := g.Verify(ctx, token)
	return err
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func guardOf(issuer string, remember int) (*guard.Guard, error) {
	return guard.New(guard.Config{Issuer: issuer, Resource: resource, Remember: remember,
		Logger: slog.New(slog.DiscardHandler)})
}

func tokenAt(issuer *guardtest.Issuer, url, list string, index int) string {
	return issuer.Token(guardtest.Claims{Audience: resource, Scope: weather, TTL: time.Hour, Extra: map[string]any{
		"iss":    url,
		"status": map[string]any{"status_list": map[string]any{"idx": index, "uri": url + list}}}})
}

// listServer is an issuer with many lists.
type listServer struct {
	*httptest.Server
	asked atomic.Int64 // requests for a list
}

// statusLists returns an issuer with many lists, whose keys are those of issuer.
func statusLists(issuer *guardtest.Issuer) *listServer {
	statuses := make([]byte, grantsEach/8)
	state := uint32(1)
	for index := 1; index < grantsEach; index += revokedOne { // one in each group, at odd places only
		state = state*1664525 + 1013904223
		if at := index + 2*(int(state>>16)%(revokedOne/2-1)); at < grantsEach {
			statuses[at/8] |= 1 << (at % 8)
		}
	}
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	_, _ = z.Write(statuses)
	_ = z.Close()
	lst := base64.RawURLEncoding.EncodeToString(packed.Bytes())
	server := httptest.NewUnstartedServer(nil)
	url := "http://" + server.Listener.Addr().String()
	documents, lists := map[string][]byte{}, &listServer{}
	for i := range manyLists + 1 {
		path := "/list/" + strconv.Itoa(i)
		documents[path] = []byte(issuer.Sign(map[string]any{"typ": "statuslist+jwt"}, map[string]any{"sub": url + path,
			"iat": time.Now().Unix(), "status_list": map[string]any{"bits": 1, "lst": lst}}))
	}
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/.well-known/") {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"%s/.well-known/jwks"}`, url, issuer.URL)
			return
		}
		w.Header().Set("ETag", `"1"`)
		if n := lists.asked.Add(1); r.Header.Get("If-None-Match") != "" && n%changedOne != 0 {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("Content-Type", "application/statuslist+jwt")
		_, _ = w.Write(documents[r.URL.Path])
	})
	server.Start()
	lists.Server = server
	return lists
}

// read fetches a JSON document into v.
func read(ctx context.Context, url string, v any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(url + " answers " + resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(v)
}
