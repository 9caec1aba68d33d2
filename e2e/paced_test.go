package e2e

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/line"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// With tun.sender paced everything arrives over a line with a delay that loses packets or
// changes their order, at clients with and without SACK and timestamps.
func TestPacedSender(t *testing.T) {
	t.Parallel()
	testenv.Slow(t)
	for _, path := range []line.Path{
		{Delay: 5 * time.Millisecond},
		{Delay: 5 * time.Millisecond, Loss: 0.01, Seed: 1},
		{Delay: 5 * time.Millisecond, Late: 0.02, LateBy: 4 * time.Millisecond, Seed: 2},
		{Loss: 0.01, Seed: 3},
		{Delay: time.Millisecond, Rate: 100e6, Queue: 64 << 10},
	} {
		t.Run(fmt.Sprintf("delay=%v,loss=%v,late=%v,rate=%v", path.Delay, path.Loss, path.Late, path.Rate), func(t *testing.T) {
			w := newWorld(t, lab.Options{Line: &path})
			w.origin(server(false), serveEcho)
			w.origin(server(true), serveEcho)
			w.config(payRule, "")
			w.patient()
			g := w.start(w.rewrite("tun: {name: sslgate0}", "tun: {name: sslgate0, sender: paced}"))
			for i, sysctl := range []string{"tcp_sack=1", "tcp_sack=0", "tcp_timestamps=0"} {
				if out, err := w.lab.Command(lab.Client, "sysctl", "-w", "net.ipv4."+sysctl).CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				conn, err := w.dialTLS(i%2 == 1, nil)
				if err != nil {
					t.Fatal(err)
				}
				_ = conn.SetDeadline(time.Now().Add(2 * testenv.Patience())) // 2 MiB each way, and what is lost again
				echo(t, conn, 2<<20)
				_ = conn.Close()
			}
			g.stop(syscall.SIGTERM)
		})
	}
}
