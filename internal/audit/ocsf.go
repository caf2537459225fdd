package audit

import (
	"cmp"
	"net/netip"
	"strings"
)

// The classes of the Open Cybersecurity Schema Framework (schema.ocsf.io) that events are exported as.
const (
	ocsfVersion        = "1.3.0"
	ocsfAuthentication = 3002
	ocsfAuthorize      = 3003
	ocsfEntity         = 3004
	ocsfAPI            = 6003
)

// ocsfActivities are the activities on an entity and at an API, by the last part of an action; others are 99, "other".
var ocsfActivities = map[string]int{"create": 1, "register": 1, "invite": 1, "read": 2, "update": 3, "delete": 4}

// OCSFEvent is an event in the form of OCSF. Its members are those of the schema.
type OCSFEvent struct {
	ClassUID     int            `json:"class_uid"`
	CategoryUID  int            `json:"category_uid"`
	ActivityID   int            `json:"activity_id"`
	ActivityName string         `json:"activity_name,omitempty"`
	TypeUID      int            `json:"type_uid"`
	SeverityID   int            `json:"severity_id"`
	StatusID     int            `json:"status_id"`
	StatusCode   string         `json:"status_code,omitempty"`
	StatusDetail string         `json:"status_detail,omitempty"`
	Time         int64          `json:"time"` // milliseconds
	Message      string         `json:"message"`
	Metadata     ocsfMetadata   `json:"metadata"`
	Actor        *ocsfActor     `json:"actor,omitempty"`
	User         *ocsfParty     `json:"user,omitempty"`
	Service      *ocsfName      `json:"service,omitempty"`
	Privileges   []string       `json:"privileges,omitempty"`
	Entity       *ocsfThing     `json:"entity,omitempty"`
	API          *ocsfOperation `json:"api,omitempty"`
	Resources    []ocsfThing    `json:"resources,omitempty"`
	Source       ocsfEndpoint   `json:"src_endpoint"`
	Request      *ocsfRequest   `json:"http_request,omitempty"`
	Unmapped     map[string]any `json:"unmapped,omitempty"`
}

type ocsfMetadata struct {
	Version     string      `json:"version"`
	Product     ocsfProduct `json:"product"`
	UID         string      `json:"uid"`
	Code        string      `json:"event_code"`
	Correlation string      `json:"correlation_uid,omitempty"`
}

type ocsfProduct struct {
	Name   string `json:"name"`
	Vendor string `json:"vendor_name"`
}

type ocsfActor struct {
	User ocsfParty `json:"user"`
}

type ocsfParty struct {
	UID    string `json:"uid,omitempty"`
	Name   string `json:"name,omitempty"`
	TypeID int    `json:"type_id"` // 0 unknown, 1 a person, 3 a program
}

type ocsfName struct {
	Name string `json:"name"`
}

type ocsfThing struct {
	UID  string `json:"uid,omitempty"`
	Name string `json:"name,omitempty"`
	Type string `json:"type,omitempty"`
}

type ocsfOperation struct {
	Operation string `json:"operation"`
}

type ocsfEndpoint struct {
	IP   string `json:"ip,omitempty"`
	Name string `json:"name,omitempty"`
}

type ocsfRequest struct {
	UID       string `json:"uid,omitempty"`
	UserAgent string `json:"user_agent,omitempty"`
}

