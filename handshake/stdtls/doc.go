// Package stdtls is the handshake engine on Go's crypto/tls. It keeps the contract of
// handshake.Engine, and nothing else in the gateway makes a connection of crypto/tls.
//
// Where to look: engine.go has what both legs share, server.go and client.go are the
// legs, widest.go says what crypto/tls can do, narrow.go makes it choose what the
// profile wants, ticket.go and ticketgate.go are resumption, alertwire.go puts the
// exact alert on the wire, fail.go says what ended a handshake, tap*.go and keylog.go
// watch the messages go by, conn.go and record*.go are step 9.
package stdtls
