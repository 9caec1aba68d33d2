package policy

import (
	"time"

	"github.com/sslgate/sslgate/handshake"
)

// Spec is the policy section of the configuration as it is written.
type Spec struct {
	// Default is the answer where no rule fits. Only "deny" is possible, and it is the default.
	Default string `yaml:"default"`
	// Mode of every rule that has none of its own, and of the default: "enforce" (the default) or "observe" (decide and record, but let the flow go on).
	Mode string `yaml:"mode"`
	// Sets are lists with a name, each written out or in a file with one member a line. A list of a rule names one as "@name"; what the members must look like follows from there.
	Sets map[string]SetSpec `yaml:"sets"`
	// Rules in order: the first whose selectors fit decides, with no falling through.
	Rules []RuleSpec `yaml:"rules"`
}

// RuleSpec is one rule as it is written.
type RuleSpec struct {
	// Name of the rule in records and messages: letters, digits, "-", "_", ".". Must be unique.
	Name string `yaml:"name"`
	// From lists the client networks the rule is for: CIDR prefixes or addresses. Default: any.
	From []string `yaml:"from"`
	// Local says that the rule is for programs of this host alone (capture.local.out): nobody else can have their addresses. Default: for everybody.
	Local bool `yaml:"local"`
	// To lists the destinations the rule is for: "10.20.0.0/16:443", "[fd00:20::]/32:443", "10.20.0.9:*", "*:443". Required.
	To []string `yaml:"to"`
	// SNI lists the server names the rule is for; "*" as the first label is exactly one label, and "-" is a hello without a server name. Default: any name, and none.
	SNI []string `yaml:"sni"`
	// ALPNOffered lists application protocols (ALPN) of which the client must offer one for the rule to be for it. It answers nothing: alpn does. Default: any, and none.
	ALPNOffered []string `yaml:"alpn_offered"`
	// JA4 lists fingerprints of client hellos that the rule is for, as records have them (hello.ja4): "t13d1516h2_8daaf6152771_e5627efa2ab1"; each of the three parts may be "*". For action deny alone, enforced or observed: a client can send the hello of another, so nobody is let in by it. Default: any.
	JA4 []string `yaml:"ja4"`
	// ALPN lists the application protocols that a client is answered, the preferred one first: the first of the list that it offers. It selects nothing: alpn_offered does. A client that offers others alone is refused, one that offers none goes on. Without the list the destination answers, with dial: first and TLS, and else nobody: then clients that offer nothing but h2 (gRPC), or another protocol that needs an answer, are refused. "alpn: []" says that none is meant. At most 64. Default: none.
	ALPN []string `yaml:"alpn"`
	// Time is when the rule fits. Outside of it the rules behind it are asked, as if this one were not there. Default: always.
	Time *TimeSpec `yaml:"time"`
	// Mode is "enforce" (the default, or the policy's) or "observe": the rule decides and records as ever, but its demands refuse nobody; as a deny rule it is recorded and passed over.
	Mode string `yaml:"mode"`
	// Action is "terminate" (the default), "bypass" (relay without looking inside), "originate" (the client speaks without TLS, and sslgate makes the TLS connection with the destination for it) or "deny".
	Action string `yaml:"action"`
	// Upgrade is how the client begins before TLS, for terminate: "postgres" (an SSLRequest, or TLS at once with the ALPN "postgresql"; one that goes on without TLS is refused in the words of its protocol) or "none" (TLS from the first byte). It is known before the hello, so all rules that wait for a hello of the same client and destination must say the same: the first one counts, and the others are not for it. Clients are answered the protocol's ALPN. Default none.
	Upgrade string `yaml:"upgrade"`
	// Identity names the entry of identities whose certificate is shown to the client. Required for terminate.
	Identity string `yaml:"identity"`
	// Profile names the cryptographic profile towards the client: modern, intermediate, or one of profiles. Default intermediate.
	Profile string `yaml:"profile"`
	// Plaintext is the answer to a client that does not speak TLS: "deny" is the default and the only one so far.
	Plaintext string `yaml:"plaintext"`
	// Ledger is "full" (the default: every handshake message is recorded) or "steps" (only what was decided and how far the nine steps came; a few microseconds cheaper).
	Ledger string `yaml:"ledger"`
	// SameService names rules whose destinations this one's clients may reach with less than those demand: where two rules lead to the same address and the client's hello chooses between them, who is refused by one asks the other, with the first one's name inside (Host). It silences the warnings of `check` about that, and changes no decision. Default: none.
	SameService []string `yaml:"same_service"`
	// Client says what the client must show.
	Client ClientSpec `yaml:"client"`
	// Destination says how the destination is spoken to.
	Destination DestinationSpec `yaml:"destination"`
}

// TimeSpec is a time of the week.
type TimeSpec struct {
	// Days of the week: "mon", or a range such as "mon-fri" or "sat-sun". Default: every day.
	Days []string `yaml:"days"`
	// From is the first minute of the day that belongs to it, "08:00". Default: the whole day.
	From string `yaml:"from"`
	// To is the first minute that does not, "18:00"; "24:00" is the day's end. If it is before from, the window goes past midnight and belongs to the day it begins on.
	To string `yaml:"to"`
	// Zone is the time zone of the IANA database whose clock is meant, "Europe/Berlin". Default UTC.
	Zone string `yaml:"zone"`
}