// OCSF returns the event in the form of OCSF: sign-ins as Authentication, what is granted as Authorize Session, what
// operators change as Entity Management, and everything else as API Activity.
func OCSF(e Event) OCSFEvent {
	noun, verb := e.Action, ""
	if i := strings.LastIndexByte(e.Action, '.'); i >= 0 {
		noun, verb = e.Action[:i], e.Action[i+1:]
	}
	o := OCSFEvent{
		SeverityID: 1, StatusID: 1, StatusCode: e.Reason, StatusDetail: e.Description, Time: e.At.UnixMilli(),
		Message: e.Sentence(Names{}),
		Metadata: ocsfMetadata{Version: ocsfVersion, Product: ocsfProduct{"Cardea", "Cardea"}, UID: e.ID,
			Code: e.Action, Correlation: e.RequestID},
		Actor: &ocsfActor{partyOf(e.Actor)}, Source: ocsfEndpoint{Name: cmp.Or(e.Address, "unknown")},
		Unmapped: e.unmapped(),
	}
	if _, err := netip.ParseAddr(e.Address); err == nil {
		o.Source = ocsfEndpoint{IP: e.Address}
	}
	if e.RequestID != "" || e.UserAgent != "" {
		o.Request = &ocsfRequest{e.RequestID, e.UserAgent}
	}
	if e.Outcome != Allowed {
		o.SeverityID, o.StatusID = 2, 2
	}
	if e.Action == "token.reuse" {
		o.SeverityID = 4
	}
	switch {
	case e.Action == SignedIn, e.Action == "login.sign_out":
		o.ClassUID, o.ActivityID, o.User, o.Service = ocsfAuthentication, 1, personOf(e), &ocsfName{"Cardea"}
		if e.Action != SignedIn {
			o.ActivityID = 2
		}
	case (e.Action == Issued || noun == "authorize") && e.Outcome == Allowed && e.Scope != "":
		o.ClassUID, o.ActivityID, o.User, o.Privileges = ocsfAuthorize, 1, personOf(e), strings.Fields(e.Scope)
	case things[noun] != "":
		o.ClassUID, o.ActivityID = ocsfEntity, cmp.Or(ocsfActivities[verb], 99)
		o.Entity = &ocsfThing{UID: cmp.Or(e.entity(noun), "unknown"), Type: noun}
	default:
		o.ClassUID, o.ActivityID, o.API = ocsfAPI, cmp.Or(ocsfActivities[verb], 99), &ocsfOperation{e.Action}
		if e.Resource != "" {
			o.Resources = []ocsfThing{{UID: e.Resource, Type: "resource"}}
		}
	}
	if o.ActivityID == 99 {
		o.ActivityName = verb
	}
	o.CategoryUID, o.TypeUID = o.ClassUID/1000, o.ClassUID*100+o.ActivityID
	return o
}

// partyOf returns an actor in the form of OCSF.
func partyOf(a Actor) ocsfParty {
	switch a.Type {
	case ByUser:
		return ocsfParty{a.ID, a.Name, 1}
	case "":
		return ocsfParty{Name: "unknown"}
	default:
		return ocsfParty{a.ID, a.Name, 3}
	}
}

// personOf returns whom an event is about: the person, or a client for itself.
func personOf(e Event) *ocsfParty {
	switch {
	case e.UserID != "":
		return &ocsfParty{UID: e.UserID, TypeID: 1}
	case e.ClientID != "":
		return &ocsfParty{UID: e.ClientID, TypeID: 3}
	}
	return &ocsfParty{Name: "unknown"}
}

// entity returns the id of the thing that an operator changed.
func (e Event) entity(noun string) string {
	switch noun {
	case "client":
		return e.ClientID
	case "user", "session", "invitation", "identity":
		return cmp.Or(e.Detail["id"], e.UserID)
	case "grant":
		return e.GrantID
	case "resource":
		return e.Resource
	}
	return cmp.Or(e.Detail["id"], e.Detail["kid"], e.Detail["name"], e.Detail[noun])
}

// unmapped returns the facts of an event that OCSF has no member for.
func (e Event) unmapped() map[string]any {
	all := map[string]any{}
	for name, value := range map[string]string{"client_id": e.ClientID, "user_id": e.UserID, "grant_id": e.GrantID,
		"resource": e.Resource, "scope": e.Scope} {
		if value != "" {
			all[name] = value
		}
	}
	for name, value := range e.Detail {
		all["detail."+name] = value
	}
	if e.Before != nil {
		all["before"] = e.Before
	}
	if e.After != nil {
		all["after"] = e.After
	}
	return all
}
