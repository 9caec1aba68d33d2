package policy

import "github.com/sslgate/sslgate/handshake"

// Spec is the policy section of the configuration as it is written.
type Spec struct {
	// Default is the answer where no rule fits. Only "deny" is possible, and it is the default.
	Default string `yaml:"default"`
	// Rules in order: the first whose selectors fit decides, with no falling through.
	Rules []RuleSpec `yaml:"rules"`
}

// RuleSpec is one rule as it is written.
type RuleSpec struct {
	// Name of the rule in records and messages: letters, digits, "-", "_", ".". Must be unique.
	Name string `yaml:"name"`
	// From lists the client networks the rule is for: CIDR prefixes or addresses. Default: any.
	From []string `yaml:"from"`
	// To lists the destinations the rule is for: "10.20.0.0/16:443", "[fd00:20::]/32:443", "10.20.0.9:*", "*:443". Required.
	To []string `yaml:"to"`
	// SNI lists the server names the rule is for; "*" as the first label is exactly one label. Default: any name, and none.
	SNI []string `yaml:"sni"`
	// ALPN lists the application protocols the rule is for: one offered by the client is enough. Default: any, and none.
	ALPN []string `yaml:"alpn"`
	// Action is "terminate" (the default), "bypass" (relay without looking inside) or "deny".
	Action string `yaml:"action"`
	// Identity names the entry of identities whose certificate is shown to the client. Required for terminate.
	Identity string `yaml:"identity"`
	// Profile names the cryptographic profile towards the client: modern, intermediate, or one of profiles. Default intermediate.
	Profile string `yaml:"profile"`
	// Plaintext is the answer to a client that does not speak TLS: "deny" is the default and the only one so far.
	Plaintext string `yaml:"plaintext"`
	// Client says what the client must show.
	Client ClientSpec `yaml:"client"`
	// Destination says how the destination is spoken to.
	Destination DestinationSpec `yaml:"destination"`
}

// ClientSpec is the demand on the client's certificate.
type ClientSpec struct {
	// Certificate is "required" (the default), "optional" (absent is allowed and skips allow; a bad one is refused) or "none" (not asked for).
	Certificate string `yaml:"certificate"`
	// Authorities names the entries of authorities whose certificates are accepted. Required unless certificate is none.
	Authorities []string `yaml:"authorities"`
	// Allow is a list of alternatives: OR between the entries, AND between the fields of one. Default: every certificate of the authorities.
	Allow []AllowSpec `yaml:"allow"`
}

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
	// SubjectCN: the subject's common name, exactly. Prefer a SAN: nobody verifies what a CA puts here.
	SubjectCN []string `yaml:"subject_cn"`
	// SubjectO: one of the subject's organizations, exactly.
	SubjectO []string `yaml:"subject_o"`
	// SubjectOU: one of the subject's organizational units, exactly.
	SubjectOU []string `yaml:"subject_ou"`
	// Issuer: the issuer's distinguished name in the form of RFC 4514, exactly.
	Issuer []string `yaml:"issuer"`
	// SPKI: the lower-case hex SHA-256 of the SubjectPublicKeyInfo (`sslgate pki show` prints it).
	SPKI []string `yaml:"spki"`
	// KeyType: "rsa", "ecdsa" or "ed25519".
	KeyType []string `yaml:"key_type"`
	// KeyBits: the smallest size of the leaf's key, in bits.
	KeyBits int `yaml:"key_bits"`
}

// DestinationSpec says how the destination is spoken to after the client was verified.
type DestinationSpec struct {
	// TLS is "plain" (no TLS to the destination) or "verify" (TLS with full verification of chain and name). Required for terminate.
	TLS string `yaml:"tls"`
	// Authorities names the entries of authorities that the destination's certificate may come from. Required for verify.
	Authorities []string `yaml:"authorities"`
	// Name is the DNS name or IP address the destination's certificate must be for. Default: the client's SNI, or the destination address where it sent none.
	Name string `yaml:"name"`
	// Profile towards the destination. Default: the rule's profile.
	Profile string `yaml:"profile"`
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
	Authorities map[string]*handshake.Authority
	Permits     map[string]*PermitsSpec // nil entry or absent: any name
	Identities  map[string]Identity
	Profiles    map[string]handshake.Profile // the named ones and those of the configuration
	// Cannot is the engine's answer to what it cannot keep; nil means it keeps everything.
	Cannot func(*handshake.Params) []handshake.Limit
	// Handshake bounds copied into every Params; zero means the default there.
	MaxChain      int
	MaxChainBytes int
}
