package handshake

import (
	"slices"
	"strings"
)

// Estimates of what lives in the heap, in bytes, for whoever has to choose what
// to let go of. internal/gateway TestHeldIsMeasured holds them against the heap.
const (
	// helloFixed is a ClientHello without its lists, extensionFixed one of its
	// extensions without data.
	helloFixed     = 512
	extensionFixed = 32
	// certificateFixed is a parsed certificate without its DER bytes, of which
	// names and extensions take up to twice as much again.
	certificateFixed = 4 << 10
	certificateTimes = 3
	// entryFixed is an entry of a ledger without its texts.
	entryFixed = 128
)

// Compact is the hello without what only its reading needs: the message, and the
// data of the extensions. SNISent is cut to 256 bytes. It has all that is decided by. Marshal cannot be asked
// of it.
func (h *ClientHello) Compact() *ClientHello {
	c := *h
	c.Raw = nil
	c.SNISent = strings.Clone(h.SNISent[:min(len(h.SNISent), MaxNameLength)]) // up to 64 KiB; none usable is longer
	c.SessionID = slices.Clone(h.SessionID)
	c.CompressionMethods = slices.Clone(h.CompressionMethods)
	c.PointFormats = slices.Clone(h.PointFormats)
	c.Extensions = make([]Extension, len(h.Extensions))
	for i, e := range h.Extensions {
		c.Extensions[i].Type = e.Type
	}
	return &c
}

// Held is about how much of the heap the hello takes.
func (h *ClientHello) Held() int {
	if h == nil {
		return 0
	}
	n := helloFixed + cap(h.Raw) + cap(h.Extensions)*extensionFixed + len(h.SNISent) + len(h.ServerName) +
		2*(cap(h.CipherSuites)+cap(h.SupportedVersions)+cap(h.Groups)+cap(h.KeyShares)+cap(h.SignatureSchemes)+cap(h.SignatureSchemesCert))
	for _, p := range h.ALPN {
		n += len(p) + 16
	}
	return n
}

// Held is about how much of the heap the certificates of a peer take.
func (p *Peer) Held() int {
	if p == nil {
		return 0
	}
	n := len(p.OCSPStaple)
	for _, c := range p.Shown {
		n += certificateFixed + certificateTimes*len(c.Raw)
	}
	return n
}

// Held is about how much of the heap a ledger takes.
func (l *Ledger) Held() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return EntriesHeld(l.entries) + (cap(l.entries)-len(l.entries))*entryFixed
}

// EntriesHeld is Held of the entries of a ledger.
func EntriesHeld(all []Entry) int {
	n := 0
	for _, e := range all {
		n += entryFixed + len(e.Facts)
		for _, name := range e.CANames {
			n += len(name) + 16
		}
	}
	return n
}
