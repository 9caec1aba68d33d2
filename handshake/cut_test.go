package handshake_test

import (
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
)

// Lists of which nil is everything and an empty one is nothing are told apart by
// what chains and tickets are remembered under.
func TestDemandsTellNothingFromEverything(t *testing.T) {
	seen := map[[32]byte]int{}
	for i, change := range []func(*handshake.Profile){
		func(*handshake.Profile) {},
		func(p *handshake.Profile) { p.Signatures = []uint16{} },
		func(p *handshake.Profile) { p.Curves = []uint16{} },
		func(p *handshake.Profile) { p.Suites13 = []uint16{} },
		func(p *handshake.Profile) { p.Signatures, p.Curves = []uint16{}, []uint16{} },
	} {
		p := handshaketest.ServerParams(func(p *handshake.ServerParams) {
			p.Profile.Signatures, p.Profile.Curves, p.Profile.Suites13 = nil, nil, nil
			change(&p.Profile)
		})
		d := p.Demands(0)
		if other, twice := seen[d]; twice {
			t.Errorf("%d and %d have one digest", other, i)
		}
		seen[d] = i
	}
}
