package admin

import (
	"context"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// drained is a gateway without flows: it is over as soon as a drain is asked for.
type drained struct {
	Backend
	over context.CancelFunc
}

func (d *drained) Drain() time.Time {
	d.over()
	time.Sleep(50 * time.Millisecond) // the server is told meanwhile
	return time.Now()
}

// Who asks for a drain is answered, however soon it is over; one who only
// holds a connection does not hold up the end.
func TestLastAnswer(t *testing.T) {
	ctx, over := context.WithCancel(t.Context())
	defer over()
	s := New(Options{Backend: &drained{over: over}, Hub: NewHub(), Metrics: http.NotFoundHandler(), Log: zaptest.NewLogger(t)})
	path := filepath.Join(t.TempDir(), "socket")
	if err := s.ListenSocket(path); err != nil {
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	silent, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	d, err := NewClient(path).Drain(t.Context())
	if err != nil || !d.Draining {
		t.Errorf("answer %+v, %v", d, err)
	}
	select {
	case err := <-ran:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(testenv.Patience()):
		t.Fatal("Run does not return")
	}
	if _, err := net.Dial("unix", path); err == nil {
		t.Error("the socket is still there")
	}
}
