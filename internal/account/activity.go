package account

import (
	"cmp"
	"regexp"
	"strings"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// activityRoutes are the page of what happened in the name of the person.
func (e *Endpoint) activityRoutes() []web.Route {
	return []web.Route{route("/account/activity", e.show(e.activity), nil)}
}

// deed is an event as the person whom it is about reads it.
type deed struct {
	When    moment
	Told    string // a sentence without a period
	Address string
	Refused bool
}

func (e *Endpoint) activity(v *visit) (web.Answer, error) {
	var list []deed
	var next string
	resources, err := v.e.DB.Resources(v.Context())
	if err != nil {
		return nil, err
	}
	err = v.view(func(tx *store.Tx) error {
		events, cursor, err := tx.Events(store.EventFilter{UserID: v.Person.ID}, v.page())
		if err != nil {
			return err
		}
		next = cursor
		told, err := v.tell(tx, resources, events)
		for i, event := range events {
			list = append(list, deed{v.moment(event.At), told[i], event.Address, event.Outcome != audit.Allowed})
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return v.answer(screen{template: "activity.html", title: "What happened", here: "/account/activity", body: list,
		next: next})
}

// toYou puts what the sentences say of "you" into English.
var toYou = strings.NewReplacer("the account of you", "your account", "a session of you", "a session of yours",
	"password of you", "password of your account", "Signing out of you", "Your signing out",
	"An invitation of you", "Your invitation",
	"You set the installation up and is", "You set the installation up and are",
	"the person is not entitled", "you are not entitled", "You could not change their", "You could not change your",
	"You removed their", "You removed your",
	"You may not remove their", "You may not remove your",
	"what is stored about their account", "what is stored about your account")

// signInOf matches what the sentences call an account at an identity provider.
var signInOf = regexp.MustCompile(`\bthe sign-in( with .+)? of you\b`)

// tell returns events about the person of v as sentences to that person. resources are all that there are.
func (v *visit) tell(tx *store.Tx, resources []*oauth.Resource, events []audit.Event) ([]string, error) {
	var clients []string
	for _, event := range events {
		if event.ClientID != "" {
			clients = append(clients, event.ClientID)
		}
	}
	names, err := tx.Names(clients, nil, nil)
	told := make([]string, len(events))
	for i, event := range events {
		switch {
		case event.Actor.ID == v.Person.ID:
			event.Actor.Name = ""
		case event.Actor.Type == audit.ByCommand: // whose name is an account of the machine, which says nothing to you
			event.Actor.Name = "an administrator"
		}
		if event.Action == audit.Issued && event.Outcome == audit.Allowed {
			event.Detail = nil // by what means is not the person's business
		}
		called := audit.Names{Client: names.Clients[event.ClientID], Person: "you", Resource: event.Resource}
		at := &oauth.Resource{}
		for _, r := range resources {
			if r.Identifier == event.Resource {
				at, called.Resource = r, cmp.Or(r.Name, r.Identifier)
			}
		}
		called.Scope = func(name string) string {
			if name == oauth.OfflineAccess {
				return ""
			}
			return at.Describe(name)
		}
		sentence := event.Sentence(called)
		told[i] = signInOf.ReplaceAllString(toYou.Replace(sentence), "your sign-in$1")
	}
	return told, err
}
