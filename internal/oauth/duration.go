package oauth

import (
	"slices"
	"time"
)

// Duration is how long a person lets a client act for them.
type Duration string

// The durations.
const (
	Always     Duration = "always" // until the person disconnects the client, or the grant may last no longer
	ThirtyDays Duration = "30d"
	EightHours Duration = "8h"
	// ThisSession is as long as the browser session in which the person decided. It ends with the session, however that
	// ends.
	ThisSession Duration = "session"
)

// Durations are all durations, the shortest first.
var Durations = []Duration{ThisSession, EightHours, ThirtyDays, Always}

// ParseDuration returns the duration that text names; "" names Always. It returns false if there is no such duration.
func ParseDuration(text string) (Duration, bool) {
	if text == "" {
		return Always, true
	}
	return Duration(text), slices.Contains(Durations, Duration(text))
}

// Length returns the longest time that d lasts, or 0 if d is not a length of time.
func (d Duration) Length() time.Duration {
	switch d {
	case EightHours:
		return 8 * time.Hour
	case ThirtyDays:
		return 30 * 24 * time.Hour
	default:
		return 0
	}
}
