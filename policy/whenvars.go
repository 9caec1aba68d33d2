package policy

import (
	"fmt"
	"net/netip"

	"cel.dev/cel-go/cel"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/times"
)

// The variables of one kind share the beginning of their names.
const (
	certPrefix = "cert."
	tlsPrefix  = "tls."
)

// variable is one variable of `when`.
type variable struct {
	Name string
	Doc  string

	kind *cel.Type
	get  func(*activation) any
}

var listOfStrings = cel.ListType(cel.StringType)

// variables are what a condition can speak of. What begins with "cert." is missing, which
// denies, where no certificate was shown; only cert.present never is. They never change.
var variables = [...]variable{
	{Name: "now", Doc: "the time of the decision", kind: cel.TimestampType, get: func(a *activation) any { return a.facts.Now.UTC() }},
	{Name: "source", Doc: "the client's address, IPv4 ones in their own form", kind: cel.StringType, get: func(a *activation) any { return addrOf(a.facts.Src) }},
	{Name: "source_port", Doc: "the client's port", kind: cel.IntType, get: func(a *activation) any { return int64(a.facts.Src.Port()) }},
	{Name: "destination", Doc: "the original destination address", kind: cel.StringType, get: func(a *activation) any { return addrOf(a.facts.Dst) }},
	{Name: "port", Doc: "the original destination port", kind: cel.IntType, get: func(a *activation) any { return int64(a.facts.Dst.Port()) }},
	{Name: "sni", Doc: `the server name in lower case; "" where none was sent or it is no host name`, kind: cel.StringType, get: func(a *activation) any { return sniOf(a.facts.Hello) }},
	{Name: "alpn", Doc: "the application protocols that the client offers", kind: listOfStrings, get: func(a *activation) any {
		if a.facts.Hello == nil {
			return []string{}
		}
		return some(a.facts.Hello.ALPN)
	}},

	{Name: "tls.version", Doc: `the version agreed on: "TLS 1.2" or "TLS 1.3"`, kind: cel.StringType, get: ofState(func(s *handshake.State) any { return handshake.VersionName(s.Version) })},
	{Name: "tls.suite", Doc: "the CipherSuite agreed on, by its IANA name", kind: cel.StringType, get: ofState(func(s *handshake.State) any { return handshake.SuiteName(s.Suite) })},
	{Name: "tls.group", Doc: `the key exchange group agreed on, such as "X25519MLKEM768"; "" for RSA key transport`, kind: cel.StringType, get: ofState(func(s *handshake.State) any {
		if s.Group == 0 {
			return ""
		}
		return handshake.GroupName(s.Group)
	})},
	{Name: "tls.alpn", Doc: `the application protocol agreed on, "" for none`, kind: cel.StringType, get: ofState(func(s *handshake.State) any { return s.ALPN })},
	{Name: "tls.resumed", Doc: "whether the session was resumed", kind: cel.BoolType, get: ofState(func(s *handshake.State) any { return s.Resumed })},

	{Name: "cert.present", Doc: "whether the client showed a certificate", kind: cel.BoolType, get: func(a *activation) any { return a.claims != nil }},
	{Name: "cert.authority", Doc: "the entry of authorities that the chain leads to", kind: cel.StringType, get: ofCert(func(c *claims) any { return c.peer.Authority })},
	{Name: "cert.subject", Doc: "the subject's distinguished name, RFC 4514", kind: cel.StringType, get: ofCert(func(c *claims) any { return c.subject() })},
	{Name: "cert.subject_cn", Doc: `the subject's common name; "" where there is none, or more than one`, kind: cel.StringType, get: ofCert(func(c *claims) any { return c.subjectName().Only(certname.CommonName) })},
	{Name: "cert.subject_o", Doc: "the subject's organizations", kind: listOfStrings, get: ofCert(func(c *claims) any { return some(c.subjectName().All(certname.Organization)) })},
	{Name: "cert.subject_ou", Doc: "the subject's organizational units", kind: listOfStrings, get: ofCert(func(c *claims) any { return some(c.subjectName().All(certname.OrganizationalUnit)) })},
	{Name: "cert.subject_c", Doc: "the subject's countries", kind: listOfStrings, get: ofCert(func(c *claims) any { return some(c.subjectName().All(certname.Country)) })},
	{Name: "cert.issuer", Doc: "the issuer's distinguished name, RFC 4514", kind: cel.StringType, get: ofCert(func(c *claims) any { return c.issuer() })},
	{Name: "cert.issuer_cn", Doc: `the issuer's common name; "" where there is none, or more than one`, kind: cel.StringType, get: ofCert(func(c *claims) any { return c.issuerName().Only(certname.CommonName) })},
	{Name: "cert.san_dns", Doc: "the DNS names of the certificate, as they stand there", kind: listOfStrings, get: ofCert(func(c *claims) any { return some(c.names.DNS) })},
	{Name: "cert.san_uri", Doc: "the URIs of the certificate", kind: listOfStrings, get: ofCert(func(c *claims) any { return some(c.names.URI) })},
	{Name: "cert.san_email", Doc: "the e-mail addresses of the certificate", kind: listOfStrings, get: ofCert(func(c *claims) any { return some(c.names.Email) })},
	{Name: "cert.san_ip", Doc: "the IP addresses of the certificate", kind: listOfStrings, get: ofCert(func(c *claims) any { return some(texts(c.names.IP)) })},
	{Name: "cert.san_other", Doc: `the otherNames of the certificate that are text, as "OID=text"`, kind: listOfStrings, get: ofCert(func(c *claims) any { return some(c.names.Other) })},
	{Name: "cert.spiffe_id", Doc: `the certificate's SPIFFE id, "" where it has none`, kind: cel.StringType, get: ofCert(func(c *claims) any {
		id, _ := SPIFFEID(&c.names)
		return id
	})},
	{Name: "cert.spiffe_domain", Doc: `the trust domain of the SPIFFE id, "" where there is none`, kind: cel.StringType, get: ofCert(func(c *claims) any { return c.trustDomain() })},
	{Name: "cert.serial", Doc: "the serial number in lower-case hex", kind: cel.StringType, get: ofCert(func(c *claims) any { return c.serial })},
	{Name: "cert.spki", Doc: "the lower-case hex SHA-256 of the SubjectPublicKeyInfo", kind: cel.StringType, get: ofCert(func(c *claims) any { return c.peer.SPKI() })},
	{Name: "cert.not_before", Doc: "the begin of validity", kind: cel.TimestampType, get: ofCert(func(c *claims) any { return times.UTC(c.leaf.NotBefore) })},
	{Name: "cert.not_after", Doc: "the end of validity", kind: cel.TimestampType, get: ofCert(func(c *claims) any { return times.UTC(c.leaf.NotAfter) })},
	{Name: "cert.key_type", Doc: `"rsa", "ecdsa", "ed25519", "mldsa44", "mldsa65", "mldsa87", or "" for another kind`, kind: cel.StringType, get: ofCert(func(c *claims) any { return c.keyType })},
	{Name: "cert.key_bits", Doc: "the size of the key in bits", kind: cel.IntType, get: ofCert(func(c *claims) any { return int64(c.keyBits) })},
	{Name: "cert.eku", Doc: "the extended key usages, as OIDs", kind: listOfStrings, get: ofCert(func(c *claims) any { return some(c.usages()) })},
	{Name: "cert.policies", Doc: "the certificate policies that hold for the whole chain, as OIDs", kind: listOfStrings, get: ofCert(func(c *claims) any { return some(c.policies()) })},
	{Name: "cert.chain_subjects", Doc: "the distinguished names of the CAs on the verified chain, from the leaf's issuer up", kind: listOfStrings, get: ofCert(func(c *claims) any { return some(c.chainSubjects()) })},
	{Name: "cert.chain_spki", Doc: "the SPKI pins of the CAs on the verified chain", kind: listOfStrings, get: ofCert(func(c *claims) any { return some(c.chainSPKI()) })},
}

