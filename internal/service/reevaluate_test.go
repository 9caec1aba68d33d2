package service

import (
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// With `reload: {live: reevaluate}` a live flow is judged anew by everything
// that the new configuration demands: whoever would not be let in now, ends.
func TestReevaluateJudgesAnew(t *testing.T) {
	live := strings.Replace(houseConfig, "policy:", "reload: {live: reevaluate}\nprofiles:\n  old: {versions: [\"1.2\"]}\npolicy:", 1)
	with := func(old, now string) func(*house) {
		return func(h *house) { h.put("sslgate.yaml", 0o644, []byte(strings.Replace(live, old, now, 1))) }
	}
	replaced := func(besides bool) func(*house) {
		return func(h *house) {
			// The same name, the same subject, another key: as after a compromise.
			other := testpki.Must(testpki.NewCA(testpki.Options{CN: "Staff CA"}))
			roots, lists := other.PEM(), testpki.CRLPEM(testpki.Must(other.CRL(1, time.Now().Add(time.Hour))))
			if besides {
				roots = append(roots, h.ca.PEM()...)
				lists = append(lists, testpki.CRLPEM(testpki.Must(h.ca.CRL(1, time.Now().Add(time.Hour))))...)
			}
			h.put("ca.pem", 0o644, roots)
			h.put("staff.crl", 0o644, lists)
			h.put("sslgate.yaml", 0o644, []byte(live))
		}
	}
	for name, tt := range map[string]struct {
		change func(*house)
		ended  int
	}{
		"nothing":                {with("", ""), 0},
		"more clients":           {with(`"203.0.113.0/24:443"`, `"203.0.113.0/24:443", "198.51.100.0/24:443"`), 0},
		"a CA in company":        {replaced(true), 0},
		"a CA replaced":          {replaced(false), 1},
		"a profile of TLS 1.2":   {with("identity: pay\n", "identity: pay\n      profile: old\n"), 1},
		"hard, with a list":      {with("crl: [staff.crl]}", "crl: [staff.crl], revocation: hard}"), 0},
		"TLS to the destination": {with("{tls: plain}", "{tls: verify, authorities: [staff]}"), 1},
		"a PROXY header":         {with("{tls: plain}", "{tls: plain, proxy_protocol: v2}"), 1},
		"other names":            {with("authorities: [staff]}", "authorities: [staff], allow: [{san_dns: [bob.example]}]}"), 1},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			h.asWritten("")
			conn := h.good()
			defer conn.Close()
			if tt.change != nil {
				tt.change(h)
			}
			res, ok, err := h.api.Reload(t.Context())
			if err != nil || !ok || res.Ended != tt.ended {
				t.Fatalf("%v, %+v; want %d ended", err, res, tt.ended)
			}
			_, err = conn.Write([]byte("x"))
			if err == nil {
				_, err = io.ReadFull(conn, make([]byte, 1))
			}
			if tt.ended == 0 && err != nil || tt.ended == 1 && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
				t.Errorf("the flow: %v", err)
			}
			if tt.ended == 1 && h.seen.FilterMessage("live flow ended by a reload").Len() != 1 {
				t.Error("nothing in the log says why")
			}
		})
	}
}
