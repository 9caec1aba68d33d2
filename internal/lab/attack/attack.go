// Package attack attacks a gateway from one address, in a lab, for tests of its limits and to
// measure what other clients notice.
package attack

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Kind of an attack.
type Kind string

// The kinds. Each worker starts again when its connection ends.
const (
	Connections Kind = "connections" // connect and stay silent
	Hellos      Kind = "hellos"      // a valid ClientHello, and then nothing
	Handshakes  Kind = "handshakes"  // whole handshakes without a certificate, as fast as can be
	Windows     Kind = "windows"     // ask for data and read none of it: the window closes
	Uploads     Kind = "uploads"     // send without end to a destination that does not read
	Drips       Kind = "drips"       // a ClientHello, one byte at a time
	Fragments   Kind = "fragments"   // first fragments of packets that never become whole
	Chains      Kind = "chains"      // handshakes with ten P-521 certificates that have all signed each other
	Shares      Kind = "shares"      // a ClientHello of 64 KiB, full of key shares
	Suites      Kind = "suites"      // the same, full of CipherSuites
	Extensions  Kind = "extensions"  // the same, full of empty extensions
	Plain       Kind = "plain"       // plain HTTP, as fast as can be: a record for each

	// Clients are no attack: complete flows with one round trip, over and over. They show
	// what others notice of an attack.
	Clients Kind = "clients"
)

// Kinds returns all attacks.
func Kinds() []Kind {
	return []Kind{Connections, Hellos, Handshakes, Windows, Uploads, Drips, Fragments, Chains, Shares, Suites, Extensions, Plain}
}

// Job is the task of an attack process.
type Job struct {
	Kind Kind
	// From are the source addresses: one for an attacker, several for Clients. To are the
	// destinations, used in turn.
	From []netip.Addr
	To   []netip.AddrPort
	// Name is the SNI.
	Name string
	// Cert and Key, PEM files, are what Windows, Uploads and Clients show; "" for none. Plain
	// makes them use TCP without TLS.
	Cert, Key string
	Plain     bool
	// Say is what Windows sends to make the destination send, Uploads to make it stop
	// reading, and Clients, who then expect as many bytes back.
	Say []byte
	// Workers is the number of parallel workers; for Fragments, the number of packets per 10 ms.
	Workers int
	// Every is how often each worker of Clients makes a flow; 0 means one after the other.
	// Clients that use all of a machine would notice the attacker's own load on it.
	Every time.Duration
	// For is the duration; each worker also ends with the context.
	For time.Duration
}

// maxWorkers bounds Job.Workers: two descriptors each.
const maxWorkers = 5000

// Done is the result.
type Done struct {
	Made    int64 // connections, handshakes or packets
	Refused int64 // connections that were not made, or reset before anything was sent
	Ended   int64 // connections that the gateway ended
	Held    int64 // connections open at the end
	Good    int64 // flows of Clients that went well
	Seconds float64
	// P50 and P99 are the percentiles of the duration of good flows of Clients, in milliseconds.
	P50, P99 float64
	Error    string
}

// maxSamples bounds the flows whose duration is recorded: half a megabyte.
const maxSamples = 1 << 16

const (
	dialTimeout = 3 * time.Second
	// pause lies between two attempts of one attacking worker. Without it, a worker that is
	// refused at once would take the CPU that the clients beside it need.
	pause = 100 * time.Millisecond
	// shakePause is the pause of Handshakes, which cost both sides much.
	shakePause = 2 * time.Millisecond
	// dripEvery is the time between two bytes of a drip: a hello takes two minutes.
	dripEvery = 250 * time.Millisecond
)

type assault struct {
	job   Job
	hello []byte
	tls   *tls.Config
	chain *tls.Certificate // of Chains, once the gateway has said what it accepts

	made, refused, ended, held, good atomic.Int64
	next                             atomic.Uint64

	mu      sync.Mutex
	took    []time.Duration // of good flows, at most maxSamples
	failure atomic.Pointer[string]
}

