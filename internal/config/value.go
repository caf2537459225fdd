package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/idna"

	"github.com/cardea-auth/cardea/internal/ledger"
	"github.com/cardea-auth/cardea/internal/limit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/upstream"
)

// parse parses text into the value that at points to. Its error reads well after the name of the key.
func parse(at any, text string) error {
	var err error
	switch at := at.(type) {
	case *string:
		*at = text
	case *bool:
		*at, err = strconv.ParseBool(text)
		if err != nil {
			err = errors.New("expected true or false")
		}
	case *int:
		*at, err = strconv.Atoi(text)
		if err != nil {
			err = errors.New("expected a whole number")
		}
	case *time.Duration:
		*at, err = ParseDuration(text)
	case *ledger.Retention:
		if *at = 0; text != "forever" {
			err = parse((*time.Duration)(at), text)
		}
		if err != nil || text != "forever" && *at <= 0 {
			err = fmt.Errorf("%.40q is not a time; write forever, or a time like 365d", text)
		}
	case *limit.Rate:
		*at, err = parseRate(text)
	case *slog.Level:
		err = parseLevel(at, text)
	case *[]netip.Prefix:
		*at, err = parsePrefixes(text)
	case *[]string:
		*at, err = parseHosts(text)
	case *Words:
		*at = words(text)
	case *[]upstream.Config:
		*at, err = providers.parse(text)
	case *[]ledger.Webhook:
		*at, err = webhooks.parse(text)
	default:
		panic(fmt.Sprintf("config: cannot parse %T", at))
	}
	return err
}

// format is the inverse of parse.
func format(at any) string {
	switch at := at.(type) {
	case *time.Duration:
		return oauth.Brief(*at)
	case *ledger.Retention:
		if *at == 0 {
			return "forever"
		}
		return oauth.Brief(time.Duration(*at))
	case *limit.Rate:
		return fmt.Sprintf("%d/%s", at.Burst,
			oauth.Brief((at.Every * time.Duration(at.Burst)).Round(time.Microsecond)))
	case *slog.Level:
		return strings.ToLower(at.String())
	case *[]netip.Prefix:
		var all []string
		for _, p := range *at {
			all = append(all, p.String())
		}
		return strings.Join(all, ", ")
	case *[]string:
		return strings.Join(*at, ", ")
	case *Words:
		return strings.Join(*at, ", ")
	case *[]upstream.Config:
		var all []string
		for _, p := range *at {
			all = append(all, p.ID)
		}
		return strings.Join(all, ", ")
	case *[]ledger.Webhook:
		var all []string
		for _, w := range *at {
			all = append(all, w.Name)
		}
		return strings.Join(all, ", ")
	case *string:
		return *at
	case *bool:
		return strconv.FormatBool(*at)
	case *int:
		return strconv.Itoa(*at)
	}
	panic(fmt.Sprintf("config: cannot format %T", at))
}

var days = regexp.MustCompile(`^(\d{1,5})d`)

// ParseDuration parses a Go duration that may begin with days: "90s", "30d", "1d12h". A negative one is an error. The
// error says how to write a duration.
func ParseDuration(text string) (time.Duration, error) {
	var whole, clock time.Duration
	var err error
	rest := text
	if m := days.FindStringSubmatch(text); m != nil {
		n, _ := strconv.Atoi(m[1]) // five digits
		whole, rest = time.Duration(n)*24*time.Hour, text[len(m[0]):]
	}
	if rest != "" || text == "" {
		clock, err = time.ParseDuration(rest)
	}
	if err != nil || clock < 0 || whole+clock < 0 {
		return 0, fmt.Errorf("%.40q is not a duration; write it like 90s, 10m, 1h30m or 30d", text)
	}
	return whole + clock, nil
}

// parseRate parses a rate such as "60/1m": 60 at once, then 60 per minute.
func parseRate(text string) (limit.Rate, error) {
	burst, per, ok := strings.Cut(text, "/")
	n, err := strconv.Atoi(strings.TrimSpace(burst))
	if !ok || err != nil || n < 1 {
		return limit.Rate{}, fmt.Errorf("%.40q is not a rate; write it like 60/1m", text)
	}
	d, err := ParseDuration(strings.TrimSpace(per))
	if err != nil || d < time.Duration(n) {
		return limit.Rate{}, fmt.Errorf("%.40q is not a rate; write it like 60/1m", text)
	}
	return limit.Rate{Every: d / time.Duration(n), Burst: n}, nil
}

func parseLevel(at *slog.Level, text string) error {
	switch text {
	case "debug", "info", "warn", "error":
		return at.UnmarshalText([]byte(text))
	}
	return fmt.Errorf("%.40q is not a log level; use debug, info, warn or error", text)
}

// host matches a name of ASCII labels, optionally with a leading "*." and a port.
var host = regexp.MustCompile(
	`^(\*\.)?([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]*[a-z0-9])?(:[1-9][0-9]{0,4})?$`)

// words splits text at commas and spaces.
func words(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}

// parseHosts parses host names separated by commas or spaces.
func parseHosts(text string) ([]string, error) {
	all := words(text)
	for i, item := range all {
		all[i] = strings.ToLower(item)
		name, _, _ := strings.Cut(strings.TrimPrefix(all[i], "*."), ":")
		switch ascii, err := idna.Lookup.ToASCII(name); {
		case host.MatchString(all[i]):
		case err == nil && ascii != name && host.MatchString(ascii):
			return nil, fmt.Errorf("%.60q is an internationalized name; write its DNS form: %s", item,
				strings.Replace(all[i], name, ascii, 1))
		default:
			return nil, fmt.Errorf("%.60q is not a host; write it like example.com, *.example.com or example.com:8443",
				item)
		}
	}
	return all, nil
}

// parsePrefixes parses networks and single addresses separated by commas or spaces.
func parsePrefixes(text string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, item := range words(text) {
		if addr, err := netip.ParseAddr(item); err == nil {
			all = append(all, netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()))
			continue
		}
		prefix, err := netip.ParsePrefix(item)
		if err != nil {
			return nil, fmt.Errorf("%.60q is not a network; write it like 10.0.0.0/8 or ::1", item)
		}
		all = append(all, prefix.Masked())
	}
	return all, nil
}
