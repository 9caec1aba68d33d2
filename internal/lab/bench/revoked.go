package bench

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/revocation"
)

// revokedTest uses one CRL with a million serial numbers (100,000 with --quick). It measures
// what a decision by it costs, in time and memory, and how long the longest decision takes
// while the list is replaced. It measures sslgate's own Checker in this process, as no peer
// here can replace a revocation list at run time.
func revokedTest(ctx context.Context, s *site, _ mode, sc scale) ([]value, error) {
	if s.peer != SSLGate {
		return nil, errNotDone
	}
	return measureRevoked(ctx, s.dir, sc.serials)
}

const (
	revokedChecks = 100_000                // of which the mean is taken
	revokedQuiet  = time.Second            // for comparison, without an exchange
	revokedPause  = 200 * time.Microsecond // between two decisions: 5,000 flows a second
	revokedWait   = time.Minute            // for the exchange
)

func measureRevoked(ctx context.Context, dir string, n int) (all []value, err error) {
	ca, err := testpki.NewCA(testpki.Options{})
	if err != nil {
		return nil, err
	}
	leaf, err := ca.Issue(testpki.Leaf{})
	if err != nil {
		return nil, err
	}
	path, next := filepath.Join(dir, "revoked.crl"), filepath.Join(dir, "revoked.next")
	defer func() { err = errors.Join(err, os.RemoveAll(path), os.RemoveAll(next)) }()
	if err := errors.Join(writeRevoked(path, ca, 1, n), writeRevoked(next, ca, 2, n)); err != nil {
		return nil, err
	}
	before := heap()
	from := time.Now()
	checker, err := revocation.New([]revocation.Authority{{
		Name: "staff", Mode: revocation.Hard, Roots: []*x509.Certificate{ca.Cert}, Sources: []revocation.Source{{Location: path}},
	}}, revocation.Options{Poll: 10 * time.Millisecond})
	if err != nil {
		return nil, err
	}
	load := time.Since(from)
	bytes := heap() - before
	peer := &handshake.Peer{Shown: leaf.Chain, Chain: []*x509.Certificate{leaf.Cert, ca.Cert}, Authority: "staff", Proven: true}
	check := func() error {
		if r := checker.Check(ctx, peer, time.Now()); r.Status != revocation.Good {
			return fmt.Errorf("the certificate is %s: %s", r.Status, r.Detail)
		}
		return nil
	}
	from = time.Now()
	for range revokedChecks {
		if err := check(); err != nil {
			return nil, err
		}
	}
	each := time.Since(from) / revokedChecks
	quiet, err := decisions(ctx, check, func() bool { return time.Since(from) > revokedQuiet })
	if err != nil {
		return nil, err
	}

	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- checker.Run(running) }()
	defer func() { stop(); err = errors.Join(err, <-done) }()
	epoch, late := checker.Epoch(), time.Now().Add(revokedWait)
	if err := os.Rename(next, path); err != nil {
		return nil, err
	}
	from = time.Now()
	during, err := decisions(ctx, check, func() bool { return checker.Epoch() != epoch || time.Now().After(late) })
	if err != nil {
		return nil, err
	}
	if checker.Epoch() == epoch {
		return nil, fmt.Errorf("the list was not exchanged: %+v", checker.Stats())
	}
	exchange := time.Since(from)
	µs := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
	return []value{
		{".check", "ns", float64(each.Nanoseconds())},
		{".each", "B/serial", float64(bytes) / float64(n)},
		{".load", "s", load.Seconds()},
		{".exchange", "s", exchange.Seconds()},
		{".quiet", "µs p99.9", µs(at(quiet, 0.999))},
		{".during", "µs p99.9", µs(at(during, 0.999))},
		{".longest", "µs", µs(at(during, 1))},
	}, nil
}

// decisions calls check until enough returns true, and returns how long each call took, sorted.
func decisions(ctx context.Context, check func() error, enough func() bool) ([]time.Duration, error) {
	var took []time.Duration
	for !enough() {
		from := time.Now()
		if err := check(); err != nil {
			return nil, err
		}
		took = append(took, time.Since(from))
		if err := sleep(ctx, revokedPause); err != nil {
			return nil, err
		}
	}
	slices.Sort(took)
	if len(took) == 0 {
		return nil, errors.New("no decision was made meanwhile")
	}
	return took, nil
}

// at is a quantile of sorted durations.
func at(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// heap is the size of the live heap, in bytes.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// writeRevoked makes a list of n random serial numbers of 16 octets.
func writeRevoked(path string, ca *testpki.CA, number int64, n int) error {
	now := time.Now()
	list := &x509.RevocationList{
		Number: big.NewInt(number), ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(24 * time.Hour),
		RevokedCertificateEntries: make([]x509.RevocationListEntry, n),
	}
	serials := make([]byte, 16*n)
	if _, err := rand.Read(serials); err != nil {
		return err
	}
	for i := range list.RevokedCertificateEntries {
		b := serials[16*i : 16*i+16]
		b[0] = b[0]&0x3f | 0x40 // positive, and all of one length
		list.RevokedCertificateEntries[i] = x509.RevocationListEntry{SerialNumber: new(big.Int).SetBytes(b), RevocationTime: list.ThisUpdate}
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, ca.Cert, ca.Key)
	if err != nil {
		return err
	}
	return os.WriteFile(path, der, 0o600)
}
