// Package config reads sslgate.yaml: strictly, with every mistake at once,
// each with file, line, column, the line itself and a suggestion.
package config

import (
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/policy"
)

// Config is sslgate.yaml as it is written. docs/config.md is generated from
// the comments of the fields.
type Config struct {
	// Version of the file's form: 1.
	Version int `yaml:"version"`
	// TUN is the device the captured packets are read from.
	TUN TUN `yaml:"tun" reload:"restart"`
	// Capture says what is steered into the TUN.
	Capture Capture `yaml:"capture" reload:"restart"`
	// Fail is what happens to captured traffic after an orderly stop: "closed" (the default; it goes nowhere) or "open" (everything is removed and it is routed on). A crash is always closed.
	Fail string `yaml:"fail" reload:"restart"`
	// Dial says how destinations are reached.
	Dial Dial `yaml:"dial"`
	// Authorities are the certificate authorities that rules refer to by name.
	Authorities map[string]Authority `yaml:"authorities"`
	// Identities are the certificates sslgate shows, that rules refer to by name.
	Identities map[string]Identity `yaml:"identities"`
	// Profiles are cryptographic profiles of your own, beside the named ones.
	Profiles map[string]handshake.ProfileSpec `yaml:"profiles"`
	// Engine makes the handshakes of profiles that name none, the named profiles too: "std" (Go's crypto/tls, the default) or "native" (sslgate's own). A profile that the native engine cannot keep, such as legacy-rsa, stays with std: `profiles` and `check` say which. See profiles.NAME.engine.
	Engine string `yaml:"engine"`
	// Shadow is another configuration file whose policy decides every flow beside the enforced one, and changes nothing: where the two differ is counted, listed by `sslgate status` and recorded. Of that file only authorities, identities, profiles and policy are used. Default none.
	Shadow string `yaml:"shadow"`
	// Policy decides every flow.
	Policy policy.Spec `yaml:"policy"`
	// State is the directory where sslgate keeps what it must not forget over a restart: the last good copy of each revocation list that was fetched, and of each one in force. Each gateway needs one of its own: a second one with the same does not start. Default: nothing is kept.
	State string `yaml:"state" reload:"restart"`
	// Tickets say whether clients may resume sessions.
	Tickets Tickets `yaml:"tickets"`
	// Limits bound what clients can make the gateway hold.
	Limits Limits `yaml:"limits"`
	// Audit is the record of every flow.
	Audit Audit `yaml:"audit" reload:"restart"`
	// Log is what the gateway says of itself, on standard error.
	Log Log `yaml:"log" reload:"restart"`
	// Admin is the gateway's own door for status and reload.
	Admin Admin `yaml:"admin"`
	// Reload says what a changed configuration does to a running gateway.
	Reload Reload `yaml:"reload"`
	// Upgrade says what a new process needs beside the one it takes over from.
	Upgrade Upgrade `yaml:"upgrade" reload:"restart"`
	// Fleet makes the gateway one of many that share a policy (docs/fleet.md). Then this file has what is this host's own: version, tun, capture, fail, dial, state, audit, log, admin, upgrade and fleet. All other keys come from the fleet's signed bundle. Default: none.
	Fleet *Fleet `yaml:"fleet" reload:"restart"`
}

// TUN is the device the captured packets are read from.
type TUN struct {
	// Name of the device, at most 15 bytes. Default sslgate0.
	Name string `yaml:"name"`
	// MTU in bytes, 1280 to 65535. Default 1500.
	MTU int `yaml:"mtu"`
	// Attach uses a device that somebody else made and routes; sslgate then touches neither. Default false.
	Attach bool `yaml:"attach"`
	// Addresses of the device in CIDR form; destinations in them are refused. Default none: the device needs no address.
	Addresses []string `yaml:"addresses"`
	// Offload is "auto" (the default: segmentation and checksum offload where the kernel has it) or "off".
	Offload string `yaml:"offload"`
	// Queues of the device, 1 to 16, each read by a goroutine of its own with 2 MiB of buffers. Default 1. On two processors a second one made no difference, and more than there are processors are of no use. With attach the device must have been made with multi_queue; where there cannot be several there is one, and the log says why.
	Queues int `yaml:"queues"`
	// Sender is what sends data to the clients: "paced" (the default), which finds losses by time (RFC 8985) and paces by a model of the path, or "netstack", netstack's own sender, which takes each loss for congestion and is slow on paths that lose packets.
	Sender string `yaml:"sender"`
}

