package bench

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// LoadKind is what a load process does.
type LoadKind string

// The kinds of load.
const (
	LoadUp    LoadKind = "up"    // Flows uploads for For
	LoadDown  LoadKind = "down"  // Flows downloads for For
	LoadConns LoadKind = "conns" // connect, one round trip, close, over and over, for For
	LoadRTT   LoadKind = "rtt"   // round trips on one open connection, for For
	LoadIdle  LoadKind = "idle"  // Flows connections held until told to stop
	LoadCheck LoadKind = "check" // Bytes up and down, compared by SHA-256, and who is refused
)

// LoadJob is what a load process is told.
type LoadJob struct {
	Kind LoadKind
	// Targets are connected to in turn.
	Targets []netip.AddrPort
	// TLS says how; nil is plain TCP.
	TLS   *LoadTLS
	Flows int
	For   time.Duration
	Bytes uint64
	// Resume sessions: each worker does only one full handshake.
	Resume bool
	// As changes the name asked for or the version; the zero value changes nothing.
	As variant
}

// LoadTLS is the client's side of TLS 1.3.
type LoadTLS struct {
	Name, Roots, Cert, Key string
	// Max is the only version spoken; 0 is TLS 1.3.
	Max uint16
}

// Outcome is the result of a load process. Each kind uses only some of the fields.
type Outcome struct {
	Seconds float64
	Bytes   uint64
	Conns   int64 // connections, or round trips, that went well
	Failed  int64
	Resumed int64
	P50     float64 // of a round trip, in microseconds
	P99     float64
	Error   string // the first one
}

const (
	// loadGCPercent keeps collection cheap in load and origin, which share a
	// CPU and hold little.
	loadGCPercent = 800
	// loadWorkers make connections at the same time.
	loadWorkers = 16
	// connTimeout bounds one connection of a rate test: a real client would have given up.
	connTimeout = 5 * time.Second
	// bulkSlack is how much longer than asked a bulk flow may take.
	bulkSlack = 20 * time.Second
	// maxSamples bounds the noted round trips: 8 MiB of them.
	maxSamples = 1 << 20

	readyLine = "ready"
)

type load struct {
	job  LoadJob
	tls  *tls.Config
	next atomic.Uint64
}

// runLoad does one job. It writes a line "ready" when it can begin, begins at the next line of
// in, and writes the Outcome as one line of JSON. LoadIdle writes the Outcome when all
// connections are open, and holds them until in ends.
func runLoad(job LoadJob, in io.Reader, out io.Writer) error {
	debug.SetGCPercent(loadGCPercent)
	l := &load{job: job}
	if len(job.Targets) == 0 {
		return errors.New("load: no targets")
	}
	var err error
	if job.TLS != nil {
		if l.tls, err = job.TLS.config(); err != nil {
			return err
		}
	}
	lines := bufio.NewScanner(in)
	ready := func() error {
		if _, err := fmt.Fprintln(out, readyLine); err != nil {
			return err
		}
		if !lines.Scan() {
			return errors.New("load: nobody said go")
		}
		return nil
	}
	report := func(o Outcome) error {
		b, err := json.Marshal(o)
		if err == nil {
			_, err = fmt.Fprintf(out, "%s\n", b)
		}
		return err
	}
	var o Outcome
	switch job.Kind {
	case LoadUp, LoadDown:
		o, err = l.bulk(ready)
	case LoadConns:
		o, err = l.conns(ready)
	case LoadRTT:
		o, err = l.rtt(ready)
	case LoadCheck:
		if err = ready(); err == nil {
			err = l.check()
		}
	case LoadIdle:
		var held []net.Conn
		if err = ready(); err == nil {
			held, o = l.idle()
			if err = report(o); err == nil {
				lines.Scan() // held until in ends
			}
		}
		for _, c := range held {
			c.Close()
		}
		return err
	default:
		err = fmt.Errorf("load: unknown kind %q", job.Kind)
	}
	if err != nil {
		o.Error = err.Error()
	}
	return report(o)
}

