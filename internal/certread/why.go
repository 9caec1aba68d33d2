package certread

import "strings"

// again is the remedy if the certificate itself is at fault.
const again = "have its CA issue it anew"

// kind is one reason for which crypto/x509 refuses a certificate. Its errors have no
// types, so only their text tells; TestKinds makes a certificate of each kind.
type kind struct {
	text      string // part of the error's text
	why, mend string
}

// kinds in the order in which they are tried.
var kinds = []kind{
	{"negative serial", "its serial number is negative (RFC 5280, section 4.1.2.2, wants a positive one)", again + " with a positive serial number"},
	{"malformed serial", "its serial number is no DER integer", again},
	{"duplicate extension", "an extension stands in it twice (RFC 5280, section 4.2, allows one of each)", again + " with each extension once"},
	{"IP constraint contained IPv4-mapped", "its name constraints hold an IPv4 address in the form of IPv6", again + " with the address in four bytes"},
	{"SAN iPAddress contains IPv4-mapped", "its alternative names hold an IPv4 address in the form of IPv6", again + " with the address in four bytes (RFC 5280, section 4.2.1.6)"},
	{"IP constraint", "its name constraints hold an IP address that is no address with a mask (RFC 5280, section 4.2.1.10)", again + " with 8 bytes for a network of IPv4 and 32 for IPv6, or without the constraint"},
	{"constraint", "its name constraints cannot be decoded (RFC 5280, section 4.2.1.10)", again + " with proper name constraints, or without them"},
	{"NameConstraints", "its name constraints cannot be decoded (RFC 5280, section 4.2.1.10)", again + " with proper name constraints, or without them"},
	{"requireExplicitPolicy", "its policy constraints are out of bounds", again},
	{"cannot parse IP address", "its alternative names hold an IP address that has neither 4 nor 16 bytes (RFC 5280, section 4.2.1.6)", again + " with proper alternative names"},
	{"SAN ", "its alternative names hold characters that are no ASCII (RFC 5280, section 4.2.1.6): names of other letters stand there as xn--", again + " with proper alternative names"},
	{"cannot parse URI", "its alternative names hold a URI that is none (RFC 3986)", again + " with a proper URI"},
	{"subject alternative name", "its alternative names cannot be decoded (RFC 5280, section 4.2.1.6)", again + " with proper alternative names"},
	{"elliptic curve", "", "have it issued anew for a key on P-256, P-384 or P-521, or for an RSA or Ed25519 key"},
	{"ECDSA parameters", "its key has explicit curve parameters, no named curve (RFC 5480, section 2.1.1)", "have it issued anew for a key on the named curve P-256, P-384 or P-521; `openssl ecparam -name prime256v1 -genkey` writes one"},
	{"ML-DSA", "its ML-DSA key cannot be decoded (RFC 9881, section 4)", "have it issued anew for a proper key"},
	{"mldsa", "its ML-DSA key cannot be decoded (RFC 9881, section 4)", "have it issued anew for a proper key"},
	{"DSA", "its DSA key cannot be decoded, and DSA is not used in TLS any more", "have it issued anew for an ECDSA P-256, RSA or Ed25519 key"},
	{"RSA", "its RSA key cannot be decoded (RFC 3279, section 2.3.1)", "have it issued anew for a proper key: RSA of 2048 to 4096 bits, or ECDSA P-256"},
	{"25519", "its key is no proper one of its kind (RFC 8410, sections 3 and 4)", "have it issued anew for a proper key"},
	{"PrintableString", "a name in it has characters that its type, PrintableString, does not have", again + " with names in UTF8String"},
	{"UTF-8", "a name in it is no UTF-8, though it says so", again + " with names in UTF-8"},
	{"BMPString", "a name in it is no BMPString, though it says so", again + " with names in UTF8String"},
	{"IA5String", "a name in it has characters that its type, IA5String, does not have", again + " with names in UTF8String"},
	{"NumericString", "a name in it has characters that its type, NumericString, does not have", again + " with names in UTF8String"},
	{"invalid ASN.1", "a name in it has a value that is no DER (RFC 5280, section 4.1.2.4)", again + " with names in UTF8String"},
	{"RDNSequence", "its subject or issuer cannot be decoded (RFC 5280, section 4.1.2.4)", again},
	{"malformed issuer", "its subject or issuer cannot be decoded (RFC 5280, section 4.1.2.4)", again},
	{"GeneralizedTime", "its validity is no date that there is, or not written as RFC 5280, section 4.1.2.5.2, has it", again},
	{"UTCTime", "its validity is no date that there is, or not written as RFC 5280, section 4.1.2.5.1, has it", again},
	{"time format", "its validity has another form than RFC 5280, section 4.1.2.5, allows", again},
	{"malformed validity", "its validity cannot be decoded (RFC 5280, section 4.1.2.5)", again},
	{"don't match", "its two signature algorithms differ (RFC 5280, section 4.1.1.2)", again},
	{"critical", "an extension in it is marked critical that must not be (RFC 5280, sections 4.2.1.1, 4.2.1.2 and 4.2.2.1)", again + " with the extension not critical"},
	{"version", "its version is none of X.509's 1 to 3", again + " as version 3"},
	{"trailing data", "there are bytes behind its end", "write it anew with `openssl x509 -in FILE -out NEWFILE`, or take it from its CA again"},
	{"key usage", "its key usage cannot be decoded (RFC 5280, sections 4.2.1.3 and 4.2.1.12)", again},
	{"basic constraints", "its basic constraints cannot be decoded (RFC 5280, section 4.2.1.9)", again},
	{"", "it is not DER as RFC 5280 has it", "take it from its CA again: it may be damaged; if not, " + again},
}

