package stdtls

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// rawClient writes records of TLS 1.3 that crypto/tls cannot: the keys are taken
// from its client's key log, which has sent nothing yet.
type rawClient struct {
	o      *opener
	suite  uint16
	secret []byte
}

func newRawClient(t *testing.T, b *bulk) *rawClient {
	t.Helper()
	for sc := bufio.NewScanner(bytes.NewReader(b.secret.Bytes())); sc.Scan(); {
		if f := strings.Fields(sc.Text()); len(f) == 3 && f[0] == "CLIENT_TRAFFIC_SECRET_0" {
			secret, err := hex.DecodeString(f[2])
			if err != nil {
				t.Fatal(err)
			}
			suite := b.peer.ConnectionState().CipherSuite
			return &rawClient{o: newOpener(suite, secret), suite: suite, secret: secret}
		}
	}
	t.Fatal("no secret in the key log")
	return nil
}

func (c *rawClient) data(b []byte) []byte { return c.o.seal(handshake.RecordAppData, b) }

// keyUpdate changes the keys (RFC 8446, sections 4.6.3 and 7.2), and asks the
// other side to do so too.
func (c *rawClient) keyUpdate(t *testing.T) []byte {
	t.Helper()
	out := c.o.seal(handshake.RecordHandshake, []byte{24, 0, 0, 1, 1})
	h := sha256.New
	if c.suite == tls.TLS_AES_256_GCM_SHA384 {
		h = sha512.New384
	}
	next, err := expandLabel(h, c.secret, "traffic upd", len(c.secret))
	if err != nil {
		t.Fatal(err)
	}
	c.secret, c.o = next, newOpener(c.suite, next)
	return out
}

// KeyUpdates, empty records and those of the maximum size stand between the
// data, while we write in large pieces: the answers to the KeyUpdates fall
// between these.
func TestKeyUpdatesAmongBulk(t *testing.T) {
	for seed := range uint64(4) {
		ours, peers, _ := memPair(300_000, seed, seed%2 == 0)
		b := newBulk(t, ours, peers, tls.VersionTLS13, true)
		raw := newRawClient(t, b)
		var stream []byte
		want := sha256.New()
		for i := range 60 {
			// Fourteen in all: crypto/tls takes 16 records without data in a row,
			// and all the answers may come together.
			if i%8 == 7 {
				stream = append(stream, raw.keyUpdate(t)...)
				stream = append(stream, raw.data(nil)...)
				stream = append(stream, raw.keyUpdate(t)...)
			}
			data := make([]byte, []int{1, handshake.MaxPlaintext, 5000, handshake.MaxPlaintext, 4096}[i%5])
			_, _ = rand.Read(data)
			want.Write(data)
			stream = append(stream, raw.data(data)...)
		}
		wrote := make(chan error, 2)
		go func() { _, err := peers.Write(stream); wrote <- err }()
		downSum := make(chan [32]byte, 1)
		go func() { sum, err := send(b.ours, 2<<20, seed); downSum <- sum; wrote <- err }()
		read := make(chan error, 1)
		go func() {
			sum, n, err := receive(b.peer, seed) // it opens only if the answers stand where they belong
			if err == nil && sum != <-downSum {
				err = errors.New("other bytes arrived at the peer")
			}
			if n != 2<<20 {
				err = errors.Join(err, io.ErrUnexpectedEOF)
			}
			if err != nil {
				_ = peers.Close() // so that nobody waits for it
			}
			read <- err
		}()
		got := sha256.New()
		buf := make([]byte, 100_000)
		for left := 12 * (1 + 2*handshake.MaxPlaintext + 5000 + 4096); left > 0; {
			n, err := b.ours.Read(buf)
			if err != nil {
				t.Fatalf("seed %d, %d bytes left: %v", seed, left, err)
			}
			got.Write(buf[:n])
			left -= n
		}
		if !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
			t.Fatalf("seed %d: other bytes arrived", seed)
		}
		if err := errors.Join(<-read, <-wrote, <-wrote); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		_ = b.ours.Close()
		b.wantNothingLent(t)
	}
}

