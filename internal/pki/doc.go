// Package pki is the small certificate authority of `sslgate pki`, and reads
// certificates, keys and revocation lists from PEM files.
//
// Where to look: pem.go reads PEM, names.go tells DNS names, addresses, e-mail addresses
// and URIs apart, ca.go makes and opens a CA's directory, issue.go, revoke.go and crl.go
// are what a CA does, show.go describes any file, store.go writes files so that a crash
// leaves the old or the new one.
package pki
