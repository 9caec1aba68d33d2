package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
)

// What a handshake costs under other demands than those of tls-conns: asked for
// by name, at the same port, so that nothing else differs.
const (
	stepsName = "steps.bench.test" // the rule has `ledger: steps`
	tls12Name = "tls12.bench.test" // the rule's profile allows TLS 1.2
)

// variant is a client that asks for another name, or speaks another version.
type variant struct {
	Name string
	Max  uint16 // of TLS; 0 is 1.3
}

// handshakeTests are the rows about handshakes beside tls-conns and
// tls-resumed.
func handshakeTests() []test {
	tls12 := variant{tls12Name, tls.VersionTLS12}
	return []test{
		{name: "tls-steps", mode: modeTLS, run: only(SSLGate, connsAs(variant{Name: stepsName}))},
		{name: "tls12-conns", mode: modeTLS, run: connsAs(tls12)},
		{name: "tls12-resumed", mode: modeTLS, run: resumedAs(tls12)},
	}
}

// only leaves a test to one peer.
func only(p Peer, run func(context.Context, *site, mode, scale) ([]value, error)) func(context.Context, *site, mode, scale) ([]value, error) {
	return func(ctx context.Context, s *site, m mode, sc scale) ([]value, error) {
		if s.peer != p {
			return nil, errNotDone
		}
		return run(ctx, s, m, sc)
	}
}

func connsAs(v variant) func(context.Context, *site, mode, scale) ([]value, error) {
	return func(ctx context.Context, s *site, m mode, sc scale) ([]value, error) {
		r, err := s.run(ctx, LoadJob{Kind: LoadConns, For: sc.rate, As: v}, m)
		if err == nil && r.Conns == 0 {
			err = errors.New("no connection")
		}
		if err != nil {
			return nil, err
		}
		return rateValues(s, r)
	}
}

func resumedAs(v variant) func(context.Context, *site, mode, scale) ([]value, error) {
	return func(ctx context.Context, s *site, m mode, sc scale) ([]value, error) {
		r, err := s.run(ctx, LoadJob{Kind: LoadConns, For: sc.rate, Resume: true, As: v}, m)
		if err != nil {
			return nil, err
		}
		if r.Resumed*10 < r.Conns*9 {
			return nil, fmt.Errorf("resumes %d of %d connections: %w", r.Resumed, r.Conns, errNotDone)
		}
		return rateValues(s, r)
	}
}