// Capture says what is steered into the TUN.
type Capture struct {
	// Interfaces that captured traffic comes in by. Required unless tun.attach, or local.out where programs of this host alone are captured.
	Interfaces []string `yaml:"interfaces"`
	// Exempt are interfaces whose forwarded traffic to the captured ports may pass uninspected. Default none: it is captured from capture.interfaces and dropped from all others, so that an interface that is renamed or made anew is no hole.
	Exempt []string `yaml:"exempt"`
	// Protocols are numbers of IP protocols that may be forwarded uninspected from interfaces that are not exempt, besides TCP to ports that are not captured, UDP, ICMP and ICMPv6: 50 (ESP), 47 (GRE), 132 (SCTP). Default none: a tunnel may hold anything, also a connection to a captured port.
	Protocols []int `yaml:"protocols"`
	// Ports is the list of TCP destination ports captured, or "all". Required.
	Ports Ports `yaml:"ports"`
	// Local says what is captured of this host itself. The word "capture" stands for {in: true}, which is the default, and "drop" for {in: false}.
	Local Local `yaml:"local"`
	// ExceptPorts are TCP ports of this host itself that are not captured with ports "all", such as [22], or [] for none. Required with ports "all", or this host's own SSH would be lost; connections through the host are captured on these ports too.
	ExceptPorts []int `yaml:"except_ports"`
	// QUIC is what happens to UDP on the captured ports: "reject" (the default; clients fall back to TCP; with ports "all" it is port 443 alone) or "ignore" (it is routed past the gateway).
	QUIC string `yaml:"quic"`
	// GRO is "keep" (the default; generic receive offload of the interfaces stays as it is, and where it is off the log says what to type, for uploads then run at a fraction of the speed) or "auto" (it is switched on where it is off, and off again by `sslgate release`, with fail "open" at the stop, and at the first start that no longer asks for it).
	GRO string `yaml:"gro"`
	// Mark is the firewall mark put on captured packets, not 0 and within mask. Default 0x10.
	Mark uint32 `yaml:"mark"`
	// Mask has the bits of the firewall mark that are sslgate's: it sets and compares no others, so whoever shares the host keeps theirs. Default 0x70, which no well-known program has bits of; `check` warns of those of kube-proxy, Tailscale, mwan3, Calico and others.
	Mask uint32 `yaml:"mask"`
	// Table is the number of the routing table that leads to the TUN: 1 to 2147483647 without 253 to 255, which are the system's. Default 5519.
	Table int `yaml:"table"`
	// Preference of the `ip rule` that looks the table up, 1 to 32764; the one after it is used too. Default 5519.
	Preference int `yaml:"preference"`
}

// Local says what is captured of this host itself.
type Local struct {
	// In captures TCP from the captured interfaces to captured ports of this host itself: the local routing table is asked behind sslgate's rules, the service is dialled once the client is verified, and a bypass rule must name its address. Default true; with false it is dropped. It never passes uninspected, nor while the gateway is down.
	In bool `yaml:"in"`
	// Out captures connections that programs of this host open to captured ports, whatever interface they would leave by; while the gateway is down they are refused or wait. With true all, with keys below it those that fit all of them. What stays on the host (127.0.0.1, ::1, its own addresses) is not captured, nor what sslgate itself opens. Default false.
	Out *LocalOut `yaml:"out"`
}

// LocalOut says which connections of programs of this host are captured.
type LocalOut struct {
	// Users are the numbers of users (`id -u NAME`), at most 1000, whose connections are captured. Default: everybody's. Names are not taken: the guard is set before whoever knows them may be there.
	Users []int `yaml:"users"`
	// Groups are the numbers of groups (`id -g NAME`), at most 1000, whose connections are captured, beside those of users: the group is the one that the program runs with. Default: everybody's.
	Groups []int `yaml:"groups"`
	// ExceptUsers are the numbers of users, at most 1000, whose connections are not captured. Default none.
	ExceptUsers []int `yaml:"except_users"`
	// Ports are those of capture.ports that are captured of programs of this host. Default all.
	Ports []int `yaml:"ports"`
	// To are the destinations that are captured, as addresses or networks in CIDR form, at most 64. Default all.
	To []string `yaml:"to"`
	// Mark is the firewall mark of sslgate's own sockets, within capture.mask. Default: the least that nothing else has, 0x50.
	Mark uint32 `yaml:"mark"`
}

