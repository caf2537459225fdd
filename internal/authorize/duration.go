package authorize

import (
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/scope"
)

// lease is how long a grant lasts: the duration that the person chose, and what is left of it.
type lease struct {
	duration   oauth.Duration
	until      time.Time // at the latest; zero: the duration says so
	remembered bool      // the person was not asked, because of an earlier consent
}

// apply sets when g ends, which was made now for a.
func (l lease) apply(g *oauth.Grant, a *interaction.Authorization, now time.Time) {
	earlier := func(end time.Time) {
		if end.Before(g.EndsAt) {
			g.EndsAt = end
		}
	}
	g.Duration = l.duration
	if length := l.duration.Length(); length > 0 {
		earlier(now.Add(length))
	}
	if l.duration == oauth.ThisSession {
		g.SessionID = a.Session.ID
		earlier(a.Session.EndsAt)
	}
	if !l.until.IsZero() {
		earlier(l.until)
	}
}

// renewed returns how long a grant of wanted lasts that the person is not asked for, and whether consents cover it.
// What was allowed for a time is not prolonged by that, and what was allowed for a session stays in it.
func renewed(consents []store.Consent, wanted scope.Set) (l lease, covered bool) {
	l = lease{duration: oauth.Always, remembered: true}
	var lasting, all scope.Set
	limited := lease{remembered: true}
	for _, c := range consents {
		all = all.Union(c.Scope)
		if c.Duration == "" || c.Duration == oauth.Always {
			lasting = lasting.Union(c.Scope)
			continue
		}
		if limited.duration != oauth.ThisSession {
			limited.duration = c.Duration
		}
		if limited.until.IsZero() || c.EndsAt.Before(limited.until) {
			limited.until = c.EndsAt
		}
	}
	switch {
	case len(lasting) > 0 && lasting.CoversAll(wanted...):
		return l, true
	case len(all) > 0 && all.CoversAll(wanted...):
		return limited, true
	}
	return l, false
}

// lasts returns for how long g was allowed, in words for the audit log.
func lasts(g *oauth.Grant) string {
	if g.Duration == oauth.ThisSession {
		return "this session"
	}
	return audit.Lasting(g.EndsAt.Sub(g.CreatedAt))
}

// durationChoices returns the choices of the consent page. most is how long a grant lasts at most.
func durationChoices(chosen oauth.Duration, most time.Duration) []DurationChoice {
	choices := make([]DurationChoice, len(oauth.Durations))
	for i, d := range oauth.Durations {
		choice := DurationChoice{Value: string(d), Chosen: d == chosen}
		switch d {
		case oauth.ThisSession:
			choice.Label = "Until I sign out in this browser"
		case oauth.EightHours:
			choice.Label = "8 hours"
		case oauth.ThirtyDays:
			choice.Label = "30 days"
		default:
			choice.Label = "Until I disconnect it"
			if words := audit.Lasting(most); words != "" {
				choice.Label += ", for at most " + words
			}
		}
		choices[i] = choice
	}
	return choices
}