// ClientSpec is the demand on the client's certificate.
type ClientSpec struct {
	// Certificate is "required" (the default), "optional" (absent is allowed and skips allow; a bad one is refused) or "none" (not asked for).
	Certificate string `yaml:"certificate"`
	// Authorities names the entries of authorities whose certificates are accepted. Clients are sent the names of their roots; where those take more than 65023 bytes none is sent, which means any, and `check` says so. Required unless certificate is none.
	Authorities []string `yaml:"authorities"`
	// Allow is a list of alternatives: OR between the entries, AND between the fields of one. Default: every certificate of the authorities.
	Allow []AllowSpec `yaml:"allow"`
	// When is a condition in CEL that must be true besides, after allow. An error in it denies. The variables stand in policy.md. Default: none.
	When Expression `yaml:"when"`
	// OnRevoked is what happens to a live flow whose certificate is revoked or expires: "close" (the default; it ends within 5 s of that being known) or "keep".
	OnRevoked string `yaml:"on_revoked"`
}

// Expression is a condition in CEL, of one or more lines.
type Expression string

// AllowSpec is one alternative. Within a field that is a list, one value that fits is enough.
type AllowSpec struct {
	// SANDNS: a DNS name in the certificate; "*" as the first label is exactly one label.
	SANDNS []string `yaml:"san_dns"`
	// SANURI: a URI in the certificate, also SPIFFE ids; a trailing "/*" is any one further path segment, "/**" any number.
	SANURI []string `yaml:"san_uri"`
	// SANEmail: an e-mail address in the certificate; "*@example.org" is any local part.
	SANEmail []string `yaml:"san_email"`
	// SANIP: an IP address in the certificate, or a CIDR prefix it must lie in.
	SANIP []string `yaml:"san_ip"`
	// SANDirName: a directoryName in the certificate, in the form of RFC 4514, exactly.
	SANDirName []string `yaml:"san_dirname"`
	// SANRID: a registeredID in the certificate, as an OID.
	SANRID []string `yaml:"san_rid"`
	// SANOther: an otherName in the certificate, as "OID=text"; "1.3.6.1.4.1.311.20.2.3=joe@corp.example" is a user principal name.
	SANOther []string `yaml:"san_other"`
	// SPIFFEDomain: the trust domain of the certificate's SPIFFE id.
	SPIFFEDomain []string `yaml:"spiffe_domain"`
	// Subject: the subject's distinguished name in the form of RFC 4514, exactly.
	Subject []string `yaml:"subject"`
	// SubjectCN: the subject's common name, exactly. Prefer a SAN: nobody verifies what a CA puts here.
	SubjectCN []string `yaml:"subject_cn"`
	// SubjectO: one of the subject's organizations, exactly.
	SubjectO []string `yaml:"subject_o"`
	// SubjectOU: one of the subject's organizational units, exactly.
	SubjectOU []string `yaml:"subject_ou"`
	// SubjectC: one of the subject's countries, exactly.
	SubjectC []string `yaml:"subject_c"`
	// SubjectSerial: the attribute serialNumber of the subject (a device's or a person's number, not the certificate's), exactly.
	SubjectSerial []string `yaml:"subject_serial"`
	// Issuer: the issuer's distinguished name in the form of RFC 4514, exactly.
	Issuer []string `yaml:"issuer"`
	// IssuerCN: the issuer's common name, exactly.
	IssuerCN []string `yaml:"issuer_cn"`
	// IssuerO: one of the issuer's organizations, exactly.
	IssuerO []string `yaml:"issuer_o"`
	// IssuerOU: one of the issuer's organizational units, exactly.
	IssuerOU []string `yaml:"issuer_ou"`
	// ChainSubject: the distinguished name of a CA on the verified chain, an intermediate or the root, in the form of RFC 4514, exactly.
	ChainSubject []string `yaml:"chain_subject"`
	// ChainSPKI: the lower-case hex SHA-256 of the SubjectPublicKeyInfo of a CA on the verified chain.
	ChainSPKI []string `yaml:"chain_spki"`
	// Serial: the certificate's serial number in lower-case hex without leading zeros. Unique only below one issuer.
	Serial []string `yaml:"serial"`
	// SPKI: the lower-case hex SHA-256 of the SubjectPublicKeyInfo (`sslgate pki show` prints it).
	SPKI []string `yaml:"spki"`
	// EKU: an extended key usage that the certificate names beside clientAuth: emailProtection, codeSigning and the like, or an OID.
	EKU []string `yaml:"eku"`
	// Policies: a certificate policy, as an OID, that the certificate asserts and its intermediates allow.
	Policies []string `yaml:"policies"`
	// KeyType: "rsa", "ecdsa", "ed25519", "mldsa44", "mldsa65" or "mldsa87".
	KeyType []string `yaml:"key_type"`
	// KeyBits: the smallest size of the leaf's key, in bits.
	KeyBits int `yaml:"key_bits"`
	// ValidLeft: the least time the certificate must still be valid, "72h" or "30d".
	ValidLeft string `yaml:"valid_left"`
	// MaxAge: the most time that may have passed since the certificate's notBefore, "24h" or "30d".
	MaxAge string `yaml:"max_age"`
	// TLSVersion: the protocol version that was agreed on, "1.2" or "1.3".
	TLSVersion []string `yaml:"tls_version"`
	// TLSSuite: the CipherSuite that was agreed on, by its IANA or OpenSSL name.
	TLSSuite []string `yaml:"tls_suite"`
	// TLSGroup: the key exchange group that was agreed on, for example X25519MLKEM768.
	TLSGroup []string `yaml:"tls_group"`
}

