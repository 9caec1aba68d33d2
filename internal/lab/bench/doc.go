// Package bench measures sslgate beside its peers, in one run, on one machine.
//
// Every peer has a lab of its own (internal/lab: client - gateway - server), so that the
// connection tracking, routes and firewall rules of one cost another nothing. The load
// generator and the origin share one CPU, the gateway has the other. The peers are
//
//	direct   the gateway's kernel routes, nothing is terminated
//	relay    a Go relay on kernel sockets behind TPROXY, copying through 64 KiB
//	go       the same with crypto/tls that requires and verifies a client certificate
//	haproxy  the distribution's, in TCP mode and with TLS, behind TPROXY
//	stunnel  the distribution's, in client mode, behind a DNAT
//	sslgate  the real binary with ledger and audit record on
//
// Where to look: run.go is the order of a run, tests.go the list of tests,
// site.go the lab of one peer, peers.go how each is started; load*.go,
// origin.go, flood.go and reference.go are the programs that run inside the
// namespaces; wire.go is what load and origin say to each other; result.go,
// table.go and report.go turn samples into what is printed.
package bench
