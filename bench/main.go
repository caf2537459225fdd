// Command bench compares Cardea with a minimal server for the same work (limit.go), alternating in one run and on the
// same core, so that the ratio is comparable between machines. It runs the real binary with its default settings,
// except that the rate limits are off, and fails if a ratio is below its floor.
//
// Linux only: it uses taskset to run the servers on core 0 and the load on core 1.
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
		alone   = flag.Bool("guard", false, "print only the third table")
		passing = flag.Bool("gateway", false, "print only the last two tables")
		limitAt = flag.String("limit", "", "only serve the limit on this `address`")
		proxied = flag.String("proxy", "", "with -limit, serve a proxy for this `URL` in place of the limit")
		binary  = flag.String("cardea", "bin/cardea", "the `program` to measure")
		dir     = flag.String("dir", "", "`folder` of the databases, on the disk to measure (default: a temporary one)")
		seconds = flag.Duration("time", 2*time.Second, "length of one turn")
		turns   = flag.Int("turns", 7, "number of turns of each side, which alternate; the results are medians")
		only    = flag.Bool("pieces", false, "leave the first table out")
		scaled  = flag.Bool("scale", false, "print only how long the pages of a large installation take")
		dsn     = flag.String("database", "", "with -scale, the `database`, which is filled if it is empty and kept "+
			"(default: a file in -dir)")
		large sizes
	)
	flag.IntVar(&large.clients, "clients", 1_000_000, "with -scale, the `number` of clients")
	flag.IntVar(&large.grants, "grants", 1_000_000, "with -scale, the `number` of grants")
	flag.IntVar(&large.people, "people", 100_000, "with -scale, the `number` of people")
	flag.IntVar(&large.events, "events", 10_000_000, "with -scale, the `number` of events")
	flag.Parse()
	err := error(nil)
	switch {
	case *limitAt != "":
		err = serveLimit(*limitAt, *dir, *proxied)
	case *scaled:
		err = scale(context.Background(), *binary, *dir, *dsn, large, *turns)
	case *alone:
		err = watch(context.Background(), *turns)
	case *passing:
		err = pass(context.Background(), *binary, *dir, *seconds, *turns)
	default:
		err = run(context.Background(), *binary, *dir, *seconds, *turns, *only)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// contest is one line of the first table: Cardea compared with the minimal server.
type contest struct {
	name       string
	ours, bare next
	against    string
	floor      float64
}

// piece is one line of the second table: work whose processor time is given as a multiple of that of another one.
type piece struct {
	name        string
	connections int
	most        int // maximum number in a turn; 0: as many as possible
	work        next
	times       string // the piece of work to compare with: an earlier piece, or "limit"
	ceiling     float64
}

var errMissed = errors.New("a share is below its floor, or a multiple above its ceiling")

func run(ctx context.Context, binary, parent string, seconds time.Duration, turns int, only bool) error {
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
	env := append(os.Environ(), "GOMAXPROCS=1", "CARDEA_DATA_DIR="+filepath.Join(dir, "cardea"),
		"CARDEA_LISTEN="+ourAddress, "CARDEA_ISSUER="+issuer,
		"CARDEA_LIMITS_ENABLED=false")
	who, err := provision(ctx, binary, env)
	if err != nil {
		return err
	}
	people := cohorts()
	if err := history(ctx, filepath.Join(dir, "cardea"), who.app, people); err != nil {
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
	bare, err := start(ctx, env, filepath.Join(dir, "limit.log"), bareAddress, "/hello", self, "-limit", bareAddress,
		"-dir", dir)
	if err != nil {
		return err
	}
	defer bare.stop()
	contests, err := prepare(ctx, ours, who, people[0])
	if err != nil {
		return err
	}
	if only {
		contests = nil
	}
	return errors.Join(compare(ours, bare, contests, seconds, turns),
		weigh(ours, bare, pieces(who, people), seconds, turns), watch(ctx, turns),
		pass(ctx, binary, parent, seconds, turns))
}

// compare prints the first table.
func compare(ours, bare server, contests []contest, seconds time.Duration, turns int) error {
	fmt.Printf("%d connections, %d turns of %s each, medians; requests per second, and the server's processor time "+
		"per request\n\n", connections, turns, seconds)
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\tcardea\tbare\tshare\tfloor\t\tcardea\tbare\t")
	below := false
	for _, c := range contests {
		var ourRates, bareRates, shares, ourCPU, bareCPU []float64
		for range turns {
			our, err := load(ours, seconds, 0, connections, c.ours)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			least, err := load(bare, seconds, 0, connections, c.bare)
			if err != nil {
				return fmt.Errorf("%s: %w", c.against, err)
			}
			ourRates, ourCPU = append(ourRates, our.rate), append(ourCPU, our.cpu)
			bareRates, bareCPU = append(bareRates, least.rate), append(bareCPU, least.cpu)
			// Use two neighbouring turns, so that other load of the machine affects both.
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
		return errMissed
	}
	return nil
}

// weigh prints the second table. The pieces take turns, so that other load of the machine affects all of them.
func weigh(ours, bare server, pieces []piece, seconds time.Duration, turns int) error {
	cpu, written := map[string][]float64{}, map[string][]float64{}
	rates, multiples := map[string][]float64{}, map[string][]float64{}
	for range turns {
		least, err := load(bare, seconds, 0, connections, post("/token", "", "grant_type=client_credentials"))
		if err != nil {
			return err
		}
		turn := map[string]float64{"limit": least.cpu}
		for _, p := range pieces {
			f, err := load(ours, seconds, p.most, p.connections, p.work)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			turn[p.name] = f.cpu
			cpu[p.name], written[p.name] = append(cpu[p.name], f.cpu), append(written[p.name], f.written)
			rates[p.name] = append(rates[p.name], f.rate)
			multiples[p.name] = append(multiples[p.name], f.cpu/turn[p.times])
		}
	}
	fmt.Printf("\nmedians; for each piece of work, the processor time, also as a multiple of another one, and the " +
		"bytes written\n\n")
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\tconnections\ta second\tprocessor\tmultiple\tceiling\t\twritten\t")
	above := false
	for _, p := range pieces {
		multiple, verdict := median(multiples[p.name]), "ok"
		if multiple > p.ceiling {
			above, verdict = true, "ABOVE"
		}
		fmt.Fprintf(table, "%s / %s\t%d\t%.0f\t%.0f µs\t%.2f\t%.2f\t%s\t%.1f KB\t\n", p.name, p.times, p.connections,
			median(rates[p.name]), median(cpu[p.name]), multiple, p.ceiling, verdict, median(written[p.name])/1000)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if above {
		return errMissed
	}
	return nil
}

// pieces returns code flows of people with more and more earlier grants, and a registration.
func pieces(who parties, people []*cohort) []piece {
	var all []piece
	against, ceiling := "limit", 39.0
	for _, c := range people {
		name := fmt.Sprintf("code flow, %d grants before", c.grants)
		all = append(all, piece{name, flows, 0, flow(who.app, c), against, ceiling})
		if against == "limit" {
			against, ceiling = name, 1.15
		}
	}
	return append(all, piece{"registration", connections, registrations, registration(), "limit", 2.5})
}

// prepare returns the requests, each of which must have the status 200.
func prepare(ctx context.Context, ours server, who parties, people *cohort) ([]contest, error) {
	chains, err := grants(ours.address, who.app, people)
	if err != nil {
		return nil, err
	}
	credentials := url.Values{"grant_type": {"client_credentials"}, "scope": {weather}, "resource": {resource}}
	checked, err := redeem(ctx, "http://"+ours.address, who.bot.basic(), credentials)
	if err != nil {
		return nil, err
	}
	refresh := func(connection int, last *reply) ([]byte, bool, error) {
		if last != nil {
			var t tokens
			if err := json.Unmarshal(last.body, &t); err != nil {
				return nil, false, err
			}
			chains[connection] = t.RefreshToken
		}
		form := "grant_type=refresh_token&client_id=" + who.app.ClientID + "&refresh_token=" + chains[connection]
		return []byte(formRequest("/oauth2/token", "", form)), last != nil, nil
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

// server is a server that start has started.
type server struct {
	address string
	pid     int
	stop    func()
}

// start runs a server on core 0 and waits until it responds to a GET of ready.
func start(ctx context.Context, env []string, log, address, ready, program string,
	arguments ...string) (s server, err error) {
	out, err := os.Create(log) // #nosec G304 -- in the temporary folder of the bench
	if err != nil {
		return s, err
	}
	defer func() { _ = out.Close() }()
	arguments = append([]string{"-c", "0", program}, arguments...)
	process := exec.CommandContext(ctx, "taskset", arguments...) // #nosec G204 -- the operator's binary
	process.Env, process.Stdout, process.Stderr = env, out, out
	if err := process.Start(); err != nil {
		return s, err
	}
	s = server{address, process.Process.Pid, func() { // taskset becomes the program
		_ = process.Process.Kill()
		_ = process.Wait() // returns an error because the process was killed
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
	return s, fmt.Errorf("%s does not respond: %s", program, said)
}

// addresses returns two free loopback addresses.
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
