package probe

import (
	"context"
	"crypto/tls"
	"slices"

	"github.com/sslgate/sslgate/handshake"
)

// refusals asks for what cannot be granted and records how the server refuses.
func (p *prober) refusals(ctx context.Context) error {
	best := uint16(tls.VersionTLS10)
	for _, v := range p.r.Versions {
		if v.Accepted {
			best = max(best, v.ID)
		}
	}
	base := p.usual(best)
	// Send a share that fits. Without it the answer would only be a HelloRetryRequest,
	// which comes before names and protocols are checked.
	for _, g := range p.r.Groups {
		if best == tls.VersionTLS13 && slices.Contains(shareable(), g.ID) {
			base.shares = []uint16{g.ID}
			break
		}
	}
	with := func(set func(*offer)) offer { o := base; set(&o); return o }
	for _, q := range []struct {
		question string
		o        offer
	}{
		{"no CipherSuite in common", with(func(o *offer) { o.suites = []uint16{grease} })},
		{"no version in common", with(func(o *offer) { o.version = 0x7a7a; o.shares = nil })},
		{"a server name that is nobody's", with(func(o *offer) { o.name = "sslgate-probe.invalid" })},
		{"an application protocol that is nobody's", with(func(o *offer) { o.alpn = []string{"sslgate-probe"} })},
	} {
		a, err := p.ask(ctx, q.o)
		if err != nil {
			return err
		}
		said := a.said()
		if a.accepted() {
			said = "went on all the same"
			if a.hello.retry {
				said = "asked for another key share first"
			}
		}
		p.r.Refusals = append(p.r.Refusals, Refusal{q.question, said})
	}
	return p.downgrades(ctx, best)
}

// downgrades asks for a fallback (RFC 7507) and for compression, which only old versions
// have.
func (p *prober) downgrades(ctx context.Context, best uint16) error {
	for v := best - 1; v >= tls.VersionTLS10; v-- {
		if !p.r.accepts(v) {
			continue
		}
		o := p.usual(v)
		o.suites = append(o.suites, suiteFallbackSCSV)
		a, err := p.ask(ctx, o)
		if err != nil {
			return err
		}
		said := a.said()
		if a.accepted() {
			said = "went on all the same: a downgrade is not noticed"
		}
		p.r.Refusals = append(p.r.Refusals, Refusal{"a fallback to " + handshake.VersionName(v) + " (TLS_FALLBACK_SCSV)", said})
		break
	}
	if best == tls.VersionTLS13 && !p.r.accepts(tls.VersionTLS12) {
		return nil
	}
	version := min(best, tls.VersionTLS12)
	o := p.usual(version)
	o.compression = []byte{1, 0}             // DEFLATE, null
	if _, err := p.ask(ctx, o); err != nil { // note records what was chosen
		return err
	}
	o = p.usual(version)
	o.noEMS = true
	a, err := p.ask(ctx, o)
	p.r.Features.WithoutEMS = err == nil && a.accepted()
	return err
}
