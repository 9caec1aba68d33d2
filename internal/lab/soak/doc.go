// Package soak loads a real gateway with a mixture of good, bad, slow and
// broken clients for as long as wanted, and holds what clients, servers, the
// audit log and /metrics say against each other, flow by flow.
//
// soak.go is the walk of a run; kinds.go lists the clients with what must
// become of each; book.go holds the four accounts together; quiet.go looks for
// growth; site.go is the world around it.
package soak
