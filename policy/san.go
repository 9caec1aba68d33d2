package policy

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"net/netip"
)

// altNames is the subjectAltName extension as it stands in the certificate
// (RFC 5280, section 4.2.1.6). It is read here and not taken from
// x509.Certificate, which drops the kinds it does not know and hands out URIs
// that were parsed and written again.
type altNames struct {
	dns   []string
	email []string
	uri   []string
	ip    []netip.Addr // unmapped
	other int          // names of kinds that permits has no word for: the three below, and undecodable or obsolete ones

	otherName []string // "OID=text", of those that are text
	dirName   []string // as RFC 4514 has them
	rid       []string // OIDs
}

var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// GeneralName tags.
const (
	tagOther   = 0 // otherName
	tagEmail   = 1 // rfc822Name
	tagDNS     = 2 // dNSName
	tagDirName = 4 // directoryName
	tagURI     = 6 // uniformResourceIdentifier
	tagIP      = 7 // iPAddress
	tagRID     = 8 // registeredID
)

// readAltNames reads the names of a certificate; none is not an error. The
// size is bounded by Params.MaxChainBytes.
func readAltNames(cert *x509.Certificate) (altNames, error) {
	var value []byte
	found := false
	for _, ext := range cert.Extensions {
		if !ext.Id.Equal(oidSubjectAltName) {
			continue
		}
		if found {
			return altNames{}, errors.New("two subjectAltName extensions")
		}
		value, found = ext.Value, true
	}
	if !found {
		return altNames{}, nil
	}
	var seq asn1.RawValue
	rest, err := asn1.Unmarshal(value, &seq)
	if err != nil || len(rest) != 0 || !seq.IsCompound || seq.Tag != asn1.TagSequence || seq.Class != asn1.ClassUniversal {
		return altNames{}, errors.New("subjectAltName cannot be decoded")
	}
	var names altNames
	for rest := seq.Bytes; len(rest) > 0; {
		var name asn1.RawValue
		if rest, err = asn1.Unmarshal(rest, &name); err != nil || name.Class != asn1.ClassContextSpecific {
			return altNames{}, errors.New("subjectAltName cannot be decoded")
		}
		if err := names.add(name); err != nil {
			return altNames{}, err
		}
	}
	return names, nil
}

func (n *altNames) add(name asn1.RawValue) error {
	switch name.Tag {
	case tagEmail:
		n.email = append(n.email, string(name.Bytes))
	case tagDNS:
		n.dns = append(n.dns, string(name.Bytes))
	case tagURI:
		n.uri = append(n.uri, string(name.Bytes))
	case tagIP:
		addr, ok := netip.AddrFromSlice(name.Bytes)
		if !ok {
			return errors.New("subjectAltName has an IP address of a wrong length")
		}
		n.ip = append(n.ip, addr.Unmap())
	default:
		n.other++
		n.addRare(name)
	}
	return nil
}

// addRare keeps what can be decoded of the kinds that are seldom met; the rest
// fits no entry.
func (n *altNames) addRare(name asn1.RawValue) {
	switch name.Tag {
	case tagDirName:
		if dn := distinguishedName(name.Bytes); dn != "" {
			n.dirName = append(n.dirName, dn)
		}
	case tagRID:
		// An implicit tag: the content is that of an OBJECT IDENTIFIER, whose
		// short form of length is all that one of a real name needs.
		var oid asn1.ObjectIdentifier
		if len(name.Bytes) < 0x80 {
			der := append([]byte{asn1.TagOID, byte(len(name.Bytes))}, name.Bytes...)
			if rest, err := asn1.Unmarshal(der, &oid); err == nil && len(rest) == 0 {
				n.rid = append(n.rid, oid.String())
			}
		}
	case tagOther:
		// OtherName ::= SEQUENCE { type-id OBJECT IDENTIFIER, value [0] EXPLICIT ANY }
		var oid asn1.ObjectIdentifier
		rest, err := asn1.Unmarshal(name.Bytes, &oid)
		if err != nil {
			return
		}
		var value, text asn1.RawValue
		if rest, err := asn1.Unmarshal(rest, &value); err != nil || len(rest) != 0 || value.Class != asn1.ClassContextSpecific || value.Tag != 0 {
			return
		}
		if rest, err := asn1.Unmarshal(value.Bytes, &text); err != nil || len(rest) != 0 || text.Class != asn1.ClassUniversal {
			return
		}
		switch text.Tag {
		case asn1.TagUTF8String, asn1.TagIA5String, asn1.TagPrintableString:
			if s := string(text.Bytes); plainText(s) {
				n.otherName = append(n.otherName, oid.String()+"="+s)
			}
		}
	}
}

// spiffe returns the SPIFFE id of the certificate. An X.509 SVID has exactly
// one URI (X509-SVID, section 2): with more there is none.
func (n *altNames) spiffe() (string, bool) {
	if len(n.uri) != 1 || checkSPIFFE(n.uri[0]) != nil {
		return "", false
	}
	return n.uri[0], true
}
