package gateway

import (
	"crypto/x509"
	"fmt"
	"net"
	"strings"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/policy"
)

// The gateway's own TLVs in the PROXY header, from the range that is free for applications
// (PROXY protocol, section 2.2.8).
const (
	// tlvSPIFFE is the SPIFFE id of the verified client, ASCII.
	tlvSPIFFE proxyproto.PP2Type = 0xE0
	// tlvSAN is one subject alternative name of the verified client, with its
	// kind: "dns:a.example", "uri:...", "email:...", "ip:...". May repeat.
	tlvSAN proxyproto.PP2Type = 0xE1
)

const (
	// maxHeaderSANs bounds the names in a header, maxHeaderText the bytes of each text.
	// A header has at most about 17 KiB; the protocol allows 64.
	maxHeaderSANs = 32
	maxHeaderText = 512
	// headerTimeout bounds the write of the header, which fits into the send buffer of a
	// new connection.
	headerTimeout = 5 * time.Second
)

// writeProxyHeader tells the destination who the client is. It has only what was verified
// and proven. For a client without a certificate, or with one that was only observed, it
// says so. Of a client without TLS it has the addresses alone.
func (fl *flow) writeProxyHeader(dest net.Conn, session *handshake.Session, plan *policy.Plan) error {
	if session == nil && plan.Client != nil {
		return handshake.Refuse(handshake.StepApplicationData, reason.Internal, "a PROXY header before the client was verified")
	}
	h := proxyproto.HeaderProxyFromAddrs(2, net.TCPAddrFromAddrPort(fl.facts.Src), net.TCPAddrFromAddrPort(fl.facts.Dst))
	var tlvs []proxyproto.TLV
	var err error
	if session != nil {
		tlvs, err = headerTLVs(session, fl.facts.Hello)
	}
	if err == nil && tlvs != nil {
		err = h.SetTLVs(tlvs)
	}
	var raw []byte
	if err == nil {
		raw, err = h.Format()
	}
	if err == nil {
		err = dest.SetWriteDeadline(time.Now().Add(headerTimeout))
	}
	if err == nil {
		_, err = dest.Write(raw)
	}
	if err == nil {
		err = dest.SetWriteDeadline(time.Time{})
	}
	if err != nil {
		e := handshake.Refuse(handshake.StepApplicationData, reason.UpstreamFailed, "")
		e.Err = fmt.Errorf("write PROXY header: %w", err)
		return e
	}
	return nil
}

// headerTLVs takes the name that the rules were matched against. A name that is no host
// name is left out.
func headerTLVs(s *handshake.Session, hello *handshake.ClientHello) ([]proxyproto.TLV, error) {
	var tlvs []proxyproto.TLV
	if s.ALPN != "" {
		tlvs = append(tlvs, proxyproto.TLV{Type: proxyproto.PP2_TYPE_ALPN, Value: []byte(s.ALPN)})
	}
	if hello != nil && hello.SNIPresent && !hello.SNIInvalid && hello.ServerName != "" {
		tlvs = append(tlvs, proxyproto.TLV{Type: proxyproto.PP2_TYPE_AUTHORITY, Value: []byte(hello.ServerName)})
	}
	ssl := tlvparse.PP2SSL{
		Client: tlvparse.PP2_BITFIELD_CLIENT_SSL,
		Verify: 1, // not verified; 0 would mean that a certificate was shown and verified
		TLV: []proxyproto.TLV{
			{Type: proxyproto.PP2_SUBTYPE_SSL_VERSION, Value: []byte(strings.ReplaceAll(handshake.VersionName(s.Version), "TLS ", "TLSv"))},
			{Type: proxyproto.PP2_SUBTYPE_SSL_CIPHER, Value: []byte(handshake.SuiteName(s.Suite))},
		},
	}
	var names []proxyproto.TLV
	if p := s.Peer; p != nil && p.Proven && p.Chain != nil && p.Refusal == nil {
		ssl.Verify = 0
		ssl.Client |= tlvparse.PP2_BITFIELD_CLIENT_CERT_SESS
		if !s.Resumed {
			ssl.Client |= tlvparse.PP2_BITFIELD_CLIENT_CERT_CONN
		}
		if cn := commonName(p.Leaf()); plainText(cn) {
			ssl.TLV = append(ssl.TLV, proxyproto.TLV{Type: proxyproto.PP2_SUBTYPE_SSL_CN, Value: []byte(cn)})
		}
		names = nameTLVs(p.Leaf())
	}
	tlv, err := ssl.Marshal()
	if err != nil {
		return nil, err
	}
	return append(append(tlvs, tlv), names...), nil
}

// commonName is the common name that the policy compares (subject_cn): "" if there is
// none, or more than one.
func commonName(c *x509.Certificate) string {
	name, err := certname.Parse(c.RawSubject)
	if err != nil {
		return ""
	}
	return name.Only(certname.CommonName)
}

// nameTLVs are the subject alternative names, as the policy reads them.
func nameTLVs(c *x509.Certificate) []proxyproto.TLV {
	names, err := certname.ReadAltNames(c.Extensions)
	if err != nil {
		return nil
	}
	var out []proxyproto.TLV
	if id, ok := policy.SPIFFEID(&names); ok && plainText(id) {
		out = append(out, proxyproto.TLV{Type: tlvSPIFFE, Value: []byte(id)})
	}
	n := 0
	for _, name := range names.List() {
		if name.Kind != "unknown" && n < maxHeaderSANs && plainText(name.Name) {
			out = append(out, proxyproto.TLV{Type: tlvSAN, Value: []byte(name.String())})
			n++
		}
	}
	return out
}

// plainText says whether a text may stand in a header that applications print
// and compare: not empty, not cut, no control characters.
func plainText(s string) bool {
	return s != "" && len(s) <= maxHeaderText && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' })
}
