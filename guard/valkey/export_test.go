package valkey

import "time"

// A server that answers late, because the machine is busy with other tests, must not fail a test.
func init() { patience = time.Minute }
