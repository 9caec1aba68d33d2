package reason

// The codes. Each has its entry in All; a test keeps the two in step.
const (
	// Before the client hello: packets and SYN.

	NoRule           Code = "no_rule"           // no rule's address selectors fit: default deny
	OutsideTime      Code = "outside_time"      // a rule would let it through, but not at this time
	RuleDeny         Code = "rule_deny"         // a rule with action deny fits
	PortNotCaptured  Code = "port_not_captured" // the destination's port is not in capture.ports: a DNAT on the way changed it
	OwnConnection    Code = "own_connection"    // of a socket of sslgate itself: a chain of others hides its mark
	FlowLimit        Code = "flow_limit"        // limits.flows reached
	ClientLimit      Code = "client_limit"      // limits.flows_per_client reached
	BadPacket        Code = "bad_packet"        // LAND, multicast or otherwise impossible addresses
	Draining         Code = "draining"          // no new flows while the gateway drains
	MemoryLimit      Code = "memory_limit"      // limits.memory is near
	AuditUnavailable Code = "audit_unavailable" // records cannot be written, and audit.on_full refuses or waited too long
	FleetStale       Code = "fleet_stale"       // the fleet's bundle is too old, and fleet.stale refuses
	AcceptFailed     Code = "accept_failed"     // three-way handshake not completed by the client
	EndedUndecided   Code = "ended_undecided"   // ended by us while it waited, before anything was decided
	Internal         Code = "internal_error"    // a bug of ours; the flow is refused

	// Step 1: the client hello.

	HelloTimeout    Code = "hello_timeout"
	HelloEOF        Code = "hello_eof"
	HelloReset      Code = "hello_reset"
	HelloTooLarge   Code = "hello_too_large"
	HelloTooMany    Code = "hello_too_many"
	HelloMalformed  Code = "hello_malformed"
	PlainHTTP       Code = "plain_http"
	NotTLS          Code = "not_tls"
	ClientSpeaksTLS Code = "client_speaks_tls"
	BadCompression  Code = "bad_compression"
	ProtocolVersion Code = "protocol_version"
	NoCommonSuite   Code = "no_common_suite"
	NoCommonGroup   Code = "no_common_group"
	NoCommonSigAlg  Code = "no_common_signature_algorithm"
	SNIMissing      Code = "sni_missing"
	SNIUnknown      Code = "sni_unknown"
	SNIInvalid      Code = "sni_invalid"
	NoALPN          Code = "no_application_protocol"
	// HandshakeLimit: limits.handshakes, handshakes_per_client, handshakes_per_second.
	HandshakeLimit Code = "handshake_limit"
	// ACMEChallenge: tls-alpn-01, RFC 8737.
	ACMEChallenge Code = "acme_challenge"
	ACMEUnawaited Code = "acme_unawaited"
	// What is said in the clear before TLS, under a rule with upgrade.
	NotUpgraded      Code = "client_not_upgraded"
	UpgradeMalformed Code = "upgrade_malformed"
	UpgradeInjected  Code = "plaintext_injected" // CVE-2011-0411, CVE-2021-23214
	UpgradeCancel    Code = "cancel_in_the_clear"
	// NoExtendedMasterSecret: RFC 7627, section 5.2.
	NoExtendedMasterSecret Code = "no_extended_master_secret"

	// Steps 2 and 3: the server's answer, judged by the client.

	IdentityEnded    Code = "identity_expired"
	SignerFailed     Code = "signer_failed"
	ClientRefused    Code = "client_refused_server"
	HandshakeTimeout Code = "handshake_timeout"
	HandshakeEOF     Code = "handshake_eof"
	HandshakeReset   Code = "handshake_reset"
	HandshakeFailed  Code = "handshake_failed"

	// Steps 5 and 6: the client's certificate.

	NoCertificate     Code = "no_certificate"
	BadCertificate    Code = "bad_certificate"
	UnknownCA         Code = "unknown_ca"
	Expired           Code = "certificate_expired"
	NotYetValid       Code = "certificate_not_yet_valid"
	WrongUsage        Code = "certificate_wrong_usage"
	WeakKey           Code = "certificate_weak_key"
	WeakSignature     Code = "certificate_weak_signature"
	ChainTooLong      Code = "certificate_chain_too_long"
	NameConstraint    Code = "certificate_name_constraint"
	NotACA            Code = "certificate_issuer_not_ca"
	UnknownCritical   Code = "certificate_unknown_critical_extension"
	NoPossession      Code = "no_proof_of_possession"
	Revoked           Code = "certificate_revoked"
	RevocationUnknown Code = "revocation_unknown"
	AuthorityNotNamed Code = "authority_may_not_name"
	NotAllowed        Code = "identity_not_allowed"
	ConditionFailed   Code = "condition_failed"
	ConditionError    Code = "condition_error"
	PolicyChanged     Code = "policy_changed"
	// limits.per_identity
	IdentityFlowLimit      Code = "identity_flow_limit"
	IdentityHandshakeLimit Code = "identity_handshake_limit"

	// Towards the destination.

	DialForbidden     Code = "destination_forbidden"
	DialRefused       Code = "destination_refused"
	DialTimeout       Code = "destination_timeout"
	DialUnreachable   Code = "destination_unreachable"
	DestinationLimit  Code = "destination_limit" // limits.dials_per_destination reached
	DialSource        Code = "destination_not_as_client"
	UpstreamUnknownCA Code = "destination_unknown_ca"
	UpstreamExpired   Code = "destination_certificate_expired"
	UpstreamName      Code = "destination_wrong_name"
	UpstreamBadCert   Code = "destination_bad_certificate"
	UpstreamPin       Code = "destination_wrong_key"
	UpstreamCrypto    Code = "destination_weak_cryptography"
	UpstreamRefusedUs Code = "destination_refused_us"
	UpstreamALPN      Code = "destination_alpn_mismatch"
	UpstreamFailed    Code = "destination_handshake_failed"
	UpstreamTimeout   Code = "destination_handshake_timeout"
	// What is said in the clear before TLS, under destination.upgrade.
	UpstreamNotUpgraded Code = "destination_not_upgraded"
	UpstreamInjected    Code = "destination_plaintext_injected" // CVE-2021-23222

	// Let through.

	OK              Code = "verified"
	OKNoCertificate Code = "allowed_without_certificate"
	OKNotAsked      Code = "allowed_not_asked"
	Bypassed        Code = "bypassed"
	Originated      Code = "originated"
	Observed        Code = "observed"

	// How a flow that was let through ended.

	EndClean            Code = "closed"
	EndClientReset      Code = "client_reset"
	EndDestinationReset Code = "destination_reset"
	EndClientTrunc      Code = "client_truncated"
	EndDestinationTrunc Code = "destination_truncated"
	EndNoNotify         Code = "closed_without_notify"
	EndIdle             Code = "idle_timeout"
	EndHalfClosed       Code = "half_closed_timeout"
	EndMemory           Code = "memory_pressure"
	EndDrain            Code = "drain_deadline"
	EndClientError      Code = "client_error"
	EndDestinationError Code = "destination_error"
	EndPolicy           Code = "no_longer_allowed"
	EndOperator         Code = "ended_by_operator"
	EndClientLost       Code = "client_unresponsive"
	EndDestinationLost  Code = "destination_unresponsive"
	// The peers of these two are alive but do not read.
	EndClientStalled      Code = "client_stalled"
	EndDestinationStalled Code = "destination_stalled"

	EndRevoked Code = "client_certificate_revoked"
	EndExpired Code = "client_certificate_expired"

	EndClientRenegotiation      Code = "client_renegotiation"
	EndDestinationRenegotiation Code = "destination_renegotiation"

	EndDestinationRevoked Code = "destination_certificate_revoked"
)

