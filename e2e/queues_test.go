package e2e

import (
	"crypto/tls"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// With two queues of the TUN both are used, and what goes in comes out; also of
// a client all of whose packets come in fragments.
func TestTwoQueues(t *testing.T) {
	for _, tun := range []string{"queues: 2", `queues: 2, offload: "off"`} {
		t.Run(tun, func(t *testing.T) {
			const flows, each = 24, 1 << 20
			w := newWorld(t, lab.Options{})
			w.origin(server(false), serveEcho)
			w.origin(server(true), serveEcho)
			const token = "0123456789abcdef0123456789abcdef"
			w.pem("token", []byte(token+"\n"))
			w.config(payRule, `admin: {socket: admin.sock, http: "127.0.0.1:9440", token_file: token}`)
			w.patient()
			g := w.start(w.rewrite("tun: {name: sslgate0}", "tun: {name: sslgate0, "+tun+"}"))
			if said := g.stderr.String(); !strings.Contains(said, `"queues": 2`) || strings.Contains(said, "one queue") {
				t.Errorf("the log says:\n%s", said)
			}
			if out, err := w.sslgate("status", "--socket", w.socket()); err != nil || !strings.Contains(out, ", 2 queues\n") {
				t.Errorf("status: %v\n%s", err, out)
			}

			var wg sync.WaitGroup
			for i := range flows {
				conn, err := w.dialTLS(i%2 == 1, nil)
				if err != nil {
					t.Fatal(err)
				}
				wg.Go(func() {
					defer func() { _ = conn.Close() }()
					if err := tryEcho(conn, each); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			for _, r := range w.records(flows) {
				if r.str("end") != "closed" || r["bytes_up"] != float64(each) || r["bytes_down"] != float64(each) {
					t.Errorf("record: %v %v %v %v", r.str("reason"), r.str("end"), r["bytes_up"], r["bytes_down"])
				}
			}
			metrics := w.get9440("", "/metrics")
			all, first, second := counted(metrics, `stack_packets_total{direction="in"}`), counted(metrics, `stack_queue_packets_total{queue="0"}`), counted(metrics, `stack_queue_packets_total{queue="1"}`)
			if min(first, second) < all/8 || first+second < all/2 {
				t.Errorf("of %.0f packets %.0f came by one queue and %.0f by the other", all, first, second)
			}
			if bad := counted(metrics, `stack_bad_packets_total{kind="checksum"}`); bad != 0 {
				t.Errorf("%.0f bad checksums", bad)
			}

			w.cutClient(false)
			conn, err := w.dialTLS(false, nil)
			if err != nil {
				t.Fatal(err)
			}
			echo(t, conn, 100_000)
			_ = conn.Close()
			if now := w.get9440("", "/metrics"); counted(now, `stack_fragments_total{event="reassembled"}`) < 50 {
				t.Errorf("no fragments:\n%s", now)
			}
			g.stop(syscall.SIGTERM)
		})
	}
}

// counted is the value of a metric, without "sslgate_" in front.
func counted(metrics, name string) (v float64) {
	for line := range strings.Lines(metrics) {
		if rest, ok := strings.CutPrefix(line, "sslgate_"+name+" "); ok {
			_, _ = fmt.Sscan(rest, &v)
		}
	}
	return v
}

// A device that was made for one queue is served with one, and the log says why
// and what to type.
func TestTooManyQueuesAreSaid(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "ip")
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveEcho)
	w.config(payRule, "admin: {socket: admin.sock}")
	config := w.attached(", queues: 4")
	g := w.start(config)
	for _, want := range []string{"TUN with one queue only", `"wanted": 4`, "ip tuntap add dev tap9 mode tun multi_queue", `"queues": 1`} {
		if said := g.stderr.String(); !strings.Contains(said, want) {
			t.Errorf("no %q in the log:\n%s", want, said)
		}
	}
	conn, err := w.dialTLS(false, &tls.Config{MinVersion: tls.VersionTLS13})
	if err != nil {
		t.Fatal(err)
	}
	echo(t, conn, 1<<20)
	_ = conn.Close()

	// A reload does not change the number of queues, and says so.
	w.rewrite("queues: 4", "queues: 2")
	if out, err := w.sslgate("reload", "--socket", w.socket()); err == nil || !strings.Contains(out, "tun") || !strings.Contains(out, "restart") {
		t.Errorf("reload: %v\n%s", err, out)
	}
}
