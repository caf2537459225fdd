package audit_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/cardea-auth/cardea/internal/audit"
)

var names = audit.Names{Client: "Claude Code", Person: "Ada", Resource: "Weather"}

func TestSentence(t *testing.T) {
	const mcp = "https://mcp.example.com/mcp"
	by := audit.Actor{Type: audit.ByCommand, ID: "root", Name: "root@host"}
	operator := func(e audit.Event) audit.Event {
		e.Actor = by
		return e
	}
	token := audit.TokenRequest("mcp_1", "refresh_token")
	token.UserID, token.Resource, token.Scope = "usr_1", mcp, "a b"
	for _, c := range []struct {
		event audit.Event
		names audit.Names
		want  string
	}{
		{audit.Code("mcp_1", "usr_1", "grt_1", mcp, "mcp:tools:calendar:read", false).With("for", "90 days").Allow(),
			names,
			"Ada allowed Claude Code to use mcp:tools:calendar:read at Weather for 90 days"},
		{audit.Code("mcp_1", "usr_1", "grt_1", mcp, "a b c", true).Allow(), names,
			"Ada allowed Claude Code to use a, b and c at Weather, as before, and was not asked again"},
		{audit.Denial("mcp_1", "usr_1", mcp).Refuse("access_denied", "the person said no"), names,
			"Ada did not let Claude Code in at Weather"},
		{audit.Consent("mcp_1", "usr_1", mcp, "").Refuse("access_denied", "the person is not entitled"), names,
			"Claude Code was not let in at Weather, because the person is not entitled"},
		{token.Allow(), names, "Claude Code obtained a token for Ada at Weather with a and b (with its refresh token)"},
		{token.Refuse("invalid_grant", "the grant has ended"), names,
			"The refresh token of Claude Code for Ada was refused because the grant has ended"},
		{token.Refuse("invalid_grant", "the grant has ended"), audit.Names{},
			"The refresh token of mcp_1 for usr_1 was refused because the grant has ended"},
		{audit.Reuse("mcp_1", "usr_1", "grt_1", "refresh_token").Refuse("invalid_grant", "it was used before"), names,
			"A refresh token of Claude Code for Ada was used a second time, perhaps by a thief; it was refused " +
				"because it was used before"},
		{audit.SignIn("").Refuse("access_denied", "the password is wrong"), audit.Names{},
			"Signing in was refused because the password is wrong"},
		{operator(audit.Client("approve", "mcp_1").Allow()), names, "root@host approved the client Claude Code"},
		{operator(audit.Client("rotate_secret", "mcp_1").Allow()), names,
			"root@host gave the client Claude Code a new secret"},
		{operator(audit.User("enable", "usr_1").Allow()), names, "root@host enabled the account of Ada again"},
		{operator(audit.Resource("update", mcp).
			Changed(map[string]string{"name": "a", "alg": "x"}, map[string]string{"name": "b", "alg": "x"}).Allow()),
			names, "root@host changed the name of the MCP server Weather"},
		{operator(audit.User("update", "usr_1").
			Changed(map[string]string{"role": "", "name": "a"},
				map[string]string{"role": "operator", "name": "a"}).Allow()),
			names, "root@host changed the role of the account of Ada from none to operator"},
		{operator(audit.User("update", "usr_1").
			Changed(map[string]string{"role": "owner", "name": "a"},
				map[string]string{"role": "", "name": "b"}).Allow()),
			names, "root@host changed the name and role of the account of Ada"},
		{operator(audit.User("delete", "usr_1").With("grants_ended", "2").Allow()), audit.Names{},
			"root@host deleted the account of usr_1; 2 grants ended with it"},
		{operator(audit.Grant("grt_1", "mcp_1", "usr_1", "operator").Allow()), names,
			"The access of Claude Code for Ada ended because root@host ended it"},
		{operator(audit.User("delete", "usr_1").Refuse("access_denied", "your role is too low")), names,
			"root@host may not delete the account of Ada: your role is too low"},
		{operator(audit.Group("add", "staff", "usr_1").Allow()), names, "root@host added Ada to the group staff"},
		{audit.Management("update", "mcp_1").Allow(), names, "Claude Code changed its own registration"},
		{audit.Limited("address", 12), names, "12 requests were refused because there were too many of them (address)"},
		{audit.SignIn("usr_1").Refuse("access_denied", "wrong"), audit.Names{Person: "{why} [x {actor}]"},
			"Signing in as {why} [x {actor}] was refused because wrong"},
		{audit.Event{Action: "x.unheard_of", Outcome: audit.Allowed, Actor: by}, audit.Names{},
			"root@host: x.unheard_of"},
		{audit.Code("mcp_1", "usr_1", "grt_1", mcp, "a b offline_access x", false).Allow(),
			audit.Names{Client: "Claude Code", Person: "Ada", Scope: inWords},
			"Ada allowed Claude Code to use “Read, and list”, “Write mail” and x at " + mcp},
		{audit.Code("mcp_1", "usr_1", "grt_1", mcp, "a b c d e f g h", false).Allow(),
			audit.Names{Client: "Claude Code", Person: "Ada", Scope: inWords},
			"Ada allowed Claude Code to use “Read, and list”, “Write mail”, c, d, e and 3 more permissions at " + mcp},
	} {
		if got := c.event.Sentence(c.names); got != c.want {
			t.Errorf("%s:\n got %q\nwant %q", c.event.Action, got, c.want)
		}
	}
}