// Dial says how destinations are reached.
type Dial struct {
	// Source is whose address destinations see, where a rule's destination.source does not say: "gateway" (the default) or "client". A connection that cannot be made under the client's address is not made, and the flow ends with reason destination_not_as_client; the destination must route its answers to clients through this host. Not with tun.attach.
	Source string `yaml:"source"`
	// Timeout of connecting, as a duration. Default 5s.
	Timeout Duration `yaml:"timeout"`
	// Mark is the firewall mark put on answers to connections under a client's address; the one after it within capture.mask is that of their sockets. Neither may be 0 or capture.mark. Default 0x20 (and 0x30).
	Mark uint32 `yaml:"mark" reload:"restart"`
	// Table is the number of the routing table that delivers those answers: 1 to 2147483647 without capture.table and 253 to 255, which are the system's. Default 5520.
	Table int `yaml:"table" reload:"restart"`
}

// Authority is one certificate authority, or several that are trusted alike.
type Authority struct {
	// Roots is the PEM file of the trust anchors. A file in another form (DER, PKCS#7, PKCS#12, a Java key store) is refused with the command that converts it. Required.
	Roots string `yaml:"roots"`
	// Permits bounds the names this authority may speak for. Default: any name.
	Permits *policy.PermitsSpec `yaml:"permits"`
	// Revocation is what happens to a client of whose certificate, or of one of its issuers, nothing fresh is known: "hard" (refused), "soft" (let in, and the record says so) or "off" (nothing is checked). Who is known to be revoked is refused under hard and soft. Default hard if crl or ocsp is there, else off.
	Revocation string `yaml:"revocation"`
	// CRL lists where the revocation lists are: files (PEM, any number of lists in one, or DER) and http or https URLs. Each CA of the chains needs one, the roots too. One file or answer has at most a sixteenth of limits.memory, and 256MiB. Default none.
	CRL []string `yaml:"crl"`
	// CRLRefresh is how often the URLs of crl are asked at least; before a list expires they are asked more often. Default 1h.
	CRLRefresh Duration `yaml:"crl_refresh"`
	// Intermediates is the PEM file of CAs below the roots, at most 1000. They complete the path of a client, or a destination, that does not send them, and are no trust anchors: every path ends at one of roots, and is judged whole, revocation too. Their names are sent to clients beside those of the roots. A list of crl is taken only if a root or one of them has signed it. Default: none.
	Intermediates string `yaml:"intermediates"`
	// OCSP is a responder to ask where no revocation list has an answer. Default: none is asked, also none that a certificate names.
	OCSP *OCSP `yaml:"ocsp"`
	// SPIFFE takes the roots from an agent of the SPIFFE Workload API, such as SPIRE's: the bundle of one trust domain (docs/identities.md). Roots that the agent adds or takes out count at once, without a reload; they are kept in memory alone. Default: none; roots is read.
	SPIFFE *SPIFFEBundle `yaml:"spiffe"`
}

// OCSP is a responder to ask about certificates (RFC 6960).
type OCSP struct {
	// URL of the responder, http or https. Required.
	URL string `yaml:"url"`
	// Timeout of one question, less than limits.handshake. Default 2s.
	Timeout Duration `yaml:"timeout"`
	// MaxAge is how long an answer is used before it is asked for anew, even if it is good for longer. Default 5m.
	MaxAge Duration `yaml:"max_age"`
	// Nonce is "required" (the default: an answer without our nonce is refused), "optional" (an answer without one is taken, one with another is not) or "off" (none is sent, for responders whose answers are made beforehand).
	Nonce string `yaml:"nonce"`
}

