package stdtls

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
)

// The third "direction" of a recording: a line of the key log.
const keyLine = 2

// chunk is one Write or Read of a recorded handshake.
type chunk struct {
	dir  byte
	data []byte
}

// recording is a handshake as the tap of its server would be fed.
type recording struct {
	mu     sync.Mutex
	chunks []chunk
}

func (r *recording) add(dir byte, b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.chunks = append(r.chunks, chunk{dir, bytes.Clone(b)})
}

func (r *recording) Write(line []byte) (int, error) {
	r.add(keyLine, line)
	return len(line), nil
}

// recordConn records what a server reads and writes.
type recordConn struct {
	net.Conn
	r *recording
}

func (c *recordConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.r.add(toServer, b[:n])
	return n, err
}

func (c *recordConn) Write(b []byte) (int, error) {
	c.r.add(toClient, b)
	return c.Conn.Write(b)
}

// recordReal makes a real handshake between two crypto/tls ends in memory.
func recordReal(t testing.TB, version uint16) []chunk {
	t.Helper()
	f := handshaketest.Fixtures()
	r := &recording{}
	a, b := net.Pipe()
	server := tls.Server(&recordConn{a, r}, &tls.Config{
		Certificates: []tls.Certificate{f.Gateway.TLS()}, ClientAuth: tls.RequireAnyClientCert, ClientCAs: f.CA.Pool(),
		KeyLogWriter: r, SessionTicketsDisabled: true,
	})
	client := tls.Client(b, clientConfig(version, f.Client.TLS()))
	done := make(chan error, 1)
	go func() { done <- server.Handshake() }()
	err := client.Handshake()
	if serr := <-done; err != nil || serr != nil {
		t.Fatal(err, serr)
	}
	_, _ = a.Close(), b.Close()
	return r.chunks
}

// replay feeds chunks to a fresh tap of a server.
func replay(chunks []chunk) *tap {
	tp := newTap(handshake.NewLedger(time.Now()), true)
	for _, c := range chunks {
		if c.dir == keyLine {
			_, _ = tp.Write(c.data)
			continue
		}
		tp.feed(int(c.dir), c.data)
	}
	tp.finish()
	return tp
}

// The ledger does not depend on how TCP cuts the bytes, nor on keys that come
// late.
func TestTapSegmentation(t *testing.T) {
	for _, version := range bothVersions {
		whole := recordReal(t, version)
		want := replay(whole)
		if n := len(want.ledger.Entries()); n < 10 {
			t.Fatalf("%s: only %d entries: %q", handshake.VersionName(version), n, story(want.ledger))
		}
		rnd := rand.New(rand.NewPCG(1, uint64(version)))
		for range 20 {
			var cut []chunk
			for _, c := range whole {
				if c.dir == keyLine {
					cut = append(cut, c)
					continue
				}
				for b := c.data; len(b) > 0; {
					n := 1 + rnd.IntN(min(len(b), 1+rnd.IntN(2000)))
					cut = append(cut, chunk{c.dir, b[:n]})
					b = b[n:]
				}
			}
			if diff := cmp.Diff(story(want.ledger), story(replay(cut).ledger)); diff != "" {
				t.Fatalf("%s (-whole +cut):\n%s", handshake.VersionName(version), diff)
			}
		}
		// All keys at the end, directions apart: what waits is opened then.
		var late []chunk
		for _, dir := range []byte{toClient, toServer, keyLine} {
			for _, c := range whole {
				if c.dir == dir {
					late = append(late, c)
				}
			}
		}
		got := story(replay(late).ledger)
		for _, e := range story(want.ledger) {
			if e[2:] != "peer (accepted)" && !slices.Contains(got, e) {
				t.Errorf("%s: with late keys %q is missing in %q", handshake.VersionName(version), e, got)
			}
		}
	}
}

