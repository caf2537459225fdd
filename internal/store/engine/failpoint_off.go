//go:build !failpoints

package engine

// failpoint marks a place where a test may kill the process. It does nothing unless the program is built with the tag
// failpoints.
func failpoint(string) {}
