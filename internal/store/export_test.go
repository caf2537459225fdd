package store

// Trace has the databases that are opened afterwards tell fn every statement before
// it runs.
func Trace(fn func(query string, args []any)) { trace = fn }