// Identity is a certificate with its key.
type Identity struct {
	// Certificate is the PEM file of the leaf and its intermediates. The private key may stand in it, too, as HAProxy and others have it: then key names the same file, whose mode must be a key's (nothing for others, 0600 or 0640). Required without issuer.
	Certificate string `yaml:"certificate"`
	// Key is the PEM file of the private key, readable by its owner (and group) only; with issuer that of the issuing CA. It may be the file of the certificate, "credential:NAME" for a credential of systemd (LoadCredential=), "env:NAME" for an environment variable, or "signer:SOCKET" where another process has the key and signs (docs/signer.md). Required.
	Key string `yaml:"key"`
	// Passphrase is where the passphrase of an encrypted key stands, one line: a file, "env:NAME" for an environment variable, or "credential:NAME" for a credential of systemd (LoadCredential=). The key has PKCS#8's form (PBES2, RFC 8018). Default: the key is not encrypted.
	Passphrase string `yaml:"passphrase"`
	// OCSP is the file of the OCSP response (DER, RFC 6960) that is stapled to the certificate; it is read again, without a reload, when it changes, and shown until its nextUpdate. Default: none.
	OCSP string `yaml:"ocsp"`
	// Also lists further certificates for the same names with another kind of key, such as RSA beside ECDSA: the first that fits the client's signature algorithms is shown. Default: none.
	Also []KeyPair `yaml:"also"`
	// Issuer is the PEM file of a CA, and the CAs above it without the root (its key may stand in it, too, as in certificate), that makes certificates on demand for the name a client asks for (interception). Default: none; certificate is shown.
	Issuer string `yaml:"issuer"`
	// Names that certificates may be made for, within the issuer's own name constraints; "*" as the first label is exactly one label. Required with issuer.
	Names []string `yaml:"names"`
	// Lifetime of a certificate that is made, 1h to 168h. Default 24h.
	Lifetime Duration `yaml:"lifetime"`
	// ACME orders the certificate of a CA, and renews it (docs/identities.md). It stands with its key in the directory "acme" of state. For clients alone, not for destination.identity. Default: none; certificate is shown.
	ACME *ACME `yaml:"acme"`
	// SPIFFE takes certificate and key from an agent of the SPIFFE Workload API, such as SPIRE's, which renews them (docs/identities.md). They are kept in memory alone. Default: none; certificate is shown.
	SPIFFE *SVID `yaml:"spiffe"`
}

// KeyPair is one more certificate of an identity, of another kind of key.
type KeyPair struct {
	// Certificate is the PEM file of the leaf and its intermediates, and of the key too where key names the same file. Required.
	Certificate string `yaml:"certificate"`
	// Key is the PEM file of the private key, readable by its owner (and group) only, or another place: see key of the identity. Required.
	Key string `yaml:"key"`
	// Passphrase is where the passphrase of an encrypted key stands: see passphrase of the identity. Default: the key is not encrypted.
	Passphrase string `yaml:"passphrase"`
	// OCSP is the file of the OCSP response (DER, RFC 6960) that is stapled to the certificate. Default: none.
	OCSP string `yaml:"ocsp"`
}

// Tickets say whether clients may resume sessions (RFC 5077; RFC 8446, section 4.6.1).
type Tickets struct {
	// Mode is "on" (the default) or "off". A ticket is bound to its rule, the policy, the state of revocation and the server name; the client's certificate is judged anew each time, and a ticket that does not fit any more leads to a full handshake.
	Mode string `yaml:"mode"`
	// Lifetime of a session since its full handshake, 1m to 24h. Default 1h.
	Lifetime Duration `yaml:"lifetime"`
	// Keys is a file of keys that several gateways share: one a line, 64 hexadecimal digits (`openssl rand -hex 32`), the first seals and all open; readable by its owner (and group) only. Default: keys that live in memory alone and change every hour.
	Keys string `yaml:"keys"`
}

