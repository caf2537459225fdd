// Command bench measures Cardea beside the least that could do the same work
// (limit.go), in turns within one run and on the same core, so that a share is
// good on any machine. It runs the real binary with its default settings, except
// that the rate limits are off, and fails when a share is below its floor.
//
// Linux only: the servers are kept on core 0 and the load on core 1 by taskset.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"
)

func main() {
	var (
		limitAt = flag.String("limit", "", "serve the limit on this `address`, and nothing else")
		binary  = flag.String("cardea", "bin/cardea", "the `program` to measure")
		dir     = flag.String("dir", "", "`folder` of the databases, on the disk to measure (default: a temporary one)")
		seconds = flag.Duration("time", 2*time.Second, "length of one turn")
		turns   = flag.Int("turns", 7, "turns of each side, which alternate; the medians count")
	)
	flag.Parse()
	err := error(nil)
	if *limitAt != "" {
		err = serveLimit(*limitAt, *dir)
	} else {
		err = run(context.Background(), *binary, *dir, *seconds, *turns)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// contest is one line of the table: ours against the bare one.
type contest struct {
	name       string
	ours, bare next
	against    string
	floor      float64
}

var errBelow = errors.New("a share is below its floor")

func run(ctx context.Context, binary, parent string, seconds time.Duration, turns int) error {
	dir, err := os.MkdirTemp(parent, "cardea-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ourAddress, bareAddress, err := addresses(ctx)
	if err != nil {
		return err
	}
	issuer := "http://" + ourAddress
	env := append(os.Environ(), "GOMAXPROCS=1", "CARDEA_DATA_DIR="+filepath.Join(dir, "cardea"), "CARDEA_LISTEN="+ourAddress, "CARDEA_ISSUER="+issuer,
		"CARDEA_LIMITS_ENABLED=false")
	who, err := provision(ctx, binary, env)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	ours, err := start(ctx, env, filepath.Join(dir, "cardea.log"), ourAddress, "/readyz", binary, "serve")
	if err != nil {
		return err
	}
	defer ours.stop()
	bare, err := start(ctx, env, filepath.Join(dir, "limit.log"), bareAddress, "/hello", self, "-limit", bareAddress, "-dir", dir)
	if err != nil {
		return err
	}
	defer bare.stop()
	contests, err := prepare(ctx, issuer, who)
	if err != nil {
		return err
	}

	fmt.Printf("%d connections, %d turns of %s each, medians; requests a second, and microseconds of the server's processor for one\n\n", connections, turns, seconds)
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\tcardea\tbare\tshare\tfloor\t\tcardea\tbare\t")
	below := false
	for _, c := range contests {
		var ourRates, bareRates, shares, ourCPU, bareCPU []float64
		for range turns {
			our, err := load(ours, seconds, c.ours)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			least, err := load(bare, seconds, c.bare)
			if err != nil {
				return fmt.Errorf("%s: %w", c.against, err)
			}
			ourRates, ourCPU = append(ourRates, our.rate), append(ourCPU, our.cpu)
			bareRates, bareCPU = append(bareRates, least.rate), append(bareCPU, least.cpu)
			// Of two neighbouring turns, so that what else the machine does weighs on both.
			shares = append(shares, our.rate/least.rate)
		}
		share, verdict := median(shares), "ok"
		if share < c.floor {
			below, verdict = true, "BELOW"
		}
		fmt.Fprintf(table, "%s / %s\t%.0f\t%.0f\t%.2f\t%.2f\t%s\t%.1f µs\t%.1f µs\t\n", c.name, c.against,
			median(ourRates), median(bareRates), share, c.floor, verdict, median(ourCPU), median(bareCPU))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if below {
		return errBelow
	}
	return nil
}

// prepare makes the requests, each of which must be answered with 200.
func prepare(ctx context.Context, issuer string, who parties) ([]contest, error) {
	chains, err := grants(ctx, issuer, who.app)
	if err != nil {
		return nil, err
	}
	credentials := url.Values{"grant_type": {"client_credentials"}, "scope": {weather}, "resource": {resource}}
	checked, err := redeem(ctx, issuer, who.bot.basic(), credentials)
	if err != nil {
		return nil, err
	}
	refresh := func(connection int, body []byte) ([]byte, error) {
		if body != nil {
			var t tokens
			if err := json.Unmarshal(body, &t); err != nil {
				return nil, err
			}
			chains[connection] = t.RefreshToken
		}
		form := "grant_type=refresh_token&client_id=" + who.app.ClientID + "&refresh_token=" + chains[connection]
		return []byte(formRequest("/oauth2/token", "", form)), nil
	}
	token, hello := post("/token", "", credentials.Encode()), get("/hello")
	introspect := post("/oauth2/introspect", who.server.basic(), "token="+checked.AccessToken)
	return []contest{
		{"client_credentials", post("/oauth2/token", who.bot.basic(), credentials.Encode()), token, "limit", 0.5},
		{"refresh", refresh, token, "limit", 0.3},
		{"introspection", introspect, hello, "hello", 0.2},
		{"JWKS", get("/.well-known/jwks"), hello, "hello", 0.7},
	}, nil
}

// server is one that start has started.
type server struct {
	address string
	pid     int
	stop    func()
}

// start runs a server on core 0 and waits until it answers a GET of ready.
func start(ctx context.Context, env []string, log, address, ready, program string, arguments ...string) (s server, err error) {
	out, err := os.Create(log) // #nosec G304 -- in our own temporary folder
	if err != nil {
		return s, err
	}
	defer func() { _ = out.Close() }()
	process := exec.CommandContext(ctx, "taskset", append([]string{"-c", "0", program}, arguments...)...) // #nosec G204 -- the operator's binary
	process.Env, process.Stdout, process.Stderr = env, out, out
	if err := process.Start(); err != nil {
		return s, err
	}
	s = server{address, process.Process.Pid, func() { // taskset becomes the program
		_ = process.Process.Kill()
		_ = process.Wait() // it was killed, and says so
	}}
	for range 100 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+ready, nil)
		if err != nil {
			s.stop()
			return s, err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return s, nil
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.stop()
	said, _ := os.ReadFile(log) // #nosec G304 -- as above
	return s, fmt.Errorf("%s does not answer: %s", program, said)
}

// addresses returns two free ones on the loopback.
func addresses(ctx context.Context) (first, second string, err error) {
	var free [2]string
	for i := range free {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return "", "", err
		}
		defer func() { _ = listener.Close() }()
		free[i] = listener.Addr().String()
	}
	return free[0], free[1], nil
}

func median(rates []float64) float64 {
	sorted := slices.Sorted(slices.Values(rates))
	return sorted[len(sorted)/2]
}
