// Package handshake reads, answers and records TLS handshakes: it is the SSL
// server towards the intercepted client and the SSL client towards the
// destination. What a handshake may be is decided by policy and arrives here
// as Params; what happened is told by the Ledger in the words of the classic
// nine steps.
//
// Where to look: clienthello.go parses step 1, peek.go reads it off the wire
// before anything is sent, suites.go and profile*.go resolve names, std.go,
// server.go and client.go run the two legs on crypto/tls, narrow.go makes
// crypto/tls choose what the profile wants, verify.go judges certificate chains
// (steps 3 and 6) with chaincache.go in front of it, ticket*.go is resumption,
// alertwire.go puts the exact alert on the wire, fail.go says what ended a
// handshake, conn.go is step 9, tap*.go and ledger.go watch the messages go by.
package handshake