// Limits bound what clients can make the gateway hold.
type Limits struct {
	// Flows held at the same time. Default 20000, each costs about 100 KiB at most when idle.
	Flows int `yaml:"flows" reload:"restart"`
	// FlowsPerClient held at the same time by one IPv4 address or one IPv6 /64. Default 512, or flows where that is less.
	FlowsPerClient int `yaml:"flows_per_client" reload:"restart"`
	// Hello is the largest ClientHello taken, in bytes, 2KiB to 64KiB. Default 64KiB.
	Hello Size `yaml:"hello"`
	// Handshake is the time a client has for the whole handshake, hello included. Default 10s.
	Handshake Duration `yaml:"handshake"`
	// Handshakes with clients that are worked at at the same time, 1 to 100000; one that waits for its client, a destination or a responder is not counted meanwhile. The rest wait for their turn, which goes round between the clients that wait. At most four times as many wait; beyond that the client with the most waiting loses its newest. Default 1024, each costs about 100 KiB.
	Handshakes int `yaml:"handshakes"`
	// HandshakesPerClient under way at the same time of one IPv4 address or one IPv6 /64, those that wait for the client included; the rest of them wait. Default an eighth of handshakes, so that a client that is slow on purpose holds no other up.
	HandshakesPerClient int `yaml:"handshakes_per_client"`
	// HandshakesPerSecond is how much work one IPv4 address or one IPv6 /64 may cause in a second, counted in ordinary handshakes, 1 to 1000000; as much may come at once after a second without any. The rest of them wait. An ordinary handshake has X25519MLKEM768 and P-256 keys; one with RSA-2048 for the gateway's own key counts as about two, a resumed one or a hello that is refused as less (docs/operating.md). Default 250: about a sixth of a CPU. Raise it where many clients share one address.
	HandshakesPerSecond int `yaml:"handshakes_per_second"`
	// DialsPerDestination is how many flows may wait at the same time for one IP address to answer, its TLS handshake included, 1 to 1000000. Beyond that the client with the most loses its newest, so that a destination that is dead holds no other up. Default 1024.
	DialsPerDestination int `yaml:"dials_per_destination"`
	// RefusalRecordsPerClient is how many refused flows and SYNs of one IPv4 address or one IPv6 /64 get an audit record in a second, 1 to 1000000; ten times as many may come at once after ten seconds without any. The rest are counted in later records (docs/audit.md). What is let through always has its record. Default 10, or refusal_records where that is less: at 600 bytes, as of who speaks no TLS, half a gigabyte a day.
	RefusalRecordsPerClient int `yaml:"refusal_records_per_client"`
	// RefusalRecords is how many refused flows and SYNs of all clients get an audit record in a second, 1 to 1000000; ten times as many may come at once. Default 200.
	RefusalRecords int `yaml:"refusal_records"`
	// PerIdentity bounds what one proven identity may have, whatever addresses it comes from. Default: nothing is bounded.
	PerIdentity PerIdentity `yaml:"per_identity"`
	// Chain is the number of certificates a client or a destination may show, 1 to 100; looked at before any signature is checked. Default 10.
	Chain int `yaml:"chain"`
	// ChainBytes is the size of those certificates together, 1KiB to 256KiB. Default 64KiB.
	ChainBytes Size `yaml:"chain_bytes"`
	// Idle is the time after which a flow without any data ends. Default 10m.
	Idle Duration `yaml:"idle"`
	// Stall is how long data may wait for a client or a destination that is there but does not read: within it, 16KiB or all that waits must be taken. Then the flow ends. Default 1m.
	Stall Duration `yaml:"stall"`
	// HalfClosed is the time after which a flow without any data ends once one side has closed. Default 1m.
	HalfClosed Duration `yaml:"half_closed"`
	// Memory is the most resident memory the process may take, at least 128MiB. Near it socket buffers shrink, then no flow is taken, then the flows end whose clients hold the most. Default: three quarters of what the machine, or the control group, has.
	Memory Size `yaml:"memory" reload:"restart"`
	// Drain is the time live flows have to end after SIGTERM. Default 30s.
	Drain Duration `yaml:"drain"`
	// ShutdownDelay is how long new flows are still taken after SIGTERM or `sslgate drain`, while the gateway says already that it is not ready; at most 10m. It is the time that routers and load balancers need to see that and to lead clients elsewhere. Default 0s: new flows are refused at once.
	ShutdownDelay Duration `yaml:"shutdown_delay"`
}

// PerIdentity bounds what one proven identity may have: the names that its certificate has, of one authority. A renewed certificate is the same identity. It is counted after the client has proven its key, so that nobody uses up another's share.
type PerIdentity struct {
	// Flows held at the same time; more are refused with reason identity_flow_limit. Default 0: no bound.
	Flows int `yaml:"flows"`
	// Handshakes in a second, as many may come at once after a second without any; more are refused with reason identity_handshake_limit. Default 0: no bound.
	Handshakes int `yaml:"handshakes"`
	// BytesPerSecond is how much the flows of an identity carry together in a second, both ways; beyond that they are read more slowly. At least 16KiB. Default 0: no bound.
	BytesPerSecond Size `yaml:"bytes_per_second"`
}

