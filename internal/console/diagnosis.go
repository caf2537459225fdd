package console

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/doctor"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/web"
)

// diagnosisRoutes are the pages on which an operator has an MCP server looked at from outside, as clients do.
func (e *Endpoint) diagnosisRoutes() []web.Route {
	return []web.Route{
		e.form("/admin/servers/{id}/diagnose", admin.Resources, "resource.diagnose", e.offerDiagnosis, e.diagnose),
	}
}

// diagnosisPage is the body of the page of a diagnosis, before it and after it.
type diagnosisPage struct {
	Server  admin.Resource
	Report  *doctor.Report // nil before it
	Wrong   []doctor.Check // what fails, then what is a warning
	Known   []doctor.Check // what is worth knowing
	Good    []doctor.Check
	Skipped []doctor.Check
}

// Out, Detour and Fine are the clients that cannot connect, that can with a detour, and that can.
func (p diagnosisPage) Out() []string    { return p.Report.With(doctor.Fail) }
func (p diagnosisPage) Detour() []string { return p.Report.With(doctor.Warn) }
func (p diagnosisPage) Fine() []string   { return p.Report.With(doctor.OK) }

func (e *Endpoint) offerDiagnosis(v *visit) (outcome, error) {
	r, err := e.Operations.Resource(v.Context(), v.caller, v.id())
	return screen{template: "diagnosis.html", title: "Diagnose " + r.Name, body: diagnosisPage{Server: r}}, err
}

// The bounds of diagnoses. A page must come within the time that the server has for a response.
const (
	maxDiagnoses  = 4 // at the same time
	diagnosisTime = 40 * time.Second
)

// diagnoses are those under way, at most one for each person.
type diagnoses struct {
	sync.Mutex
	of []string // ids of people
}

var errDiagnosing = oauth.RefuseStatus(http.StatusTooManyRequests, oauth.TemporarilyUnavailable,
	"another diagnosis is under way: wait until it has ended, and try again")

// enter returns false if person has to wait.
func (d *diagnoses) enter(person string) bool {
	d.Lock()
	defer d.Unlock()
	if len(d.of) >= maxDiagnoses || slices.Contains(d.of, person) {
		return false
	}
	d.of = append(d.of, person)
	return true
}

func (d *diagnoses) leave(person string) {
	d.Lock()
	defer d.Unlock()
	d.of = slices.DeleteFunc(d.of, func(id string) bool { return id == person })
}

// diagnose looks at the MCP server from here. Its URL is the registered identifier, and the requests go only to
// addresses that the server's other fetches may go to, because they must not reach what only this server reaches.
func (e *Endpoint) diagnose(v *visit, _ url.Values) (outcome, error) {
	if !e.diagnosing.enter(v.Person.ID) {
		return nil, errDiagnosing
	}
	defer e.diagnosing.leave(v.Person.ID)
	r, err := e.Operations.DiagnoseResource(v.Context(), v.caller, v.id())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(v.Context(), diagnosisTime)
	defer cancel()
	report, err := doctor.Run(ctx, doctor.Options{URL: r.Identifier, Now: e.DB.Now, Transport: e.Transport})
	if err != nil {
		return nil, err
	}
	page := diagnosisPage{Server: r, Report: report}
	for _, c := range report.Checks {
		switch {
		case c.Status == doctor.Fail || c.Status == doctor.Warn:
			page.Wrong = append(page.Wrong, c)
		case c.Status == doctor.Skip:
			page.Skipped = append(page.Skipped, c)
		case c.Expected != "":
			page.Known = append(page.Known, c)
		default:
			page.Good = append(page.Good, c)
		}
	}
	slices.SortStableFunc(page.Wrong, func(a, b doctor.Check) int {
		return order[a.Status] - order[b.Status]
	})
	return screen{template: "diagnosis.html", title: "Diagnosis of " + r.Name, body: page}, nil
}

var order = map[doctor.Status]int{doctor.Fail: 0, doctor.Warn: 1}