// config verifies nothing, so that the client's share of a handshake costs little. LoadCheck
// verifies.
func (t *LoadTLS) config() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, err
	}
	pool, err := readPool(t.Roots)
	if err != nil {
		return nil, err
	}
	// Every peer supports X25519, so all do the same arithmetic.
	curves := []tls.CurveID{tls.X25519}
	if t.Max == tls.VersionTLS12 {
		// With TLS 1.2 the list also says which certificates the client can verify.
		curves = append(curves, tls.CurveP256)
	}
	return &tls.Config{
		ServerName: t.Name, RootCAs: pool, InsecureSkipVerify: true,
		Certificates: []tls.Certificate{pair},
		MinVersion:   cmp.Or(t.Max, tls.VersionTLS13), MaxVersion: cmp.Or(t.Max, tls.VersionTLS13),
		CurvePreferences:            curves,
		DynamicRecordSizingDisabled: true,
	}, nil
}

// dial connects to the next target, with TLS where cfg is not nil.
func (l *load) dial(ctx context.Context, cfg *tls.Config) (net.Conn, error) {
	to := l.job.Targets[l.next.Add(1)%uint64(len(l.job.Targets))]
	c, err := (&net.Dialer{FallbackDelay: -1}).DialContext(ctx, "tcp", to.String())
	if err != nil || cfg == nil {
		return c, err
	}
	t := tls.Client(c, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return t, nil
}

// open opens a connection that may live for d.
func (l *load) open(d time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), connTimeout)
	defer cancel()
	c, err := l.dial(ctx, l.tls)
	if err != nil {
		return nil, err
	}
	return c, c.SetDeadline(time.Now().Add(d))
}

// echo makes one round trip.
func echo(c net.Conn, msg, buf []byte) error {
	if _, err := c.Write(msg); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, buf); err != nil {
		return err
	}
	if !bytes.Equal(msg, buf) {
		return errors.New("the echo is not what was sent")
	}
	return nil
}

// bulk moves bytes one way over several connections.
func (l *load) bulk(ready func() error) (Outcome, error) {
	conns := make([]net.Conn, l.job.Flows)
	for i := range conns {
		c, err := l.open(l.job.For + bulkSlack + connTimeout)
		if err != nil {
			return Outcome{}, err
		}
		defer c.Close()
		conns[i] = c
	}
	if err := ready(); err != nil {
		return Outcome{}, err
	}
	start := time.Now()
	var total atomic.Uint64
	errs := make([]error, len(conns))
	var wg sync.WaitGroup
	for i, c := range conns {
		wg.Go(func() {
			n, err := l.flow(c, start)
			total.Add(n)
			errs[i] = err
		})
	}
	wg.Wait()
	return Outcome{Seconds: time.Since(start).Seconds(), Bytes: total.Load()}, errors.Join(errs...)
}

// flow is one bulk transfer. It counts what has arrived at the other end.
func (l *load) flow(c net.Conn, start time.Time) (n uint64, err error) {
	b := newBlocks(c)
	if l.job.Kind == LoadDown {
		if _, err := c.Write(request{op: opDown, n: uint64(l.job.For)}.bytes()); err != nil {
			return 0, err
		}
		for last := false; !last; n += blockSize {
			if last, err = b.receive(); err != nil {
				return n, err
			}
		}
		return n, nil
	}
	if _, err := c.Write(request{op: opUp}.bytes()); err != nil {
		return 0, err
	}
	for last := false; !last; n += blockSize {
		last = time.Since(start) >= l.job.For
		if err := b.send(last); err != nil {
			return 0, err
		}
	}
	buf := make([]byte, requestSize)
	r, err := readRequest(c, buf)
	if err == nil && r.n != n {
		err = fmt.Errorf("%d bytes arrived of %d sent", r.n, n)
	}
	return r.n, err
}