// Audit is the record of every flow. It goes to one of file, journal and syslog.
type Audit struct {
	// File the records are appended to, one JSON object a line; "-" is standard output, which is the default.
	File string `yaml:"file"`
	// Journal sends the records to systemd-journald. Default false.
	Journal bool `yaml:"journal"`
	// Syslog is the unix datagram socket the records are sent to by RFC 5424, such as /dev/log. Default none.
	Syslog string `yaml:"syslog"`
	// Rotate says when the file gives way to the next.
	Rotate Rotate `yaml:"rotate"`
	// Queue is the number of records that may wait to be written, about 3 KiB each, 1 to 65536. Default 4096.
	Queue int `yaml:"queue"`
	// OnFull is what happens while records cannot be written: "refuse" (the default; no new flow begins), "block" (flows wait once the queue is full) or "drop" (flows pass, and records that find no room are lost and counted).
	OnFull string `yaml:"on_full"`
}

// Rotate says when the audit file gives way to the next: FILE becomes FILE.1, FILE.1 becomes FILE.2, and so on. With size 0, move the file away yourself: it is made anew within a second, and at once by a reload.
type Rotate struct {
	// Size of the file, at least 64KiB, or 0: never. Default 128MiB, so that the file and seven older ones take 1GiB.
	Size Size `yaml:"size"`
	// Keep is how many old files stay, 1 to 1000; FILE.N with a higher number up to 1000 is removed. Default 7.
	Keep int `yaml:"keep"`
}

// Log is what the gateway says of itself, on standard error: of one message a hundred lines in ten seconds at most, and then one that counts the rest. Whoever starts it keeps and rotates that: journald, or the container's runtime.
type Log struct {
	// Level is debug, info (the default), warn or error.
	Level string `yaml:"level"`
	// Format is "console" (the default) or "json".
	Format string `yaml:"format"`
}

// Admin is the gateway's own door for status and reload.
type Admin struct {
	// Socket is the path of a unix socket, which gets mode 0600, or "off". Default /run/sslgate/admin.sock; where that cannot be had the gateway runs without.
	Socket string `yaml:"socket" reload:"restart"`
	// HTTP is a loopback address such as 127.0.0.1:9440 that also serves the web page, the interface of the socket (with the token) and /metrics. Default none.
	HTTP string `yaml:"http" reload:"restart"`
	// TokenFile holds the token that admin.http asks for, one word of at least 16 bytes; readable by its owner and group only. A reload reads it anew. Required for admin.http.
	TokenFile string `yaml:"token_file"`
	// Metrics serves /metrics, and nothing else, off the host too. Default none.
	Metrics Metrics `yaml:"metrics"`
}

// Metrics is a listener for /metrics with mutual TLS by the terms of a rule.
type Metrics struct {
	// Listen is any address with a port, such as 0.0.0.0:9441 or [::]:9441. Required.
	Listen string `yaml:"listen" reload:"restart"`
	// From lists the networks that may connect: CIDR prefixes or addresses. Default: any.
	From []string `yaml:"from"`
	// Identity names the entry of identities whose certificate is shown. Required.
	Identity string `yaml:"identity"`
	// Profile names the cryptographic profile: modern, intermediate, or one of profiles. Default intermediate.
	Profile string `yaml:"profile"`
	// Client says who may read, in the words of a rule; a certificate is always required.
	Client policy.ClientSpec `yaml:"client"`
}

// Reload says what a changed configuration does to a running gateway. SIGHUP and `sslgate reload` read it anew; all of it is put in place, or nothing.
type Reload struct {
	// Watch also reloads when the configuration or a file it names has changed, certificates, keys and CAs that are renewed by themselves excepted; looked at every 5 seconds. A reload for which there was no memory or no time is tried again after 30 seconds, then ever less often, at least every 16 minutes. Default false.
	Watch bool `yaml:"watch"`
	// Renew takes renewed certificates of identities and authorities without a reload: their files are looked at every 5 seconds. Once certificate and key of an identity belong together, are valid, and are for the same names, kind of key and uses as before, new handshakes show them; no ticket ends by it. Once the CAs of an authority can be used, have no key that was not trusted before (add_roots), and their files have been the same at two looks, new handshakes are verified by them, and live says what becomes of flows. Until then those of before stay, and `sslgate status` says why. Default true; with false a reload takes them.
	Renew bool `yaml:"renew"`
	// AddRoots lets renew also take roots of an authority whose key was not trusted before. Default false: whoever writes the file can renew and take out by himself, and a new one takes a reload.
	AddRoots bool `yaml:"add_roots"`
	// Live is what becomes of flows that relay already: "keep" (the default; they keep the policy they began with) or "reevaluate" (each is judged anew by the new policy, its certificates too, and ends where a new connection like it would be refused). Flows that do not relay yet are always judged by the new policy.
	Live string `yaml:"live"`
}

