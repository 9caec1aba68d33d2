package revocation

import (
	"net/http"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// Whatever body a responder sends, no more than the bound of it is read, within the
// time of a question, and it is no answer.
func TestBodiesOfResponders(t *testing.T) {
	w := newWorld(t)
	block := make([]byte, 32<<10)
	endless := func(pause time.Duration, size int) http.HandlerFunc {
		return func(rw http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := rw.Write(block[:size]); err != nil {
					return
				}
				if pause > 0 {
					_ = http.NewResponseController(rw).Flush()
					time.Sleep(pause)
				}
			}
		}
	}
	for name, handle := range map[string]http.HandlerFunc{
		"endless, in chunks": endless(0, len(block)),
		"a byte at a time":   endless(5*time.Millisecond, 1),
		"a byte too many":    func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(make([]byte, maxAnswer+1)) },
		"a length of 256 MiB": func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Length", "268435456")
			_, _ = rw.Write(block)
		},
		"shorter than its length": func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Length", "100")
			_, _ = rw.Write(block[:10])
		},
		"a redirect": func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, "/again", http.StatusTemporaryRedirect)
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOracle(t, w)
			o.set(func() { o.handle = handle })
			timeout := testenv.Patience()
			if name == "a byte at a time" {
				timeout = time.Second
			}
			k := checker(t, Options{}, asking(t, w, o, OCSP{Timeout: timeout}))
			began := time.Now()
			got := k.Check(t.Context(), peerOf(w.client, w.root), w.now)
			if got.Status != Unknown || got.Code == "" {
				t.Errorf("%+v", got)
			}
			if d := time.Since(began); d > testenv.Patience() {
				t.Errorf("it took %s", d)
			}
			if n := o.asked.Load(); n > 1 || n == 0 && name != "a byte at a time" {
				t.Errorf("asked %d times", n)
			}
		})
	}
}