// inWords is an audit.Names.Scope.
func inWords(name string) string {
	switch name {
	case "a":
		return "Read, and list"
	case "b":
		return "Write\u202e mail\n"
	case "offline_access":
		return ""
	}
	return name
}

// AD-08, AD-09: what strangers chose has nothing in a sentence that a terminal or a page would obey.
func TestAD08SentenceIsClean(t *testing.T) {
	evil := "\x1b[31m{why}[x]\u202e\r\n\x00=cmd|\u200b" + strings.Repeat("A", 5000)
	for _, outcome := range []audit.Outcome{audit.Allowed, audit.Refused} {
		for _, e := range []audit.Event{
			audit.Registration(evil, evil, true), audit.TokenRequest(evil, evil), audit.ForeignForm(evil, evil),
			audit.Revocation(evil, evil, evil), audit.InitialAccessToken("create", evil, evil),
			{Action: evil, Reason: evil},
		} {
			e.Outcome, e.Scope, e.Resource, e.UserID, e.Description = outcome, evil, evil, evil, evil
			e.Actor = audit.Actor{Type: audit.ByClient, ID: evil, Name: evil}
			for _, n := range []audit.Names{{}, {Client: evil, Person: evil, Resource: evil}} {
				got := e.Sentence(n)
				if i := strings.IndexFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
					t.Errorf("%q", got)
				}
				if len(got) > 2500 {
					t.Errorf("%d bytes", len(got))
				}
			}
		}
	}
}

func TestLater(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "", 999 * time.Millisecond: "", time.Second: "1 second later",
		14*time.Minute + 30*time.Second: "14 minutes later",
		26 * time.Hour:                  "1 day later", -time.Hour: "",
	} {
		if got := audit.Later(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

// recorded returns every action that the code records: those that the constructors of the package make with the verbs
// they are called with, and those that package admin passes on for a refusal.
func recorded(t *testing.T) []string {
	t.Helper()
	constructors := map[string]string{} // by name, the begin of the action if a verb follows
	text, err := os.ReadFile("decisions.go")
	if err != nil {
		t.Fatal(err)
	}
	actions := []string{audit.Issued, audit.SignedIn}
	made := regexp.MustCompile(`(?s)^([A-Z]\w*)\(.*?Action: +"([a-z_.]+)"( \+)?`)
	for function := range strings.SplitSeq(string(text), "\nfunc ") {
		if m := made.FindStringSubmatch(function); m == nil {
			continue
		} else if m[3] != "" {
			constructors[m[1]] = m[2]
		} else {
			actions = append(actions, m[2])
		}
	}
	literal := regexp.MustCompile(`"([a-z_]+\.[a-z_]+)"`)
	called := regexp.MustCompile(`audit\.(\w+)\("([a-z_]+)"`)
	helper := regexp.MustCompile(`o\.change(\w+)\(ctx, by, "([a-z_]+)"`)
	conclude := regexp.MustCompile(`(?:o\.change|o\.permit|audit\.Event\{Action:)\(?[^\n]*`)
	err = filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path) // #nosec G122 -- the repository's own files
		for _, m := range called.FindAllStringSubmatch(string(source), -1) {
			if begin, ok := constructors[m[1]]; ok {
				actions = append(actions, begin+m[2])
			}
		}
		for _, m := range helper.FindAllStringSubmatch(string(source), -1) {
			noun := strings.ToLower(m[1])
			if noun == "member" {
				noun = "group"
			}
			actions = append(actions, noun+"."+m[2])
		}
		for _, line := range conclude.FindAllString(string(source), -1) {
			for _, m := range literal.FindAllStringSubmatch(line, -1) {
				actions = append(actions, m[1])
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(actions)
	actions = slices.Compact(actions)
	if len(actions) < 35 {
		t.Errorf("only %d actions were found: %v", len(actions), actions)
	}
	return actions
}

// Every action that the code records has words.
func TestEveryActionIsTold(t *testing.T) {
	for _, action := range recorded(t) {
		for _, outcome := range []audit.Outcome{audit.Allowed, audit.Refused} {
			e := audit.Event{Action: action, Outcome: outcome}
			if !e.Told() {
				t.Errorf("%s has no words: add it to stories, or its noun to things and its verb to verbs", action)
			}
			if s := e.Sentence(audit.Names{}); strings.ContainsAny(s, "{}[]%") {
				t.Errorf("%s %s: %q", action, outcome, s)
			}
		}
	}
}

// Every action that the code records stands in a test of another package, which causes it.
func TestEveryActionIsCaused(t *testing.T) {
	word := regexp.MustCompile(`[a-z_]+\.[a-z_]+`)
	caused := map[string]bool{"apply": true, "export": true, "restore": true} // which are ordinary words too
	for _, root := range []string{"../../internal", "../../cmd"} {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || filepath.Dir(path) == "../../internal/audit" ||
				!strings.HasSuffix(path, "_test.go") && !strings.HasSuffix(path, ".txtar") {
				return err
			}
			text, err := os.ReadFile(path) // #nosec G122 -- the repository's own files
			for _, found := range word.FindAllString(string(text), -1) {
				caused[found] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, action := range recorded(t) {
		if !caused[action] {
			t.Errorf("no test has %s: cause it, and look at who, what and the outcome", action)
		}
	}
}
