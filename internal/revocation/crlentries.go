package revocation

import (
	"bytes"
	"context"
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/sslgate/sslgate/internal/memory"
)

var (
	oidCertificateIssuer = []byte{0x55, 0x1d, 0x1d} // 2.5.29.29
	oidReasonCode        = []byte{0x55, 0x1d, 0x15} // 2.5.29.21
	oidInvalidityDate    = []byte{0x55, 0x1d, 0x18} // 2.5.29.24
	oidHoldInstruction   = []byte{0x55, 0x1d, 0x17} // 2.5.29.23
)

// entries reads revokedCertificates. It skips numbers that no certificate can have.
// certificateHold counts as revoked, and so does removeFromCRL, which is not allowed in a
// complete list.
func entries(ctx context.Context, room *memory.Loan, in cryptobyte.String) (serials, error) {
	n := 0
	for rest := in; !rest.Empty(); n++ {
		if !rest.SkipASN1(cbasn1.SEQUENCE) {
			return serials{}, fmt.Errorf("%w: entry %d cannot be decoded", ErrNotCRL, n+1)
		}
	}
	if err := room.Take(2 * maxSerial * int64(n)); err != nil {
		return serials{}, err
	}
	list := make([]serial, 0, n)
	for i := 0; !in.Empty(); i++ {
		if i%4096 == 0 && ctx.Err() != nil {
			return serials{}, context.Cause(ctx)
		}
		var e, number, date, extensions cryptobyte.String
		var present bool
		var tag cbasn1.Tag
		if !in.ReadASN1(&e, cbasn1.SEQUENCE) || !e.ReadASN1(&number, cbasn1.INTEGER) || !e.ReadAnyASN1(&date, &tag) ||
			tag != cbasn1.UTCTime && tag != cbasn1.GeneralizedTime ||
			!e.ReadOptionalASN1(&extensions, &present, cbasn1.SEQUENCE) || !e.Empty() || len(number) == 0 {
			return serials{}, fmt.Errorf("%w: entry %d cannot be decoded", ErrNotCRL, len(list)+1)
		}
		if err := entryExtensions(extensions); err != nil {
			return serials{}, fmt.Errorf("entry %d: %w", len(list)+1, err)
		}
		if s, ok := listSerial(number); ok {
			list = append(list, s)
		}
	}
	return newSerials(list), nil
}

func entryExtensions(in cryptobyte.String) error {
	for !in.Empty() {
		oid, _, critical, ok := readExtension(&in)
		if !ok {
			return fmt.Errorf("%w: an entry's extension cannot be decoded", ErrNotCRL)
		}
		switch {
		case bytes.Equal(oid, oidCertificateIssuer):
			return fmt.Errorf("%w: an entry names its own issuer (certificateIssuer)", ErrIndirect)
		case bytes.Equal(oid, oidReasonCode), bytes.Equal(oid, oidInvalidityDate), bytes.Equal(oid, oidHoldInstruction):
		case critical:
			return fmt.Errorf("%w: %s, of an entry", ErrCritical, oidText(oid))
		}
	}
	return nil
}

// readExtension reads one Extension (RFC 5280, section 4.1).
func readExtension(in *cryptobyte.String) (oid, value cryptobyte.String, critical, ok bool) {
	var ext cryptobyte.String
	ok = in.ReadASN1(&ext, cbasn1.SEQUENCE) && ext.ReadASN1(&oid, cbasn1.OBJECT_IDENTIFIER) &&
		(!ext.PeekASN1Tag(cbasn1.BOOLEAN) || ext.ReadASN1Boolean(&critical)) &&
		ext.ReadASN1(&value, cbasn1.OCTET_STRING) && ext.Empty()
	return oid, value, critical, ok
}

// oidText returns an OBJECT IDENTIFIER, given its content octets, in dotted form.
func oidText(content []byte) string {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes(content) })
	var oid asn1.ObjectIdentifier
	if der, err := b.Bytes(); err == nil {
		if in := cryptobyte.String(der); in.ReadASN1ObjectIdentifier(&oid) {
			return oid.String()
		}
	}
	return fmt.Sprintf("%x", content)
}