// DestinationSpec says how the destination is spoken to after the client was verified.
type DestinationSpec struct {
	// TLS is "verify" (TLS with full verification of chain and name), "plain" (no TLS to the destination) or "insecure" (TLS with whoever answers: nothing is verified but pins). Required for terminate.
	TLS string `yaml:"tls"`
	// Upgrade is how the destination is asked for TLS: "postgres" (an SSLRequest; one that says no ends the flow) or "none" (TLS from the first byte). Default: the rule's upgrade.
	Upgrade string `yaml:"upgrade"`
	// Authorities names the entries of authorities that the destination's certificate may come from. Required for verify.
	Authorities []string `yaml:"authorities"`
	// Name is the DNS name or IP address the destination's certificate must be for. Default: the client's SNI, or the destination address where it sent none.
	Name string `yaml:"name"`
	// Profile towards the destination. Default: the rule's profile.
	Profile string `yaml:"profile"`
	// Identity names the entry of identities that is shown where the destination asks for a client certificate. Default: none is shown.
	Identity string `yaml:"identity"`
	// Pins lists the keys the destination's own certificate may have, each the hex SHA-256 of its SubjectPublicKeyInfo (`sslgate pki show` prints it), besides what tls demands. Default: any key.
	Pins []string `yaml:"pins"`
	// Dial is "verified" (the default: the destination is connected to after the client was verified) or "first" (before: its ALPN answer is carried back, a closed port looks closed, and a certificate made on demand has its names; it sees the gateway before anybody was verified).
	Dial string `yaml:"dial"`
	// ToPort is the port that is dialled in the place of the client's, for action originate: 443 for a client that dials 80. Default: the client's.
	ToPort int `yaml:"to_port"`
	// Source is whose address the destination sees: "gateway" or "client" (or the flow ends: the destination must route its answers to clients through this host). The one part of destination that action bypass has too. Default: dial.source.
	Source string `yaml:"source"`
	// ProxyProtocol is "v2" to begin the connection with a PROXY protocol header that says who was verified: addresses, TLS version and CipherSuite, common name, alternative names and SPIFFE id. Default: none. The destination must expect it.
	ProxyProtocol string `yaml:"proxy_protocol"`
}

// AuthoritySpec is an entry of authorities as policy needs it.
type AuthoritySpec struct {
	// Permits bounds the names this authority may speak for. Default: any name.
	Permits *PermitsSpec `yaml:"permits"`
}

// PermitsSpec lists names by kind. A kind that is not listed may not appear in a certificate of the authority at all.
type PermitsSpec struct {
	// SPIFFE: trust domains of SPIFFE ids.
	SPIFFE []string `yaml:"spiffe"`
	// DNS: exact names, or ".example.org" for every name below it.
	DNS []string `yaml:"dns"`
	// URI: prefixes of other URIs, ending with "/".
	URI []string `yaml:"uri"`
	// Email: domains, "example.org".
	Email []string `yaml:"email"`
	// IP: CIDR prefixes.
	IP []string `yaml:"ip"`
}

// Environment holds what rules refer to by name, already loaded.
type Environment struct {
	Authorities map[string]handshake.AuthoritySource
	Permits     map[string]*PermitsSpec // nil entry or absent: any name
	// TrustDomains has the authorities whose certificates are X.509 SVIDs of one SPIFFE trust
	// domain, and of no other: whatever else they have signed is refused.
	TrustDomains map[string]string
	Identities   map[string]Identity
	Profiles     map[string]handshake.Profile // the named ones and those of the configuration
	// Sets has the members of the sets that stand in files, by name.
	Sets map[string][]string
	// Zone finds a time zone of the IANA database; nil knows UTC alone.
	Zone func(name string) (*time.Location, error)
	// Source is dial.source: for rules that do not say.
	Source Source
	// Engine is asked what it can do and what it cannot keep. It must not be nil.
	Engine handshake.Planner
	// Over is asked before each rule and, again, while rules are held against each
	// other: true ends Compile without a Set. nil never ends it.
	Over func() bool
	// Handshake bounds copied into every Params; zero means the default there.
	MaxChain      int
	MaxChainBytes int
}
