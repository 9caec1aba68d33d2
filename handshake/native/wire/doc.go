// Package wire reads and writes the handshake messages of TLS 1.3 (RFC 8446) and, in
// flight12.go and hello12.go, of TLS 1.2 with ECDHE (RFC 5246, RFC 8422), for the engine
// handshake/native. What is decided by them is the engine's part: here is only what
// stands in them and whether it may stand there.
//
// The ClientHello is read by handshake.ParseClientHello; hello.go adds what that does
// not keep.
//
// A parser takes one whole message with its 4-byte header and is strict: nothing may
// stand behind a field, no extension comes twice or in a message that the table of
// RFC 8446, section 4.2, does not name it for, and lists have caps. It returns an
// *Error with the alert that the RFC names, or a value that marshals back to the same
// bytes. The slices of the value are parts of the message: who keeps them keeps
// the message. Reading costs linear time in the message's bytes.
//
// A value that is made by hand leaves Extensions nil: Marshal then writes those that
// its fields ask for. Of a parsed one Marshal writes Extensions as they came.
package wire