// missing is the value of a variable that a flow does not have.
type missing struct{}

func ofCert(get func(*claims) any) func(*activation) any {
	return func(a *activation) any {
		if a.claims == nil {
			return missing{}
		}
		return get(a.claims)
	}
}

func ofState(get func(*handshake.State) any) func(*activation) any {
	return func(a *activation) any {
		if a.facts.State == nil {
			return missing{}
		}
		return get(a.facts.State)
	}
}

// some is a list that is there, if only empty.
func some(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// addrOf is an address without a port, unmapped.
func addrOf(a netip.AddrPort) string { return a.Addr().Unmap().String() }

// activation gives a condition its variables, each only if it is asked for, and
// once. It is good for one evaluation.
type activation struct {
	facts  Facts
	claims *claims // nil without a certificate

	known  []known
	size   int   // of what was given so far, as maxInput counts it
	failed error // more was asked for than may be given
}

type known struct {
	name  string
	value any
}

// ResolveName implements cel.Activation.
func (a *activation) ResolveName(name string) (any, bool) {
	if a.failed != nil {
		return nil, false // a loop asks again in each turn: its answer must not be worked out again
	}
	for _, k := range a.known {
		if k.name == name {
			return k.value, true
		}
	}
	for i := range variables {
		if variables[i].Name != name {
			continue
		}
		v := variables[i].get(a)
		if _, none := v.(missing); none {
			return nil, false
		}
		if a.size += inputSize(v); a.size > maxInput {
			a.failed = fmt.Errorf("the peer's %s and what else the condition asks for is too much to be looked at: more than %d bytes, each entry of a list counted with %d more", name, maxInput, inputItem)
			return nil, false
		}
		a.known = append(a.known, known{name, v})
		return v, true
	}
	return nil, false
}

// inputSize is what a value counts.
func inputSize(v any) int {
	switch v := v.(type) {
	case string:
		return len(v)
	case []string:
		n := 0
		for _, s := range v {
			n += len(s) + inputItem
		}
		return n
	}
	return 0
}

// Parent implements cel.Activation.
func (a *activation) Parent() cel.Activation { return nil }

var _ cel.Activation = (*activation)(nil)