// curves that occur in certificates and that crypto/x509 does not know.
var curves = map[string]string{
	"1.3.132.0.10": "secp256k1", "1.3.132.0.33": "P-224", "1.2.840.10045.3.1.1": "P-192",
	"1.3.132.0.8": "secp160r1", "1.3.132.0.32": "secp224k1", "1.3.132.0.9": "secp160k1",
	"1.3.36.3.3.2.8.1.1.1": "brainpoolP160r1", "1.3.36.3.3.2.8.1.1.3": "brainpoolP192r1", "1.3.36.3.3.2.8.1.1.5": "brainpoolP224r1",
	"1.3.36.3.3.2.8.1.1.7": "brainpoolP256r1", "1.3.36.3.3.2.8.1.1.9": "brainpoolP320r1",
	"1.3.36.3.3.2.8.1.1.11": "brainpoolP384r1", "1.3.36.3.3.2.8.1.1.13": "brainpoolP512r1",
	"1.3.36.3.3.2.8.1.1.8": "brainpoolP256t1", "1.3.36.3.3.2.8.1.1.12": "brainpoolP384t1", "1.3.36.3.3.2.8.1.1.14": "brainpoolP512t1",
	"1.3.132.0.16": "sect283k1", "1.3.132.0.17": "sect283r1", "1.3.132.0.36": "sect409k1", "1.3.132.0.37": "sect409r1",
	"1.3.132.0.38": "sect571k1", "1.3.132.0.39": "sect571r1",
	"1.2.156.10197.1.301": "SM2",
}

func explain(o outline, err error) (why, mend string) {
	// Ignore what is in quotes: it is from the certificate, whose maker must not choose
	// the message.
	text, _, _ := strings.Cut(err.Error(), `"`)
	for _, k := range kinds {
		if !strings.Contains(text, k.text) {
			continue
		}
		why, mend = k.why, k.mend
		break
	}
	if why == "" {
		curve := curves[o.curve]
		if curve == "" {
			curve = orUnknown(o.curve)
		}
		why = "its key is on the elliptic curve " + curve + ", with which nothing can be verified here"
	}
	return why + " (" + shown(err) + ")", mend
}
