package attack

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

func TestMain(m *testing.M) { testenv.NoLeaks(m) }

// The hello of an attacker is one that a gateway cannot tell from others.
func TestHelloIsWhole(t *testing.T) {
	hello := helloOf(&tls.Config{ServerName: "pay.example", InsecureSkipVerify: true})
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	go func() { _, _ = far.Write(hello) }()
	got, _, err := handshake.Peek(context.Background(), near, handshake.MaxHello)
	if err != nil || got.ServerName != "pay.example" {
		t.Errorf("%+v, %v", got, err)
	}
}

// Every kind does what it says to a server that has no limits.
func TestKinds(t *testing.T) {
	ca := testpki.Must(testpki.NewCA(testpki.Options{}))
	cfg := &tls.Config{Certificates: []tls.Certificate{testpki.Must(ca.Issue(testpki.Leaf{DNS: []string{"pay.example"}})).TLS()}}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = c.SetDeadline(testenv.Deadline())
				first := make([]byte, 4)
				n, _ := io.ReadFull(c, first)
				if n == 4 && string(first) == "ping" {
					_, _ = c.Write(first)
				} else if n == 4 && first[0] == 22 { // a TLS handshake record
					if tls.Server(replay{c, io.MultiReader(bytes.NewReader(first), c)}, cfg).Handshake() == nil {
						return
					}
				}
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}()
	t.Cleanup(func() { _ = ln.Close() })
	to := netip.MustParseAddrPort(ln.Addr().String())
	for _, kind := range append(Kinds(), Clients) {
		if kind == Fragments { // needs a raw socket: the end-to-end tests have one
			continue
		}
		t.Run(string(kind), func(t *testing.T) {
			// A busy machine makes less in the same time: only what ten times as
			// long does not bring either is missing.
			var d Done
			for _, long := range []time.Duration{300 * time.Millisecond, 3 * time.Second, 30 * time.Second} {
				if d = attackOnce(t, kind, to, long); enough(kind, &d) {
					break
				}
			}
			if !enough(kind, &d) || d.Refused != 0 || d.Error != "" {
				t.Errorf("%+v", d)
			}
		})
	}
	for _, bad := range []string{"", "{}", `{"Kind":"drips","Workers":1,"For":1}`, `{"Workers":100000,"From":["127.0.0.1"],"To":["127.0.0.1:1"],"For":1}`} {
		if err := Main(bad, strings.NewReader("go\n"), io.Discard); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// enough says whether two workers did what they are there for.
func enough(kind Kind, d *Done) bool {
	switch kind {
	case Connections, Drips, Windows, Uploads, Hellos, Plain, Shares, Suites, Extensions:
		return d.Made == 2 && d.Held == 2
	case Handshakes, Chains:
		return d.Made >= 4 && d.Ended >= 2
	case Clients:
		return d.Good >= 4 && d.Ended == 0
	}
	return true
}

// attackOnce runs the job of one kind for so long.
func attackOnce(t *testing.T, kind Kind, to netip.AddrPort, long time.Duration) (d Done) {
	t.Helper()
	job, err := json.Marshal(Job{
		Kind: kind, From: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, To: []netip.AddrPort{to}, Name: "pay.example",
		Plain: true, Say: []byte("ping"), Workers: 2, For: long,
	})
	if err != nil {
		t.Fatal(err)
	}
	in, inW := io.Pipe()
	defer inW.Close()
	go func() { _, _ = io.WriteString(inW, "go\n") }()
	var out bytes.Buffer
	if err := Main(string(job), in, &out); err != nil {
		t.Fatal(err)
	}
	ready, result, _ := strings.Cut(out.String(), "\n")
	if err := json.Unmarshal([]byte(result), &d); err != nil || ready != "ready" {
		t.Fatalf("%q: %v", out.String(), err)
	}
	return d
}

// replay reads what was read already, and then on.
type replay struct {
	net.Conn
	r io.Reader
}

func (r replay) Read(b []byte) (int, error) { return r.r.Read(b) }