// Upgrade says what a new process needs beside the one it takes over from (docs/upgrade.md). It then has a device, a mark and a routing table of its own; those of tun and capture are the other one's.
type Upgrade struct {
	// CTMask has the two bits of the ct mark of connection tracking that say which of two gateways a connection is kept at. sslgate sets and compares no others. Default 0x30.
	CTMask uint32 `yaml:"ct_mask"`
	// TUN is the name of the second device, at most 15 bytes. Default sslgate1.
	TUN string `yaml:"tun"`
	// Mark is the second firewall mark of captured packets, within capture.mask. Default: the least that nothing else has, 0x40; where there is none there can be no hand-over.
	Mark uint32 `yaml:"mark"`
	// Table is the number of the second routing table: 1 to 2147483647 without 253 to 255, which are the system's. Default 5521.
	Table int `yaml:"table"`
	// Drain is the time live flows have to end in a process that has handed over, at most 168h: it harms nobody, for new ones begin in the other. Default 12h.
	Drain Duration `yaml:"drain"`
}

// Fleet makes the gateway one of many that share a policy (docs/fleet.md). Then this file has what is this host's own, which is version, tun, capture, fail, dial, state, audit, log, admin, upgrade and fleet; all other keys come from the fleet's signed bundle, which has none of these.
type Fleet struct {
	// Root is the file of the fleet's root, which names the keys that may sign. It was handed over with the gateway; newer ones follow it by themselves. Required.
	Root string `yaml:"root"`
	// Certificate is the PEM file of this gateway's own certificate. Its name spiffe://FLEET/gw/SITE/GATEWAY says which site's part of a bundle is taken, and an https or etcd source is shown it. Required.
	Certificate string `yaml:"certificate"`
	// Key is the PEM file of its private key, readable by its owner (and group) only. Required for an https or etcd source.
	Key string `yaml:"key"`
	// Source is where bundles come from, which need not be trusted: file:/DIRECTORY, https://HOST/PATH, or etcd://HOST:PORT,HOST:PORT/PREFIX with the members of an etcd and what its keys begin with. Required.
	Source string `yaml:"source"`
	// CA is the PEM file of the roots that an https or etcd source is verified by. Default: those of the system.
	CA string `yaml:"ca"`
	// State is the directory with the last good bundle and the highest epoch seen. Each gateway has its own. Required.
	State string `yaml:"state"`
	// Poll is how often the source is looked at, 100ms to 1h; etcd says besides at once when there is something new. Default 5s.
	Poll Duration `yaml:"poll"`
	// Stale is what the gateway does once its source has not answered for stale_after, or has withheld the list of what is revoked that the newest bundle names, or the not_after of the bundle in force has passed: keep lets new connections in by that bundle, refuse refuses them. Held ones stay. It says that it is not fresh in either case. Default keep.
	Stale string `yaml:"stale"`
	// StaleAfter is the time after which `stale: refuse` counts, also over restarts, 10s to 720h. Default 1h.
	StaleAfter Duration `yaml:"stale_after"`
}

// DefaultFile is the configuration that commands read where none is named. The
// package's units read it.
const DefaultFile = "/etc/sslgate/sslgate.yaml"

// DefaultSocket is admin.socket where it is not set; AdminOff means none.
const (
	DefaultSocket = "/run/sslgate/admin.sock"
	AdminOff      = "off"
)

// Ports is a list of TCP ports, or all of them.
type Ports struct {
	All  bool
	List []uint16 // sorted, without repeats; empty if All
}

// Duration is a time.Duration written as "10s".
type Duration time.Duration

// Size is a number of bytes written as "64KiB", "1MiB" or plain.
type Size int64