// A peer that has had our end may still change its keys and ask for ours: what it sends
// then is read all the same, and what is written is refused.
func TestKeyUpdateAfterOurEnd(t *testing.T) {
	for name, end := range map[string]func(handshake.Conn) error{
		"close_notify": func(c handshake.Conn) error { return c.CloseWrite() },
		"a bare FIN":   func(c handshake.Conn) error { return c.(handshake.BareCloser).CloseWriteBare() },
	} {
		ours, peers, _ := memPair(1<<20, 0, true)
		b := newBulk(t, ours, peers, tls.VersionTLS13, true)
		raw := newRawClient(t, b)
		if err := end(b.ours); err != nil {
			t.Fatal(err)
		}
		if n, err := b.ours.Write([]byte("x")); err == nil || n != 0 {
			t.Errorf("%s: %d bytes written behind it, %v", name, n, err)
		}
		var want []byte
		for i := range 3 {
			data := []byte{byte(i), 'x'}
			want = append(want, data...)
			if _, err := peers.Write(append(raw.keyUpdate(t), raw.data(data)...)); err != nil {
				t.Fatal(err)
			}
		}
		got := make([]byte, len(want))
		if _, err := io.ReadFull(b.ours, got); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: read %x, %v", name, got, err)
		}
	}
}

// A record without data at the end of what waits does not make Read wait for
// more: the data before it comes out, and so does what follows later.
func TestNothingHeldBack(t *testing.T) {
	for _, told := range []bool{true, false} {
		ours, peers, _ := memPair(1<<20, 0, told)
		b := newBulk(t, ours, peers, tls.VersionTLS13, true)
		raw := newRawClient(t, b)
		big := make([]byte, handshake.MaxPlaintext)
		tails := map[string]func() []byte{
			"KeyUpdate":    func() []byte { return raw.keyUpdate(t) },
			"empty record": func() []byte { return raw.data(nil) },
			"half a record": func() []byte {
				return nil // see below
			},
		}
		for name, tail := range tails {
			stream := append(append(raw.data(big), raw.data([]byte("x"))...), tail()...)
			late := raw.data(big)
			if name == "half a record" {
				stream, late = append(stream, late[:9000]...), late[9000:]
			}
			_, _ = peers.Write(stream)
			done := make(chan error, 1)
			go func() {
				_, err := io.ReadFull(b.ours, make([]byte, handshake.MaxPlaintext+1))
				done <- err
			}()
			if err := testenv.Receive(t, fmt.Sprintf("told %t, %s: Read returns what it has", told, name), done); err != nil {
				t.Fatal(name, err)
			}
			_, _ = peers.Write(late)
			if _, err := io.ReadFull(b.ours, make([]byte, handshake.MaxPlaintext)); err != nil {
				t.Fatal(name, err)
			}
		}
	}
}

