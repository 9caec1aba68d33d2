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
	other int          // names of kinds that policy has no word for: otherName, directoryName ...
}

var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// GeneralName tags.
const (
	tagEmail = 1 // rfc822Name
	tagDNS   = 2 // dNSName
	tagURI   = 6 // uniformResourceIdentifier
	tagIP    = 7 // iPAddress
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
	}
	return nil
}

// spiffe returns the SPIFFE id of the certificate. An X.509 SVID has exactly
// one URI (X509-SVID, section 2): with more there is none.
func (n *altNames) spiffe() (string, bool) {
	if len(n.uri) != 1 || checkSPIFFE(n.uri[0]) != nil {
		return "", false
	}
	return n.uri[0], true
}
