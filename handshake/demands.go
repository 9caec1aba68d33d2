package handshake

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
)

// Demands is a digest of what decides whether a peer's chain is good: what was
// found under one digest holds for every Params with the same one. usage is 0
// where none is meant.
func (p *Params) Demands(usage x509.ExtKeyUsage) [32]byte {
	h := sha256.New()
	var b []byte
	list := func(ids []uint16) {
		if ids == nil { // everything, where an empty one is nothing
			b = append(b, 1)
		}
		b = binary.BigEndian.AppendUint32(b, uint32(len(ids)))
		for _, id := range ids {
			b = binary.BigEndian.AppendUint16(b, id)
		}
	}
	number := func(n int) { b = binary.BigEndian.AppendUint64(b, uint64(n)) }
	pr := &p.Profile
	b = binary.BigEndian.AppendUint16(b, pr.MinVersion)
	b = binary.BigEndian.AppendUint16(b, pr.MaxVersion)
	list(pr.Suites12)
	list(pr.Suites13)
	list(pr.Groups)
	list(pr.Signatures)
	list(pr.Curves)
	b = append(b, byte(pr.Order))
	number(pr.MinRSABits)
	number(pr.MinECBits)
	if pr.RequireEMS {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	number(int(usage))
	number(p.MaxChain)
	number(p.MaxChainBytes)
	b = binary.BigEndian.AppendUint64(b, p.Epoch)
	h.Write(b)
	for _, a := range p.Authorities {
		a.prepare()
		h.Write(a.digest[:])
	}
	return [32]byte(h.Sum(nil))
}
