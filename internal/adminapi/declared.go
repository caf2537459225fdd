package adminapi

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/declare"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/web"
)

// Exported is the answer of Export.
type Exported struct {
	File  string   `json:"file" jsonschema:"YAML, as the command prints it"`
	Notes []string `json:"notes" jsonschema:"what the file cannot declare"`
}

// Declaration is the input of Plan, and part of that of Apply.
type Declaration struct {
	File  string `json:"file" jsonschema:"the text of the file, in YAML or JSON, as export gives it"`
	Prune bool   `json:"prune,omitempty" jsonschema:"whether to delete groups, MCP servers and clients that the file does not have; clients that registered and API credentials stay"`
}

// Application is the input of Apply.
type Application struct {
	Declaration
	Secrets bool `json:"secrets,omitempty" jsonschema:"whether the secrets of new clients are in the answer, this once; otherwise nobody sees them"`
}

// maxEntries bounds a file, because nothing else is written while it is applied.
const maxEntries = 5000

func (d Declaration) apply(c ctx, o ops, by who, dry, secrets bool) (declare.Outcome, error) {
	f, err := declare.Read([]byte(d.File))
	if err == nil && f.Entries() > maxEntries && by.Actor.Type != audit.ByCommand {
		err = admin.Refused(admin.Invalid, "", "", "file", fmt.Sprintf("the file has %d entries, and the Admin API "+
			"takes at most %d at once, because others wait meanwhile; apply it on the server's machine, or in parts "+
			"without prune", f.Entries(), maxEntries))
	}
	if err != nil {
		return declare.Outcome{}, err
	}
	return declare.Apply(c, o, by, f, declare.Options{DryRun: dry, Prune: d.Prune, Secrets: secrets})
}

// declarable are the nouns of what a file declares, but for resources.
var declarable = []admin.Noun{admin.Clients, admin.Groups}

// The operations on a file that declares records. Each record needs the right to read or write records of its kind.
var (
	Export = add(Spec{Method: "GET", Path: "/export", Noun: admin.Resources, Also: declarable, Verb: "export",
		Summary: "Export the groups, MCP servers and the clients that operators made, as a file. It needs the right " +
			"to read all of them."},
		func(c ctx, o ops, by who, _ struct{}) (Exported, error) {
			text, notes, err := declare.Export(c, o, by)
			return Exported{string(text), append([]string{}, notes...)}, err
		})
	Plan = add(Spec{Method: "POST", Path: "/apply/dry-run", Noun: admin.Resources, Also: declarable,
		Verb: "apply dry-run", Reads: true, Required: "file", May: "cardea:users:read",
		Summary: "Tell what applying a file would change. It needs the right to read what the file declares, and, " +
			"for members of groups, to read people's accounts."},
		func(c ctx, o ops, by who, in Creation[Declaration]) (declare.Outcome, error) {
			return in.Body.apply(c, o, by, true, false)
		})
	Apply = add(Spec{Method: "POST", Path: "/apply", Noun: admin.Resources, Also: declarable, Verb: "apply",
		Destroys: true, Required: "file",
		Summary: "Make groups, MCP servers and clients what a file says, all of it or nothing. It needs the right to " +
			"change what the file declares."},
		func(c ctx, o ops, by who, in Creation[Application]) (declare.Outcome, error) {
			return in.Body.apply(c, o, by, false, in.Body.Secrets)
		})
)

// fileLine is the location of a fault in a file, before the number of the line.
const fileLine = "body.file:"

// faulty returns the problem of a file with faults, or nil if err is another.
func faulty(err error) *web.Problem {
	var faults declare.Faults
	if !errors.As(err, &faults) {
		return nil
	}
	p := &web.Problem{Status: http.StatusUnprocessableEntity, Code: oauth.InvalidRequest,
		Detail: "the file has faults, and nothing was changed; correct them, and apply it again"}
	for _, f := range faults {
		p.Errors = append(p.Errors, web.Fault{Location: fileLine + strconv.Itoa(f.Line), Message: f.Text})
	}
	return p
}

// faultsIn returns the faults of a file that a problem tells, nil if it is another problem.
func faultsIn(told []web.Fault) (faults declare.Faults) {
	for _, f := range told {
		number, ok := strings.CutPrefix(f.Location, fileLine)
		line, err := strconv.Atoi(number)
		if !ok || err != nil {
			return nil
		}
		faults = append(faults, declare.Fault{Line: line, Text: f.Message})
	}
	return faults
}