// However a connection ends, what came before is read, the end is told once and
// again, and every buffer goes back.
func TestBulkEnds(t *testing.T) {
	var ae *handshake.AlertError
	isAlert := func(a handshake.Alert) func(error) bool {
		return func(err error) bool { return errors.As(err, &ae) && ae.Alert == a }
	}
	is := func(want error) func(error) bool { return func(err error) bool { return errors.Is(err, want) } }
	some := func(err error) bool {
		return err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, handshake.ErrTruncated) && !errors.Is(err, handshake.ErrNoCloseNotify)
	}
	junk := append([]byte{handshake.RecordAppData, 3, 3, 0x20, 0}, make([]byte, 0x2000)...)
	for name, tt := range map[string]struct {
		tail  func(*rawClient) []byte
		after func(*memConn)
		want  func(error) bool
	}{
		"close_notify":           {func(c *rawClient) []byte { return c.o.seal(handshake.RecordAlert, []byte{1, 0}) }, nil, is(io.EOF)},
		"close_notify and data":  {func(c *rawClient) []byte { return append(c.o.seal(handshake.RecordAlert, []byte{1, 0}), junk...) }, nil, is(io.EOF)},
		"FIN":                    {nil, func(c *memConn) { _ = c.CloseWrite() }, is(handshake.ErrNoCloseNotify)},
		"FIN in a header":        {func(*rawClient) []byte { return junk[:3] }, func(c *memConn) { _ = c.CloseWrite() }, is(handshake.ErrTruncated)},
		"FIN after a header":     {func(*rawClient) []byte { return junk[:5] }, func(c *memConn) { _ = c.CloseWrite() }, is(handshake.ErrTruncated)},
		"FIN in a body":          {func(*rawClient) []byte { return junk[:5000] }, func(c *memConn) { _ = c.CloseWrite() }, is(handshake.ErrTruncated)},
		"alert":                  {func(c *rawClient) []byte { return append(c.o.seal(handshake.RecordAlert, []byte{2, 80}), junk...) }, nil, isAlert(handshake.AlertInternalError)},
		"does not decrypt":       {func(*rawClient) []byte { return append(append([]byte{}, junk...), junk...) }, nil, some},
		"longer than any record": {func(*rawClient) []byte { return append([]byte{handshake.RecordAppData, 3, 3, 0xff, 0xff}, junk...) }, nil, some},
		"longer than TLS 1.3 allows": {func(*rawClient) []byte {
			return append([]byte{handshake.RecordAppData, 3, 3, 0x41, 1}, make([]byte, 0x5000)...)
		}, nil, some},
		"of no type": {func(*rawClient) []byte { return append([]byte{99, 3, 3, 0x20, 0}, make([]byte, 0x5000)...) }, nil, some},
	} {
		t.Run(name, func(t *testing.T) {
			for _, told := range []bool{true, false} {
				for seed := range uint64(3) {
					ours, peers, _ := memPair(1<<20, seed, told)
					b := newBulk(t, ours, peers, tls.VersionTLS13, true)
					raw := newRawClient(t, b)
					data := make([]byte, 100_000)
					_, _ = rand.Read(data)
					var stream []byte
					for rest := data; len(rest) > 0; rest = rest[min(len(rest), handshake.MaxPlaintext):] {
						stream = append(stream, raw.data(rest[:min(len(rest), handshake.MaxPlaintext)])...)
					}
					if tt.tail != nil {
						stream = append(stream, tt.tail(raw)...)
					}
					_, _ = peers.Write(stream)
					if tt.after != nil {
						tt.after(peers)
					}
					var got []byte
					var err error
					for buf := make([]byte, 90_000); err == nil; {
						b.ours.WaitRead()
						var n int
						n, err = b.ours.Read(buf)
						got = append(got, buf[:n]...)
					}
					if !bytes.Equal(got, data) || !tt.want(err) {
						t.Errorf("told %t: %d of %d bytes, then %v", told, len(got), len(data), err)
					}
					b.ours.WaitRead()
					if n, again := b.ours.Read(make([]byte, 1)); n != 0 || !tt.want(again) {
						t.Errorf("told %t, again: %d, %v", told, n, again)
					}
					_ = b.ours.Close()
					b.wantNothingLent(t)
				}
			}
		})
	}
}

// A connection that is closed while a large Write is stuck, or while data waits
// that nobody reads, gives its buffers back, and the Write an error.
func TestCloseWhileCorked(t *testing.T) {
	for _, how := range []string{"Close", "reset below"} {
		ours, peers, mine := memPair(10_000, 0, false)
		b := newBulk(t, ours, peers, tls.VersionTLS13, true)
		raw := newRawClient(t, b)
		go func() { _, _ = peers.Write(append(raw.data(make([]byte, 5000)), raw.data(make([]byte, 9000))...)) }()
		if n, err := b.ours.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		wrote := make(chan error, 1)
		go func() { _, err := b.ours.Write(make([]byte, 1<<20)); wrote <- err }()
		testenv.Eventually(t, "the Write has filled what the connection holds", func() bool { return mine.out.waiting() >= 10_000 })
		if b.lent() == 0 {
			t.Error("the Write is not gathered")
		}
		if how == "Close" {
			_ = b.ours.Close()
		} else {
			_ = mine.Close()
		}
		if err := testenv.Receive(t, "the Write that is stuck returns", wrote); err == nil {
			t.Error("no error")
		}
		_ = b.ours.Close()
		b.wantNothingLent(t)
		if _, err := b.ours.Write([]byte("more")); err == nil {
			t.Error("written after the end")
		}
	}
}

// close_notify and FIN come after all that was written before, also where they
// are asked for while a large Write is under way.
func TestCloseWriteBehindWrite(t *testing.T) {
	for range 20 {
		ours, peers, mine := memPair(100_000, 0, false)
		b := newBulk(t, ours, peers, tls.VersionTLS13, true)
		const size = 400_000
		wrote := make(chan error, 2)
		go func() { _, err := b.ours.Write(make([]byte, size)); wrote <- err }()
		testenv.Eventually(t, "half of what the connection holds is written", func() bool { return mine.out.waiting() >= 50_000 })
		go func() { wrote <- b.ours.CloseWrite() }()
		n, err := io.Copy(io.Discard, b.peer)
		if n != size || err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
		if err := errors.Join(<-wrote, <-wrote); err != nil {
			t.Fatal(err)
		}
		b.wantNothingLent(t)
	}
}
