package web

import (
	"errors"
	"net/http"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// Problem says why a request was refused (RFC 9457 §3.1), in words for the person whose program sent it. As an error it
// is a refusal that an adapter made by Problems sends as it is.
type Problem struct {
	Title  string `json:"title"` // of the status
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	// Code is the kind of error as other endpoints have it, such as "insufficient_scope".
	Code   oauth.ErrorCode `json:"error"`
	Errors []Fault         `json:"errors,omitempty"`
	// Noun and ID name what is not there, or is there already, as "users" and "ada@example.com".
	Noun string `json:"noun,omitempty"`
	ID   string `json:"id,omitempty"`

	// Challenge is the header WWW-Authenticate; "" for none.
	Challenge string `json:"-"`
}

// Fault is one thing that is wrong with a request.
type Fault struct {
	Location string `json:"location"` // such as "body.scopes[0].name", "query.limit" or "path.id"
	Message  string `json:"message"`
}

// Error returns the Detail.
func (p *Problem) Error() string { return p.Detail }

// Problems is JSON for an endpoint whose refusals are sent as application/problem+json: a *Problem as it is, any other
// refusal with its status, code and description.
func Problems[T any](handle func(*http.Request) (T, error)) http.Handler {
	return adapt(handle, failProblem)
}

func failProblem(w http.ResponseWriter, r *http.Request, err error) {
	p, header := new(Problem), http.Header{}
	if !errors.As(err, &p) {
		refusal := verdict(r, err)
		header = refusalHeader(refusal)
		p = &Problem{Status: refusal.Status(), Detail: refusal.Description, Code: refusal.Code}
	}
	if p.Challenge != "" {
		header.Set("WWW-Authenticate", p.Challenge)
	}
	header.Set("Content-Type", "application/problem+json")
	sent := *p
	sent.Title = http.StatusText(p.Status)
	body, err := encode(sent)
	if err != nil {
		body = []byte(`{"error":"server_error"}`) // strings always encode
	}
	w.Header()["Cache-Control"] = noStore
	writeJSON(w, sent.Status, header, body)
}
