package admin

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// A process that hands over leaves the network and keeps its socket; if it takes everything back
// it listens where it did, and it ends in order wherever it is.
func TestNetworkLeftAndEntered(t *testing.T) {
	for _, end := range []bool{false, true} { // outside, inside
		s := New(Options{Hub: NewHub(), Log: zap.NewNop(), Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "counters") })})
		socket := filepath.Join(t.TempDir(), "s")
		if err := s.ListenSocket(socket); err != nil {
			t.Fatal(err)
		}
		at, err := s.ListenMetrics("127.0.0.1:0", func(_ context.Context, c net.Conn) (net.Conn, error) { return c, nil })
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		get := func() bool {
			c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: testenv.Patience()}
			resp, err := c.Get("http://" + at.String() + "/metrics")
			if err != nil {
				return false
			}
			defer resp.Body.Close()
			text, _ := io.ReadAll(resp.Body)
			return string(text) == "counters"
		}
		testenv.Eventually(t, "it answers", get)
		for range 3 {
			s.LeaveNetwork()
			if get() {
				t.Error("it answers though it has left the network")
			}
			if c, err := net.DialTimeout("unix", socket, time.Minute); err != nil {
				t.Errorf("its socket is gone: %v", err)
			} else {
				_ = c.Close()
			}
			if err := s.EnterNetwork(); err != nil {
				t.Fatal(err)
			}
			testenv.Eventually(t, "it answers again", get)
		}
		if !end {
			s.LeaveNetwork()
		}
		stop()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(testenv.Patience()):
			t.Fatal("it does not end")
		}
		if get() {
			t.Error("it answers after its end")
		}
		if err := s.EnterNetwork(); err != nil || get() {
			t.Errorf("it enters the network after its end: %v", err)
		}
	}
}