// Main reads a Job in JSON, writes "ready", starts at the next line of in, and writes Done in
// JSON when its time is over or in has ended.
func Main(job string, in io.Reader, out io.Writer) error {
	var j Job
	if err := json.Unmarshal([]byte(job), &j); err != nil {
		return fmt.Errorf("assault: %w", err)
	}
	a, err := prepare(j)
	if err != nil {
		return fmt.Errorf("assault: %w", err)
	}
	if _, err := fmt.Fprintln(out, "ready"); err != nil {
		return err
	}
	one := make([]byte, 1)
	if _, err := in.Read(one); err != nil {
		return errors.New("assault: nobody said go")
	}
	ctx, cancel := context.WithTimeout(context.Background(), j.For)
	defer cancel()
	go func() { // ends with the process, or with in
		defer cancel()
		_, _ = io.Copy(io.Discard, in)
	}()
	b, err := json.Marshal(a.run(ctx))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n", b)
	return err
}

func prepare(j Job) (*assault, error) {
	if j.Workers < 1 || j.Workers > maxWorkers {
		return nil, fmt.Errorf("%d workers: 1 to %d", j.Workers, maxWorkers)
	}
	if len(j.From) == 0 || len(j.To) == 0 {
		return nil, errors.New("from where, and to where?")
	}
	if j.For <= 0 {
		return nil, errors.New("for how long?")
	}
	a := &assault{job: j}
	// An attacker need not verify the gateway.
	a.tls = &tls.Config{ServerName: j.Name, InsecureSkipVerify: true} //nolint:gosec // see above
	if j.Cert != "" {
		pair, err := tls.LoadX509KeyPair(j.Cert, j.Key)
		if err != nil {
			return nil, err
		}
		a.tls.Certificates = []tls.Certificate{pair}
	}
	a.hello = helloOf(a.tls)
	return a, nil
}

// helloOf is a ClientHello as crypto/tls writes it.
func helloOf(cfg *tls.Config) []byte {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	got := make(chan []byte, 1)
	go func() {
		buf := make([]byte, 16<<10)
		n, _ := far.Read(buf)
		got <- buf[:n]
		far.Close()
	}()
	_ = tls.Client(near, cfg).Handshake() // ends when far does
	return <-got
}

func (a *assault) run(ctx context.Context) Done {
	start := time.Now()
	if a.job.Kind == Fragments {
		a.fragments(ctx)
	} else {
		one := map[Kind]func(context.Context, net.Conn, time.Time){
			Connections: a.silent, Hellos: a.greet, Handshakes: a.shake, Windows: a.hold, Uploads: a.push, Drips: a.drip, Clients: a.visit,
			Chains: a.costly, Shares: a.say(sharesHello()), Suites: a.say(suitesHello()), Extensions: a.say(extensionsHello()),
			Plain: a.say(plainHTTP(a.job.Name)),
		}[a.job.Kind]
		if one == nil {
			return Done{Error: fmt.Sprintf("no kind %q", a.job.Kind)}
		}
		var wg sync.WaitGroup
		for i := range a.job.Workers {
			// Clients that all start at once would wait for each other, and that time would
			// hide what an attack costs them.
			late := a.job.Every * time.Duration(i) / time.Duration(a.job.Workers)
			wg.Go(func() {
				if pauseFor(ctx, late) {
					a.work(ctx, a.job.From[i%len(a.job.From)], one)
				}
			})
		}
		wg.Wait()
	}
	d := Done{Made: a.made.Load(), Refused: a.refused.Load(), Ended: a.ended.Load(), Held: a.held.Load(), Good: a.good.Load(), Seconds: time.Since(start).Seconds()}
	if n := len(a.took); n > 0 {
		slices.Sort(a.took)
		ms := func(q float64) float64 { return a.took[int(q*float64(n-1))].Seconds() * 1000 }
		d.P50, d.P99 = ms(0.5), ms(0.99)
	}
	if e := a.failure.Load(); e != nil {
		d.Error = *e
	}
	return d
}

