package certname

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"net/netip"
	"strconv"
	"unicode/utf8"
)

// AltNames are the names of a subjectAltName extension in a certificate or a request (RFC
// 5280, section 4.2.1.6), each kind in its order.
type AltNames struct {
	DNS   []string
	Email []string
	URI   []string
	IP    []netip.Addr // IPv4-mapped ones as IPv4
	// Dir are directoryNames as RFC 4514 writes them, RID registeredIDs in dotted form,
	// Other the otherNames that are text, "OID=text".
	Dir, RID, Other []string
	// Rest is everything else, "[tag]#hex": obsolete kinds, and names that cannot be
	// decoded.
	Rest []string
}

// AltName is one alternative name: its kind ("dns", "uri", "email", "ip", "dirname",
// "rid", "other", "unknown") and the name unchanged. Escape it when showing it.
type AltName struct{ Kind, Name string }

// String is the kind, a colon and the name.
func (a AltName) String() string { return a.Kind + ":" + a.Name }

// Shown is String for people; quote escapes and cuts what a peer chose. A directoryName
// is shown as a subject is: RFC 4514 has escaped it already, so its backslashes are not
// doubled, and the shown text can be copied into san_dirname.
func (a AltName) Shown(quote func(string) string) string {
	if a.Kind == kindDir {
		return a.Kind + ":" + cut(a.Name, MaxShown)
	}
	return a.Kind + ":" + quote(a.Name)
}

// kindDir is the kind of a directoryName.
const kindDir = "dirname"

// The OID of subjectAltName, as the last arc of 2.5.29.
const subjectAltName = 17

// The tags of GeneralName.
const (
	tagOther   = 0 // otherName
	tagEmail   = 1 // rfc822Name
	tagDNS     = 2 // dNSName
	tagDirName = 4 // directoryName
	tagURI     = 6 // uniformResourceIdentifier
	tagIP      = 7 // iPAddress
	tagRID     = 8 // registeredID
)

// ReadAltNames reads the names from extensions; to find none is not an error.
func ReadAltNames(extensions []pkix.Extension) (AltNames, error) {
	var value []byte
	found := false
	for _, ext := range extensions {
		if !ext.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, subjectAltName}) {
			continue
		}
		if found {
			return AltNames{}, errors.New("two subjectAltName extensions")
		}
		value, found = ext.Value, true
	}
	if !found {
		return AltNames{}, nil
	}
	var seq asn1.RawValue
	rest, err := asn1.Unmarshal(value, &seq)
	if err != nil || len(rest) != 0 || !seq.IsCompound || seq.Tag != asn1.TagSequence || seq.Class != asn1.ClassUniversal {
		return AltNames{}, errAltNames
	}
	var names AltNames
	for rest := seq.Bytes; len(rest) > 0; {
		var name asn1.RawValue
		if rest, err = asn1.Unmarshal(rest, &name); err != nil || name.Class != asn1.ClassContextSpecific {
			return AltNames{}, errAltNames
		}
		if err := names.add(name); err != nil {
			return AltNames{}, err
		}
	}
	return names, nil
}

var errAltNames = errors.New("subjectAltName cannot be decoded")

func (n *AltNames) add(name asn1.RawValue) error {
	switch name.Tag {
	case tagEmail:
		n.Email = append(n.Email, string(name.Bytes))
	case tagDNS:
		n.DNS = append(n.DNS, string(name.Bytes))
	case tagURI:
		n.URI = append(n.URI, string(name.Bytes))
	case tagIP:
		addr, ok := netip.AddrFromSlice(name.Bytes)
		if !ok {
			return errors.New("subjectAltName has an IP address of a wrong length")
		}
		n.IP = append(n.IP, addr.Unmap())
	default:
		if !n.addRare(name) {
			const most = 64 // bytes
			n.Rest = append(n.Rest, "["+strconv.Itoa(name.Tag)+"]#"+hex.EncodeToString(name.Bytes[:min(len(name.Bytes), most)]))
		}
	}
	return nil
}

// addRare reads the rare kinds; false if it cannot.
func (n *AltNames) addRare(name asn1.RawValue) bool {
	switch name.Tag {
	case tagDirName:
		dn, err := Parse(name.Bytes)
		if err != nil || len(dn) == 0 {
			return false
		}
		n.Dir = append(n.Dir, dn.String())
	case tagRID:
		oid, ok := oidText(name.Bytes) // an implicit tag: the content is that of an OBJECT IDENTIFIER
		if !ok {
			return false
		}
		n.RID = append(n.RID, oid)
	case tagOther:
		text, ok := otherText(name.Bytes)
		if !ok {
			return false
		}
		n.Other = append(n.Other, text)
	default:
		return false
	}
	return true
}

// otherText reads OtherName ::= SEQUENCE { type-id OBJECT IDENTIFIER, value [0]
// EXPLICIT ANY } whose value is a string without control characters.
func otherText(der []byte) (string, bool) {
	var id, value asn1.RawValue
	rest, err := asn1.Unmarshal(der, &id)
	if err != nil || id.Class != asn1.ClassUniversal || id.Tag != asn1.TagOID {
		return "", false
	}
	oid, ok := oidText(id.Bytes)
	if !ok {
		return "", false
	}
	if rest, err := asn1.Unmarshal(rest, &value); err != nil || len(rest) != 0 || value.Class != asn1.ClassContextSpecific || value.Tag != 0 {
		return "", false
	}
	var text asn1.RawValue
	if rest, err := asn1.Unmarshal(value.Bytes, &text); err != nil || len(rest) != 0 || text.Class != asn1.ClassUniversal {
		return "", false
	}
	switch text.Tag {
	case asn1.TagUTF8String, asn1.TagIA5String, asn1.TagPrintableString:
		if s := string(text.Bytes); plain(s) {
			return oid + "=" + s, true
		}
	}
	return "", false
}

// plain says whether a text has no control characters and is UTF-8.
func plain(s string) bool {
	for _, r := range s {
		if r < 0x20 || r == 0x7f || r == utf8.RuneError {
			return false
		}
	}
	return true
}

// List is all names, by kind.
func (n *AltNames) List() []AltName {
	var out []AltName
	add := func(kind string, names []string) {
		for _, s := range names {
			out = append(out, AltName{kind, s})
		}
	}
	add("dns", n.DNS)
	add("uri", n.URI)
	add("email", n.Email)
	for _, a := range n.IP {
		out = append(out, AltName{"ip", a.String()})
	}
	add(kindDir, n.Dir)
	add("rid", n.RID)
	add("other", n.Other)
	add("unknown", n.Rest)
	return out
}

// Alt lists the alternative names of a certificate. An extension that cannot be decoded
// becomes a name of the kind "unknown".
func Alt(extensions []pkix.Extension) []AltName {
	n, err := ReadAltNames(extensions)
	if err != nil {
		return []AltName{{"unknown", "(" + err.Error() + ")"}}
	}
	return n.List()
}

// AltTexts is Alt as texts that may be shown (see Shown): "dns:a.example",
// "uri:spiffe://corp/x", "email:x@y", "ip:192.0.2.1", "dirname:CN=x".
func AltTexts(extensions []pkix.Extension, quote func(string) string) []string {
	var out []string
	for _, a := range Alt(extensions) {
		out = append(out, a.Shown(quote))
	}
	return out
}
