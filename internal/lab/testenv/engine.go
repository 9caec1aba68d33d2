package testenv

import "os"

// Engine is the engine that whole gateways are tested with, "std" or "native", as
// SSLGATE_TEST_ENGINE names it; "" leaves the configurations of the tests as they are.
func Engine() string { return os.Getenv("SSLGATE_TEST_ENGINE") }
