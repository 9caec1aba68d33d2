// Package soak loads a real gateway with a mixture of good, bad, slow and broken clients for as
// long as wanted. Flow by flow it compares what clients, servers, the audit log and /metrics say.
//
// soak.go is the course of a run; kinds.go lists the clients with the expected result of each;
// book.go compares the four accounts; quiet.go looks for growth; site.go sets up the environment.
package soak
