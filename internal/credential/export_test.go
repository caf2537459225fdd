package credential

// TOTPCode is the code of a time step.
var TOTPCode = totpCode

// Enter waits for a turn to hash, of which there are Turns. Waiting is how many wait.
var (
	Enter   = enter
	Turns   = cap(bulkhead.running)
	Waiting = func() int { return len(bulkhead.waiting) }
)
