package credential

// TOTPCode is the code of a time step.
var TOTPCode = totpCode
