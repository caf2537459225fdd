// Command alerts checks what Prometheus and Grafana run of Cardea with the engine of Prometheus: that the alerts fire
// and stay silent as their tests say, that each has a test in which it fires, and that a running server has what alerts
// and dashboard ask for.
//
//	alerts RULES TESTS [DASHBOARD SCRAPE]
//
// TESTS is a file of promtool test rules. SCRAPE is what /metrics of a server answers that is well and was used.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
	"go.yaml.in/yaml/v3"
)

func main() {
	err := errors.New("usage: alerts RULES TESTS [DASHBOARD SCRAPE]")
	switch len(os.Args) {
	case 3:
		err = test(os.Args[1], os.Args[2])
	case 5:
		err = errors.Join(test(os.Args[1], os.Args[2]), scraped(os.Args[1], os.Args[3], os.Args[4]))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "alerts:", err)
		os.Exit(1)
	}
}

// tests is a file of promtool test rules, as far as it is used.
type tests struct {
	RuleFiles []string `yaml:"rule_files"`
	Every     duration `yaml:"evaluation_interval"`
	Tests     []struct {
		Name   string   `yaml:"name"`
		Every  duration `yaml:"interval"`
		Series []struct {
			Series string `yaml:"series"`
			Values string `yaml:"values"`
		} `yaml:"input_series"`
		Alerts []struct {
			At       duration `yaml:"eval_time"`
			Name     string   `yaml:"alertname"`
			Expected []struct {
				Labels map[string]string `yaml:"exp_labels"`
				Notes  map[string]string `yaml:"exp_annotations"`
			} `yaml:"exp_alerts"`
		} `yaml:"alert_rule_test"`
	} `yaml:"tests"`
}

type duration time.Duration

func (d *duration) UnmarshalYAML(n *yaml.Node) error {
	parsed, err := model.ParseDuration(n.Value)
	*d = duration(parsed)
	return err
}

// loaded is a database with the series of a text, and the rules of a file that ask it.
type loaded struct {
	*promqltest.LazyLoader
	start  time.Time // of the series
	groups []*rules.Group
}

func load(file, series string, start time.Time) (*loaded, error) {
	suite, err := promqltest.NewLazyLoader(series, promqltest.LazyLoaderOpts{StartTime: start})
	if err != nil {
		return nil, err
	}
	manager := rules.NewManager(&rules.ManagerOptions{
		QueryFunc: rules.EngineQueryFunc(suite.QueryEngine(), suite.Storage()), AppendableV2: suite.Storage(),
		Context: context.Background(), NotifyFunc: func(context.Context, string, ...*rules.Alert) {},
		Logger: slog.New(slog.DiscardHandler), Parser: parser.NewParser(parser.Options{}),
	})
	groups, errs := manager.LoadGroups(time.Minute, labels.EmptyLabels(), "", nil, false, file)
	if errs != nil {
		return nil, errors.Join(errors.Join(errs...), suite.Close())
	}
	l := &loaded{LazyLoader: suite, start: start}
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		l.groups = append(l.groups, groups[name])
	}
	return l, nil
}

// alerts calls visit with each alert.
func (l *loaded) alerts(visit func(*rules.AlertingRule)) {
	for _, group := range l.groups {
		for _, rule := range group.Rules() {
			if alert, ok := rule.(*rules.AlertingRule); ok {
				visit(alert)
			}
		}
	}
}

// until evaluates all rules up to a time, and calls at after each time.
func (l *loaded) until(end, every time.Duration, at func(time.Duration) error) (err error) {
	l.alerts(func(alert *rules.AlertingRule) { alert.SetRestored(true) })
	for now := time.Duration(0); now <= end; now += every {
		ts := l.start.Add(now)
		l.WithSamplesTill(ts, func(loading error) {
			err = errors.Join(err, loading)
			for _, group := range l.groups {
				group.Eval(l.Context(), ts)
				for _, rule := range group.Rules() {
					if fault := rule.LastError(); fault != nil {
						err = errors.Join(err, fmt.Errorf("%s: %w", rule.Name(), fault))
					}
				}
			}
		})
		if err = errors.Join(err, at(now)); err != nil {
			return err
		}
	}
	return nil
}

// firing returns the labels of the alerts of a name that fire, and their annotations.
func (l *loaded) firing(name string) (found []map[string]string, notes []map[string]string) {
	l.alerts(func(alert *rules.AlertingRule) {
		for _, active := range alert.ActiveAlerts() {
			if alert.Name() == name && active.State == rules.StateFiring {
				found = append(found, active.Labels.Map())
				notes = append(notes, active.Annotations.Map())
			}
		}
	})
	return found, notes
}

