package clients_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A protected MCP server of this very installation is added with its tools by one command, which signs in with the
// browser for a look at them.
func TestAddOwnServer(t *testing.T) {
	const weather, calendar, email = "mcp:tools:weather", "mcp:tools:calendar", "mcp:tools:email:send"
	tools := map[string][]string{
		"the demo": {"create_event " + calendar + ":write", "get_forecast " + weather,
			"list_events " + calendar + ":read",
			"send_email " + email},
		"the Node example": {"create_event " + calendar + ":write", "get_forecast " + weather},
		"the Go example":   {"get_forecast " + weather, "send_email " + email},
	}
	for name, server := range map[string]func(*testing.T) *demo{
		"the demo":         func(t *testing.T) *demo { return startDemo(t) },
		"the Node example": nodeExample,
		"the Go example":   goExample,
	} {
		t.Run(name, func(t *testing.T) {
			d := server(t)
			at := newDesk(t, newPerson(t, d.Email, d.Password))
			add := func(verb string) (tools []string) {
				t.Helper()
				cmd := exec.CommandContext(at.waits, cardea, "resource", verb, d.MCP, "--login")
				cmd.Env = append(environ(d.env...), at.env()...)
				var complaint strings.Builder
				cmd.Stderr = &complaint
				out, err := cmd.Output()
				if err != nil {
					t.Fatalf("%v\n%s%s", err, out, complaint.String())
				}
				for line := range strings.Lines(string(out)) {
					if f := strings.Fields(line); len(f) > 3 && f[1] == "reviewed" {
						tools = append(tools, f[0]+" "+f[3])
					}
				}
				slices.Sort(tools)
				return tools
			}
			added := add("add")
			if diff := cmp.Diff(tools[name], added); diff != "" {
				t.Errorf("tools (-want +added):\n%s", diff)
			}
			if diff := cmp.Diff(added, add("review")); diff != "" {
				t.Errorf("tools (-added +reviewed):\n%s", diff)
			}
		})
	}
}