// entries is the list, in the order of a flow's life. It is never changed.
var entries = [...]Entry{
	{NoRule, Refused, 0, 49, "no rule's addresses fit this connection; the default is to deny", "ask for a rule for this source and destination, or connect to a destination that has one"},
	{OutsideTime, Refused, 0, 49, "a rule would let this connection through, but not at this time", "connect within the time that the rule names, or ask its owner for another"},
	{RuleDeny, Refused, 0, 49, "a rule with action deny fits", "this destination is closed on purpose; ask the owner of the rule named in the record"},
	{PortNotCaptured, Refused, 0, NoAlert, "the packets were led here by a captured port, but their destination has another one: a DNAT of this host changed it", "name both ports in capture.ports: that which clients dial and that which the DNAT changes it to"},
	{OwnConnection, Refused, 0, NoAlert, "a connection that sslgate itself has opened was led back into it: a chain of another program in the hook output takes the mark from its packets, or the label from its connection", "look for a rule in a chain output, before priority -199, that sets, restores or clears marks (`sslgate doctor` names such), and let it leave capture.mask alone"},
	{FlowLimit, Refused, 0, NoAlert, "the gateway already holds as many flows as limits.flows allows", "retry later; the gateway's operator should look at limits.flows and at who holds the flows"},
	{ClientLimit, Refused, 0, NoAlert, "this client address already holds as many flows as limits.flows_per_client allows", "close connections that are not used, or ask for a higher limits.flows_per_client"},
	{BadPacket, Refused, 0, NoAlert, "the packet's addresses cannot belong to a connection (LAND, multicast, unspecified, broadcast)", "look for a spoofing or misconfigured host on the client's side"},
	{Draining, Refused, 0, NoAlert, "the gateway is draining and takes no new flows", "retry after the gateway has restarted"},
	{MemoryLimit, Refused, 0, NoAlert, "the gateway has little memory left of limits.memory and takes no further flow", "retry later; the gateway's operator should look at limits.memory and at who holds the memory (sslgate_memory_bytes)"},
	{AuditUnavailable, Failed, 0, NoAlert, "audit records cannot be written, and audit.on_full is not drop", "retry later; the gateway's operator should look at its log for why records cannot be written (disk full, file system read-only, no journald)"},
	{FleetStale, Refused, 0, NoAlert, "the source of the fleet's bundles has been silent for fleet.stale_after, or the bundle in force has ended, and fleet.stale is refuse", "retry later; the gateway's operator should look at what fleet.source says (`sslgate status`), or sign the next bundle"},
	{AcceptFailed, Refused, 0, NoAlert, "the client did not complete the TCP handshake", "look for packet loss or a spoofed source address"},
	{EndedUndecided, Failed, 0, NoAlert, "the gateway ended the connection before it was decided whether it is let through: end in the record says why", "connect again; whatever the connection waited for is not to blame"},
	{Internal, Failed, 0, 80, "a defect in sslgate; the flow was refused to be safe", "report it with the audit record and the log lines around it"},

	{HelloTimeout, Refused, 1, NoAlert, "the client did not send a whole ClientHello within limits.handshake", "a client that has sent nothing may wait for the server to speak first (SMTP, SSH, MySQL), which nothing that waits for a ClientHello can serve: before the rule of the detail write one with the client's address in from, the server's in to, and action originate if the server speaks TLS from the first byte, else bypass; for one that has sent a part look at its network, or raise limits.handshake"},
	{HelloEOF, Refused, 1, NoAlert, "the client closed before it had sent a whole ClientHello", "at once, a port scan or health check does this: point health checks at the gateway's own status; after seconds and 0 bytes, one that waited for the server to speak first: `sslgate reason hello_timeout` says what to do"},
	{HelloReset, Refused, 1, NoAlert, "the client reset the connection before it had sent a whole ClientHello", "at once, a port scan or health check does this: point health checks at the gateway's own status; after seconds and 0 bytes, one that waited for the server to speak first: `sslgate reason hello_timeout` says what to do"},
	{HelloTooLarge, Refused, 1, 47, "the ClientHello is larger than limits.hello", "shorten the client's extensions, or raise limits.hello (at most 64KiB)"},
	{HelloTooMany, Refused, 1, 47, "a list in the ClientHello has more entries than any real client sends; the record's detail says which", "find out what the client is: no browser or library comes near these numbers, a scanner or an attacker does"},
	{HelloMalformed, Refused, 1, 50, "the ClientHello cannot be decoded", "look for a broken TLS library or a middlebox that rewrites the hello"},
	{PlainHTTP, Refused, 1, 10, "plain HTTP on a TLS port", "use https:// in the client's address"},
	{NotTLS, Refused, 1, 10, "the first bytes are not a TLS record", "switch the client to TLS, or ask for a rule for this client and destination with action originate, if the destination speaks TLS, or else bypass"},
	{ClientSpeaksTLS, Refused, 1, 10, "the client speaks TLS, and the rule is for clients that speak without (action originate)", "switch TLS off in the client, or ask for a rule with action terminate or bypass for it; TLS within TLS is hardly meant"},
	{NotUpgraded, Refused, 1, NoAlert, "the client goes on without TLS, and the rule is for clients that upgrade to it (upgrade); it was told so in its protocol", "switch TLS on in the client, so that it cannot go on without: sslmode=verify-full for PostgreSQL"},
	{UpgradeMalformed, Refused, 1, NoAlert, "what the client says before TLS is not the protocol of the rule's upgrade", "look which protocol the client speaks; one that speaks TLS from the first byte needs a rule without upgrade, or the protocol's ALPN"},
	{UpgradeInjected, Refused, 1, NoAlert, "more came in the clear behind the client's request for TLS, before it was answered", "a client that does not wait for the answer is broken; if it is not, somebody between it and the gateway has added to what it says (CVE-2021-23214)"},
	{UpgradeCancel, Refused, 1, NoAlert, "a request in the clear to cancel a query (PostgreSQL's CancelRequest), which proves nobody", "cancel with pg_cancel_backend(), or set statement_timeout; programs that cancel with PQcancelStart of libpq 17 do it through TLS, and psql does not"},
	{BadCompression, Refused, 1, 47, "the client's list of compression methods has no null method, or more than it where TLS 1.3 forbids that (RFC 8446, section 4.1.2)", "update the client's TLS library"},
	{ProtocolVersion, Refused, 1, 70, "the client offers no protocol version that the rule's profile allows", "enable TLS 1.2 or 1.3 in the client"},
	{NoCommonSuite, Refused, 1, 71, "the client offers no CipherSuite that the rule's profile allows", "enable one of the profile's CipherSuites in the client (ECDHE with AES-GCM or ChaCha20-Poly1305)"},
	{NoCommonGroup, Refused, 1, 71, "the client offers no key exchange group that the rule's profile allows", "enable one of the profile's groups in the client (X25519, secp256r1, X25519MLKEM768)"},
	{NoCommonSigAlg, Refused, 1, 40, "the client accepts no signature algorithm that fits the gateway's certificate", "allow ECDSA or RSA-PSS signatures in the client, or give the identity a certificate of the other kind"},
	{SNIMissing, Refused, 1, 109, "the client sent no server name (SNI), and every rule for this destination asks for one", "connect by name instead of by IP address, or use a client that sends SNI"},
	{SNIUnknown, Refused, 1, 112, "no rule for this destination knows the server name (SNI) that the client asked for", "check the name the client connects to, or ask for a rule for it"},
	{SNIInvalid, Refused, 1, 47, "the server name (SNI) is not a DNS host name (RFC 6066, section 3)", "use a DNS name without port, spaces or address literal"},
	{NoExtendedMasterSecret, Refused, 1, 40, "the client offers TLS 1.2 without extended_master_secret (RFC 7627), which the rule's profile requires", "update the client's TLS library, or enable TLS 1.3 in it"},
	{HandshakeLimit, Refused, 1, NoAlert, "too many handshakes wait for their turn, most of them this client's, or the turn did not come within limits.handshake", "keep connections open or resume sessions instead of making new ones, and retry later; the gateway's operator should look at limits.handshakes, handshakes_per_client and handshakes_per_second"},
	{NoALPN, Refused, 1, 120, "the client offers no application protocol (ALPN) that the rule answers, or only ones that need an answer and get none; the detail has both lists", "enable one of the rule's protocols in the client; or add the client's to alpn of the rule, if the destination speaks it"},
	{ACMEChallenge, Refused, 1, NoAlert, "a CA asked for the proof that the gateway holds the name (tls-alpn-01, RFC 8737), and got it from the gateway itself; nothing was forwarded", "nothing: it is part of ordering a certificate"},
	{ACMEUnawaited, Refused, 1, NoAlert, "a CA asked for the proof of a name (tls-alpn-01, RFC 8737) while this gateway awaits one for another name", "if the name is one of this gateway's, look at who has ordered a certificate for it: the CA has to come to that host"},

	{IdentityEnded, Failed, 2, 80, "the gateway's own certificate for this connection (identity, or destination.identity) has ended, or the first one is not there yet, and no newer one is there", "the client can do nothing: the gateway's operator looks at `sslgate status` for why the certificate was not renewed, and renews it"},
	{SignerFailed, Failed, 3, 80, "the process that has the key of the gateway's certificate (signer:) did not sign; the record's detail says why", "the client can do nothing: the gateway's operator looks at the signer, and at `sslgate status`"},
	{ClientRefused, Refused, 3, NoAlert, "the client did not accept the gateway's certificate or choice; its alert is in the record", "give the client the CA certificate of the gateway's identity"},
	{HandshakeTimeout, Refused, 3, NoAlert, "the client stopped answering in the middle of the handshake", "look at the client's network, or at a client that waits for the user to pick a certificate"},
	{HandshakeEOF, Refused, 3, NoAlert, "the client closed in the middle of the handshake without an alert", "look at the client's own log; often it did not accept the gateway's certificate"},
	{HandshakeReset, Refused, 3, NoAlert, "the client reset the connection in the middle of the handshake", "look at the client's own log; often it did not accept the gateway's certificate"},
	{HandshakeFailed, Refused, 3, 40, "the handshake failed; the record's detail says how", "look at the detail of the record; update the client's TLS library"},

	{NoCertificate, Refused, 5, 116, "the client sent no certificate, and the rule requires one", "give the client a certificate of one of the CAs named in the record"},
	{BadCertificate, Refused, 6, 42, "the client's certificate cannot be decoded or its signature is wrong", "issue the certificate anew"},
	{UnknownCA, Refused, 6, 48, "the client's certificate leads to no authority that the rule trusts", "use a certificate of one of the CAs named in the record, and send the intermediate certificates with it, or name them in the authority's intermediates"},
	{Expired, Refused, 6, 45, "the client's certificate, or one of its issuers, has expired", "renew the certificate"},
	{NotYetValid, Refused, 6, 45, "the client's certificate, or one of its issuers, is not valid yet", "check the clocks of the CA and of the gateway"},
	{WrongUsage, Refused, 6, 43, "the client's certificate is not meant for client authentication (extended key usage), or not for signing (key usage)", "issue a certificate with the clientAuth extended key usage, and digitalSignature where it has a key usage"},
	{WeakKey, Refused, 6, 43, "a key in the client's certificate chain is too small, or of a kind that the profile does not allow or that nothing can be verified with (DSA, Ed448, RSASSA-PSS)", "issue a certificate with RSA of at least 2048 bits or ECDSA P-256 and above"},
	{WeakSignature, Refused, 6, 43, "a certificate in the client's chain is signed with an algorithm that is not accepted (MD5, SHA-1)", "issue the chain anew with SHA-256 or better"},
	{ChainTooLong, Refused, 6, 42, "the client's certificate chain is longer, or larger, than the limit", "send only the leaf and its intermediate certificates"},
	{NameConstraint, Refused, 6, 42, "a name in the client's certificate is outside the name constraints of its issuer", "issue the certificate from a CA that may speak for the name"},
	{NotACA, Refused, 6, 42, "an issuer in the client's chain is not a CA, or its path length does not allow it", "send the proper intermediate certificates"},
	{UnknownCritical, Refused, 6, 43, "a certificate in the client's chain has a critical extension that is not understood", "issue the certificate without it"},
	{NoPossession, Refused, 6, 51, "the client did not prove that it holds the key of the certificate it showed", "the key does not fit the certificate; if nobody configured that by mistake, somebody is trying a copied certificate"},
	{Revoked, Refused, 6, 44, "the client's certificate, or one of its issuers, was revoked", "issue a new certificate for a new key; the record's detail names the list or the answer that says so"},
	{RevocationUnknown, Refused, 6, 46, "nothing fresh is known about the revocation of the client's certificate or of one of its issuers, and the authority's revocation is hard", "the client can do nothing: the gateway's operator looks at the authority's revocation lists and OCSP responder; the record's detail says which is missing or stale"},
	{AuthorityNotNamed, Refused, 6, 49, "the authority that signed the client's certificate may not speak for the name in it", "use a certificate of the authority that is responsible for this name"},
	{NotAllowed, Refused, 6, 49, "the client is known, but none of the rule's allow entries fits it", "ask the owner of the rule to allow this identity"},
	{ConditionFailed, Refused, 6, 49, "the rule's condition (when) is not true for this client; it stands in the record's detail", "ask the owner of the rule what it demands; `sslgate explain` shows the values it saw"},
	{ConditionError, Refused, 6, 49, "the rule's condition (when) could not be evaluated for this client, which denies; the record's detail says why", "tell the owner of the rule: a condition must hold its own for certificates without the field it asks for"},
	{PolicyChanged, Refused, 6, 49, "the policy was reloaded during this connection's handshake, and the new one would have the connection otherwise: bypassed or terminated, or another way to the destination", "connect again: the new policy decides then"},
	{IdentityFlowLimit, Refused, 6, NoAlert, "the identity that the client has proven holds as many flows as limits.per_identity.flows allows", "close connections that are not used; the gateway's operator should look at who uses this identity (`sslgate flows`), and at the limit"},
	{IdentityHandshakeLimit, Refused, 6, NoAlert, "the identity that the client has proven makes more handshakes in a second than limits.per_identity.handshakes allows", "keep connections open instead of making new ones; the gateway's operator should look at who uses this identity, and at the limit"},

	{DialForbidden, Failed, 9, 49, "the destination is multicast or loopback, or link-local, the gateway's own or the TUN's address and the rule in force does not name it exactly", "connect to a real destination; a rule that names a link-local address or one of the gateway's own exactly lifts this"},
	{DialRefused, Failed, 9, 80, "the destination refused the connection", "look whether the service is running"},
	{DialTimeout, Failed, 9, 80, "the destination did not answer within dial.timeout", "look at the route and firewall between the gateway and the destination"},
	{DialUnreachable, Failed, 9, 80, "there is no route from the gateway to the destination", "look at the gateway's routes"},
	{DestinationLimit, Refused, 9, NoAlert, "as many flows as limits.dials_per_destination allows wait for this destination already, which does not answer as fast as they come", "look at why the destination answers slowly, or not at all; retry later"},
	{DialSource, Failed, 9, 80, "the rule says source: client, and no connection can be made under this client's address; none was made under the gateway's", "the record's detail says why: a destination on the gateway itself, an address that is not the client's alone, no port left, or CAP_NET_ADMIN missing"},
	{UpstreamUnknownCA, Failed, 9, 80, "the destination's certificate leads to no authority that the rule trusts", "add the destination's CA to destination.authorities"},
	{UpstreamExpired, Failed, 9, 80, "the destination's certificate has expired or is not valid yet", "renew the destination's certificate"},
	{UpstreamName, Failed, 9, 80, "the destination's certificate is not for the name asked for", "set destination.name, or issue the certificate for the right name"},
	{UpstreamBadCert, Failed, 9, 80, "the destination's certificate is not acceptable; the record's detail says why", "issue the destination's certificate anew"},
	{UpstreamPin, Failed, 9, 80, "the destination's certificate has another key than the rule pins", "if the destination changed its key on purpose, put the pin of the detail into destination.pins; if not, somebody else answers"},
	{UpstreamCrypto, Failed, 9, 80, "the destination offers or chose a version, CipherSuite or group that the rule's profile does not allow", "enable modern TLS at the destination, or give the rule's destination a profile of its own"},
	{UpstreamRefusedUs, Failed, 9, 80, "the destination ended the handshake with an alert; it is in the record", "look at the destination's log; often it wants a client certificate (destination.identity)"},
	{UpstreamALPN, Failed, 9, 80, "the destination agreed to another application protocol than the client's leg", "align the rule's alpn list with what the destination speaks"},
	{UpstreamFailed, Failed, 9, 80, "the TLS handshake with the destination failed; the record's detail says how", "look whether the destination speaks TLS on this port"},
	{UpstreamNotUpgraded, Failed, 9, 80, "the destination does not upgrade to TLS as destination.upgrade says; the record's detail has its answer", "switch TLS on at the destination (ssl = on for PostgreSQL)"},
	{UpstreamInjected, Failed, 9, 80, "more came in the clear behind the destination's yes to TLS", "somebody between the gateway and the destination adds to what it says (CVE-2021-23222), or it is no server of this protocol"},
	{UpstreamTimeout, Failed, 9, 80, "the destination stopped answering in the middle of the TLS handshake", "look at the destination's load, or whether it speaks TLS on this port"},

	{OK, Allowed, 9, NoAlert, "the client proved a certificate that the rule allows", ""},
	{OKNoCertificate, Allowed, 9, NoAlert, "the client sent no certificate where one is optional (the warning of step 5)", ""},
	{OKNotAsked, Allowed, 9, NoAlert, "the rule does not ask for a client certificate", ""},
	{Bypassed, Allowed, 0, NoAlert, "a rule with action bypass fits: relayed without looking inside", ""},
	{Originated, Allowed, 9, NoAlert, "a rule with action originate fits: the client speaks without TLS, and sslgate has made a TLS connection with the destination for it; of the client nothing is known but its address", ""},
	{Observed, Allowed, 9, NoAlert, "let through because the rule, or the policy, is only observed; enforced, it would have been refused, and the record says why (would)", "look at the reason under would before the rule is enforced"},

	{EndClean, Ended, 9, NoAlert, "both sides closed in order", ""},
	{EndClientReset, Ended, 9, NoAlert, "the client reset the connection", ""},
	{EndDestinationReset, Ended, 9, NoAlert, "the destination reset the connection", ""},
	{EndClientTrunc, Ended, 9, NoAlert, "the client closed inside a TLS record: the data is cut short (RFC 8446, section 6.1)", ""},
	{EndDestinationTrunc, Ended, 9, NoAlert, "the destination closed inside a TLS record: the data is cut short (RFC 8446, section 6.1)", ""},
	{EndNoNotify, Ended, 9, NoAlert, "one side, named in the detail, closed between two TLS records and without close_notify, as many programs do; whether more should have come is not known (RFC 8446, section 6.1)", ""},
	{EndIdle, Ended, 9, NoAlert, "nothing was sent either way for limits.idle", ""},
	{EndHalfClosed, Ended, 9, NoAlert, "one side had closed, and nothing was sent either way for limits.half_closed", "raise limits.half_closed for clients that close and then wait long for the answer"},
	{EndMemory, Ended, 9, NoAlert, "memory ran out (limits.memory), and this flow's client held the most data that nobody took", "look why the client or the destination does not read; otherwise raise limits.memory"},
	{EndDrain, Ended, 9, NoAlert, "the gateway stopped and the drain deadline passed", ""},
	{EndClientError, Ended, 9, NoAlert, "the client broke the protocol or its connection failed; the record's detail says how", ""},
	{EndDestinationError, Ended, 9, NoAlert, "the destination broke the protocol or its connection failed; the record's detail says how", "an alert about a certificate, before anything came from the destination, is how it refuses ours in TLS 1.3: look at destination.identity and at the destination's log"},
	{EndClientRenegotiation, Ended, 9, NoAlert, "the client began a renegotiation of its TLS 1.2 session, which is never done (RFC 5746, section 4.5)", "switch renegotiation off in the client, or enable TLS 1.3 in it, which has none"},
	{EndDestinationRenegotiation, Ended, 9, NoAlert, "the destination asked for a renegotiation of its TLS 1.2 session, which is never done", "let the destination ask for a certificate in the first handshake, or enable TLS 1.3 there, which has no renegotiation"},
	{EndPolicy, Ended, 9, NoAlert, "a reload brought a policy that no longer allows this flow, and reload.live is reevaluate", ""},
	{EndOperator, Ended, 9, NoAlert, "somebody ended the flow through the admin socket", ""},
	{EndClientLost, Ended, 9, NoAlert, "the client stopped acknowledging packets", ""},
	{EndDestinationLost, Ended, 9, NoAlert, "the destination stopped acknowledging packets", ""},
	{EndClientStalled, Ended, 9, NoAlert, "data waited for limits.stall, and the client, though alive, did not read it (window closed, or less than 16 KiB taken)", "look why the client does not read; raise limits.stall for clients that pause on purpose"},
	{EndDestinationStalled, Ended, 9, NoAlert, "data waited for limits.stall, and the destination, though alive, did not read it (window closed, or less than 16 KiB taken)", "look at the destination's load; raise limits.stall for destinations that pause on purpose"},
	{EndRevoked, Ended, 9, NoAlert, "the client's certificate, or one of its issuers, was revoked while data flowed", ""},
	{EndExpired, Ended, 9, NoAlert, "the client's certificate, or one of its issuers, expired while data flowed", ""},
	{EndDestinationRevoked, Ended, 9, NoAlert, "the destination's certificate, or one of its issuers, was revoked while data flowed", "ask the owner of the destination for another certificate"},
}
