// Package bogo lets BoGo judge sslgate's handshake engines. BoGo is the test runner of
// BoringSSL (ssl/test/runner): it speaks TLS with every mistake that a peer can make, and
// starts a shim for each of its tests, which makes the handshake with the
// implementation that is tested. This package is that shim, for both engines and both
// sides; docs/bogo.md says how it is run and what came of it.
//
// The protocol between the two is in BoringSSL's ssl/test/PORTING.md: the shim connects to
// -port of loopback, sends -shim-id as 8 bytes, little-endian, makes one handshake as the
// other flags say, sends back every byte with all its bits turned, and does so again
// -resume-count times. It ends with 0 where all was well, with 1 and a line on standard
// error where it was not, and with 89 where it does not know a flag.
package bogo