// Without keys the tap of TLS 1.3 shows what is in the clear, and does not
// claim more.
func TestTapWithoutKeys(t *testing.T) {
	var chunks []chunk
	for _, c := range recordReal(t, tls.VersionTLS13) {
		if c.dir != keyLine {
			chunks = append(chunks, c)
		}
	}
	want := []string{"1 peer ClientHello", "2 us ServerHello", "4 peer (key shares in the hellos)"}
	if diff := cmp.Diff(want, story(replay(chunks).ledger)); diff != "" {
		t.Error(diff)
	}
}

// What cannot be read stops the tap, and the ledger says so once.
func TestTapStops(t *testing.T) {
	long := []byte{handshake.RecordHandshake, 3, 3, 0xff, 0xff}
	flood := bytes.Repeat(append([]byte{handshake.RecordAppData, 3, 3, 0x40, 0}, make([]byte, 1<<14)...), 30)
	hello13 := recordReal(t, tls.VersionTLS13)[:2]
	for name, chunks := range map[string][]chunk{
		"record too long":        {{toServer, long}},
		"data before the hellos": {{toServer, []byte{handshake.RecordAppData, 3, 3, 0, 1, 0}}},
		"unknown record":         {{toClient, []byte{99, 3, 3, 0, 1, 0}}},
		"message too long":       {{toServer, []byte{handshake.RecordHandshake, 3, 3, 0, 4, handshake.TypeClientHello, 0xff, 0xff, 0xff}}},
		"bad ServerHello":        {{toClient, []byte{handshake.RecordHandshake, 3, 3, 0, 4, handshake.TypeServerHello, 0, 0, 0}}},
		"waiting without end":    append(slices.Clone(hello13), chunk{toClient, findHello(t)}, chunk{toServer, flood}),
	} {
		tp := replay(append(chunks, chunk{toServer, []byte("more")}, chunk{toClient, []byte("more")}))
		n := 0
		for _, e := range tp.ledger.Entries() {
			if strings.HasPrefix(e.Facts, "ledger incomplete from here") {
				n++
			}
		}
		if !tp.stopped || n != 1 {
			t.Errorf("%s: stopped %v, said %d times: %q", name, tp.stopped, n, story(tp.ledger))
		}
		if tp.dirs[0].queue != nil || tp.dirs[1].partial != nil {
			t.Errorf("%s: holds data after the stop", name)
		}
	}
}

// findHello is the ServerHello record of a TLS 1.3 handshake.
func findHello(t *testing.T) []byte {
	for _, c := range recordReal(t, tls.VersionTLS13) {
		if c.dir == toClient {
			return c.data[:handshake.RecordHeader+handshake.RecordLen(c.data)]
		}
	}
	t.Fatal("no ServerHello")
	return nil
}

// Secrets and buffers are gone once the handshake is over.
func TestTapForgets(t *testing.T) {
	tp := newTap(handshake.NewLedger(time.Now()), true)
	_, _ = tp.Write([]byte("SERVER_TRAFFIC_SECRET_0 00 0102\n"))
	kept := tp.secrets[toClient][1]
	if len(kept) != 2 {
		t.Fatal("the secret was not taken")
	}
	tp.finish()
	if kept[0] != 0 || tp.secrets[toClient][1] != nil {
		t.Error("the secret is still there")
	}
	_, _ = tp.Write([]byte("SERVER_TRAFFIC_SECRET_0 00 0102\n"))
	if tp.secrets[toClient][1] != nil {
		t.Error("a secret is taken after the end")
	}
}

// encode and decode carry a recording through the fuzzer.
func encode(chunks []chunk) []byte {
	var out []byte
	for _, c := range chunks {
		out = append(out, c.dir)
		out = binary.BigEndian.AppendUint16(out, uint16(len(c.data)))
		out = append(out, c.data...)
	}
	return out
}

func decode(b []byte) []chunk {
	var out []chunk
	for len(b) >= 3 {
		n := min(int(binary.BigEndian.Uint16(b[1:])), len(b)-3)
		out = append(out, chunk{b[0] % 3, b[3 : 3+n]})
		b = b[3+n:]
	}
	return out
}