// test runs the tests of a file on the alerts of another.
func test(file, with string) error {
	text, err := os.ReadFile(with)
	if err != nil {
		return err
	}
	var all tests
	decoder := yaml.NewDecoder(strings.NewReader(string(text)))
	decoder.KnownFields(true)
	if err := decoder.Decode(&all); err != nil {
		return err
	}
	var errs []error
	fires, names := map[string]bool{}, map[string]bool{}
	for _, t := range all.Tests {
		series := "load " + model.Duration(t.Every).String() + "\n"
		for _, s := range t.Series {
			series += "  " + s.Series + " " + s.Values + "\n"
		}
		l, err := load(file, series, time.Unix(0, 0).UTC())
		if err != nil {
			return err
		}
		l.alerts(func(alert *rules.AlertingRule) { names[alert.Name()] = true })
		end := time.Duration(0)
		for _, a := range t.Alerts {
			end = max(end, time.Duration(a.At))
		}
		err = l.until(end, time.Duration(all.Every), func(now time.Duration) (err error) {
			for _, a := range t.Alerts {
				if time.Duration(a.At) != now {
					continue
				}
				got, notes := l.firing(a.Name)
				if len(got) != len(a.Expected) {
					err = errors.Join(err, fmt.Errorf("%s: at %s, %d of %s fire, want %d: %v",
						t.Name, now, len(got), a.Name, len(a.Expected), got))
					continue
				}
				for _, want := range a.Expected {
					fires[a.Name] = true
					labels := maps.Clone(want.Labels)
					if labels == nil {
						labels = map[string]string{}
					}
					labels["alertname"] = a.Name
					i := slices.IndexFunc(got, func(g map[string]string) bool { return maps.Equal(g, labels) })
					if i < 0 {
						err = errors.Join(err, fmt.Errorf("%s: at %s, %s fires with %v, want %v",
							t.Name, now, a.Name, got, labels))
						continue
					}
					for name, text := range want.Notes {
						if notes[i][name] != text {
							err = errors.Join(err, fmt.Errorf("%s: %s of %s is %q, want %q", t.Name, name, a.Name,
								notes[i][name], text))
						}
					}
				}
			}
			return err
		})
		errs = append(errs, err, l.Close())
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if !fires[name] {
			errs = append(errs, fmt.Errorf("%s: there is no test in which it fires", name))
		}
	}
	fmt.Println(file, "has", len(names), "alerts, which", len(all.Tests), "tests of", with, "judge")
	return errors.Join(errs...)
}

// sample is a line of what a server answers to a scrape.
var sample = regexp.MustCompile(`(?m)^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? ([^ \n]+)$`)

// variables of the dashboard, and what Grafana writes in their place.
var variables = strings.NewReplacer("$instance", ".*", "$__rate_interval", "5m", "$__range", "1h")

// onlyHTTPS is a metric that a server has only if it serves HTTPS by itself.
const onlyHTTPS = "cardea_tls_certificate_expires_timestamp_seconds"

// scraped checks that each query of a dashboard, and what each alert asks for, has data at a server that was scraped,
// and that no alert fires there.
func scraped(file, dashboard, scrape string) error {
	text, err := os.ReadFile(scrape)
	if err != nil {
		return err
	}
	var series strings.Builder
	series.WriteString("load 1m\n  up{instance=\"a:9090\",job=\"cardea\"} 1+0x30\n")
	for _, m := range sample.FindAllStringSubmatch(string(text), -1) {
		value, err := strconv.ParseFloat(m[3], 64)
		if err != nil || math.IsInf(value, 0) {
			return fmt.Errorf("%s: %s", scrape, m[0])
		}
		own := strings.TrimSuffix(m[2], ",")
		if own != "" {
			own += ","
		}
		fmt.Fprintf(&series, "  %s{%sinstance=\"a:9090\",job=\"cardea\"} %s+0x30\n", m[1], own,
			strconv.FormatFloat(value, 'f', -1, 64))
	}
	l, err := load(file, series.String(), time.Now().UTC().Truncate(time.Minute))
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	if err := l.until(30*time.Minute, time.Minute, func(time.Duration) error { return nil }); err != nil {
		return err
	}
	var errs []error
	ask := func(what, query string) {
		asked, err := l.QueryEngine().NewInstantQuery(l.Context(), l.Storage(), nil, query,
			l.start.Add(30*time.Minute))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
			return
		}
		defer asked.Close()
		answer := asked.Exec(l.Context())
		vector, err := answer.Vector()
		if err != nil || len(vector) == 0 {
			errs = append(errs, fmt.Errorf("%s: there is no data for %s: %v",
				what, query, errors.Join(answer.Err, err)))
		}
	}
	l.alerts(func(alert *rules.AlertingRule) {
		// At a server that is well, there is nothing that an alert compares with, so only its metrics are looked for.
		parser.Inspect(alert.Query(), func(n parser.Node, _ []parser.Node) error {
			if s, ok := n.(*parser.VectorSelector); ok && s.Name != onlyHTTPS {
				ask(alert.Name(), s.Name)
			}
			return nil
		})
		for _, active := range alert.ActiveAlerts() {
			errs = append(errs, fmt.Errorf("%s: it fires at a server that is well: %s", alert.Name(), active.Labels))
		}
	})
	var board struct {
		Panels []struct {
			Type, Title string
			Targets     []struct{ Expr string }
		}
	}
	if text, err = os.ReadFile(dashboard); err == nil {
		err = json.Unmarshal(text, &board)
	}
	queries := 0
	for _, panel := range board.Panels {
		if panel.Type != "row" && len(panel.Targets) == 0 {
			errs = append(errs, fmt.Errorf("%s: the panel has no query", panel.Title))
		}
		for _, target := range panel.Targets {
			queries++
			ask(panel.Title, variables.Replace(target.Expr))
		}
	}
	if queries == 0 {
		errs = append(errs, fmt.Errorf("%s: there is no query", dashboard))
	}
	fmt.Println(dashboard, "has", queries, "queries, which all have data unless it says otherwise")
	return errors.Join(append(errs, err)...)
}
