// Package handshake reads, answers and records TLS handshakes: it is the SSL
// server towards the intercepted client and the SSL client towards the
// destination. What a handshake may be is decided by policy and arrives here
// as Params; what happened is told by the Ledger in the words of the classic
// nine steps.
//
// Where to look: engine.go is what an engine must do; the one on crypto/tls is
// package stdtls. clienthello.go parses step 1, peek.go reads it off the wire before
// anything is sent, wire.go has the numbers of the wire, suites.go and profile*.go
// resolve names, verify.go judges certificate chains (steps 3 and 6) with
// chaincache.go in front of it, ticketrule.go and ticketkeys.go say when a session may
// be resumed and seal it, ledger.go takes what happened.
package handshake