// Whatever is fed, the tap does not panic and holds no more than its bounds.
func FuzzTap(f *testing.F) {
	for _, version := range bothVersions {
		f.Add(encode(recordReal(f, version)), true)
		f.Add(encode(recordReal(f, version)), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, server bool) {
		tp := newTap(handshake.NewLedger(time.Now()), server)
		for _, c := range decode(b) {
			if c.dir == keyLine {
				_, _ = tp.Write(c.data)
				continue
			}
			tp.feed(int(c.dir), c.data)
			for i := range tp.dirs {
				d := &tp.dirs[i]
				if len(d.partial) > handshake.RecordHeader+handshake.MaxRecord || d.queued > maxQueue || len(d.message) > maxCertMessage+handshake.MaxRecord {
					t.Fatalf("holds %d, %d, %d bytes", len(d.partial), d.queued, len(d.message))
				}
			}
		}
		tp.finish()
		checkBounds(t, tp.ledger)

		// However the bytes are cut, the same was seen.
		cut := newTap(handshake.NewLedger(time.Now()), server)
		for _, c := range decode(b) {
			if c.dir == keyLine {
				_, _ = cut.Write(c.data)
				continue
			}
			for piece := range slices.Chunk(c.data, 7) {
				cut.feed(int(c.dir), piece)
			}
			cut.feed(int(c.dir), nil)
		}
		cut.finish()
		if a, b := timeless(tp.ledger), timeless(cut.ledger); tp.seen != cut.seen || !slices.EqualFunc(a, b, sameEntry) {
			t.Fatalf("in one piece %+v %v, in many %+v %v", tp.seen, a, cut.seen, b)
		}
	})
}

func timeless(l *handshake.Ledger) []handshake.Entry {
	all := l.Entries()
	for i := range all {
		all[i].At = 0
	}
	return all
}

func sameEntry(a, b handshake.Entry) bool {
	same := slices.Equal(a.CANames, b.CANames)
	a.CANames, b.CANames = nil, nil
	return same && reflect.DeepEqual(a, b)
}

// The same for handshake messages as they are inside the encryption, where the
// fuzzer would never get.
func FuzzTapMessage(f *testing.F) {
	for _, version := range bothVersions {
		var inside []byte
		for _, c := range recordReal(f, version) {
			if c.dir == toClient && len(c.data) > handshake.RecordHeader {
				inside = append(inside, c.data[handshake.RecordHeader:]...)
			}
		}
		f.Add(version, byte(toClient), inside)
		f.Add(version, byte(toServer), append([]byte{handshake.TypeCertificate, 0, 0, 4, 0, 0, 0, 0}, inside...))
	}
	f.Add(uint16(tls.VersionTLS13), byte(toClient), []byte{handshake.TypeCertificateRequest, 0, 0, 13, 0, 0, 10, 0, 47, 0, 6, 0, 4, 0, 2, 0x30, 0})
	f.Fuzz(func(t *testing.T, version uint16, dir byte, b []byte) {
		tp := newTap(handshake.NewLedger(time.Now()), dir&2 == 0)
		tp.seen.version = version
		for len(b) > 0 {
			n := min(len(b), 1<<14)
			tp.handshake(int(dir&1), b[:n], 0)
			b = b[n:]
			if len(tp.dirs[dir&1].message) > maxCertMessage+handshake.MaxRecord {
				t.Fatal("holds too much")
			}
			if tp.stopped {
				break
			}
		}
		checkBounds(t, tp.ledger)
	})
}

func checkBounds(t *testing.T, l *handshake.Ledger) {
	entries := l.Entries()
	if len(entries) > handshake.MaxEntries {
		t.Fatalf("%d entries", len(entries))
	}
	for _, e := range entries {
		if len(e.Facts) > handshake.MaxFacts || len(e.CANames) > maxCANames {
			t.Fatalf("facts %d bytes, %d names", len(e.Facts), len(e.CANames))
		}
		for _, n := range e.CANames {
			if len(n) > handshake.MaxNameLength {
				t.Fatalf("name of %d bytes", len(n))
			}
		}
	}
}