// work connects and attacks, again and again.
func (a *assault) work(ctx context.Context, from netip.Addr, one func(context.Context, net.Conn, time.Time)) {
	d := net.Dialer{
		Timeout: dialTimeout, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)),
		ControlContext: a.control,
	}
	d.SetMultipathTCP(false)
	wait := pause
	switch a.job.Kind {
	case Handshakes, Plain:
		wait = shakePause
	case Clients:
		wait = a.job.Every
	}
	for ctx.Err() == nil {
		began := time.Now()
		to := a.job.To[a.next.Add(1)%uint64(len(a.job.To))]
		c, err := d.DialContext(ctx, "tcp", to.String())
		if err != nil {
			// A dial that the end of the job cuts off fails a moment before that end.
			if end, _ := ctx.Deadline(); time.Until(end) > 10*time.Millisecond && ctx.Err() == nil {
				a.refused.Add(1)
				text := err.Error()
				a.failure.CompareAndSwap(nil, &text)
			}
		} else {
			a.made.Add(1)
			one(ctx, c, began)
			_ = c.(*net.TCPConn).SetLinger(0) // no TIME_WAIT on this side: ports are few
			_ = c.Close()
		}
		if a.job.Kind == Clients {
			wait = max(a.job.Every-time.Since(began), 0)
			if err != nil {
				wait = max(wait, shakePause)
			}
		}
		pauseFor(ctx, wait)
	}
}

// pauseFor waits, and says whether there is time left.
func pauseFor(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
	return ctx.Err() == nil
}

// visit is one legitimate flow.
func (a *assault) visit(ctx context.Context, c net.Conn, began time.Time) {
	_ = c.SetDeadline(time.Now().Add(dialTimeout))
	err := func() error {
		if !a.job.Plain {
			t := tls.Client(c, a.tls)
			if err := t.HandshakeContext(ctx); err != nil {
				return err
			}
			c = t
		}
		if _, err := c.Write(a.job.Say); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, len(a.job.Say)))
		return err
	}()
	switch {
	case err == nil:
		a.good.Add(1)
		a.mu.Lock()
		if len(a.took) < maxSamples {
			a.took = append(a.took, time.Since(began))
		}
		a.mu.Unlock()
	case ctx.Err() == nil:
		a.ended.Add(1)
		text := err.Error()
		a.failure.CompareAndSwap(nil, &text)
	}
}

// await returns when the gateway has ended the connection, or when time is up.
func (a *assault) await(ctx context.Context, c net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 4096)
	for {
		if _, err := c.Read(buf); err != nil {
			a.count(ctx)
			return
		}
	}
}

// count records the state of a connection at its end.
func (a *assault) count(ctx context.Context) {
	if ctx.Err() != nil {
		a.held.Add(1)
		return
	}
	a.ended.Add(1)
}

func (a *assault) silent(ctx context.Context, c net.Conn, _ time.Time) { a.await(ctx, c) }

func (a *assault) greet(ctx context.Context, c net.Conn, _ time.Time) {
	_, _ = c.Write(a.hello)
	a.await(ctx, c)
}

func (a *assault) drip(ctx context.Context, c net.Conn, _ time.Time) {
	go func() {
		for i := range a.hello {
			if _, err := c.Write(a.hello[i : i+1]); err != nil {
				return
			}
			time.Sleep(dripEvery)
		}
	}()
	a.await(ctx, c)
}

func (a *assault) shake(ctx context.Context, c net.Conn, _ time.Time) { a.shakeWith(ctx, c, a.tls) }

func (a *assault) shakeWith(ctx context.Context, c net.Conn, cfg *tls.Config) {
	_ = c.SetDeadline(time.Now().Add(dialTimeout))
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	t := tls.Client(c, cfg)
	if err := t.HandshakeContext(ctx); err == nil {
		_, _ = t.Read(make([]byte, 1)) // in TLS 1.3 the refusal comes now
	}
	a.count(ctx)
}
