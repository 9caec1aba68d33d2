package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"testing"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// A client behind a path that cuts its packets into fragments, its SYN too, is served like
// any other: the gateway's kernel forwards the fragments as fragments.
func TestFragmentedClientIsServed(t *testing.T) {
	t.Parallel()
	for _, six := range []bool{false, true} {
		t.Run(fmt.Sprintf("six=%v", six), func(t *testing.T) {
			w := newWorld(t, lab.Options{})
			w.origin(server(six), serveEcho)
			w.start(w.config(payRule, ""))
			cut := w.cutClient(six)
			wire, err := w.lab.Sniff(lab.Gateway, "sslgate0", func(p lab.Packet) bool { return p.Fragment })
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = wire.Close() })

			ctx, cancel := context.WithTimeout(context.Background(), testenv.Patience())
			defer cancel()
			raw, err := w.lab.Dial(ctx, lab.Client, "tcp", server(six))
			if err != nil {
				t.Fatalf("connect: %v", err)
			}
			defer func() { _ = raw.Close() }()
			_ = raw.SetDeadline(testenv.Deadline())
			cert, err := tls.LoadX509KeyPair(filepath.Join(w.dir, "alice.pem"), filepath.Join(w.dir, "alice.key"))
			if err != nil {
				t.Fatal(err)
			}
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM(w.ca.PEM())
			c := tls.Client(raw, &tls.Config{RootCAs: roots, ServerName: "pay.example", Certificates: []tls.Certificate{cert}})
			if err := c.Handshake(); err != nil {
				t.Fatalf("handshake: %v", err)
			}
			sent := make([]byte, 100_000)
			for i := range sent {
				sent[i] = byte(i >> 3)
			}
			written := make(chan error, 1)
			go func() {
				_, err := c.Write(sent)
				written <- errors.Join(err, c.CloseWrite())
			}()
			got, err := io.ReadAll(c)
			if err := errors.Join(err, <-written); err != nil || string(got) != string(sent) {
				t.Errorf("echo of %d bytes: got %d, %v", len(sent), len(got), err)
			}
			if r := w.last(1); r.str("reason") != "verified" {
				t.Errorf("record %v", r)
			}
			// Check the test itself: fragments left the client and came to the gateway as
			// fragments.
			testenv.Eventually(t, "50 packets of the client were cut, and 100 fragments seen at the TUN", func() bool {
				return cut.Count() >= 50 && wire.Count() >= 100
			}, func() any { return fmt.Sprint(cut.Count(), wire.Count()) })
		})
	}
}

// cutClient has every packet of the client to the server leave as fragments, until the test ends.
func (w *world) cutClient(six bool) *lab.Cutter {
	w.t.Helper()
	cut, err := w.lab.Cut(lab.ServerAddr(0, six))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := cut.Close(); err != nil {
			w.t.Error(err)
		}
	})
	return cut
}
