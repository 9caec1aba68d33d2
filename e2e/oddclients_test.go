package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// fastOpenRules serve 443 with TLS and let 8443 pass.
const fastOpenRules = payRule + `
    - {name: pass, to: ["*:8443"], action: bypass}
`

// fastDial connects from the client's namespace with TCP Fast Open: where the kernel
// has a cookie of the server, the first write goes with the SYN (tcp(7),
// TCP_FASTOPEN_CONNECT).
func (w *world) fastDial(addr string) (*net.TCPConn, error) {
	var c net.Conn
	err := w.lab.Do(lab.Client, func() (err error) {
		d := net.Dialer{Timeout: 20 * time.Second, Control: func(_, _ string, raw syscall.RawConn) error {
			var err error
			cerr := raw.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 1)
			})
			if cerr != nil {
				return cerr
			}
			return err
		}}
		c, err = d.Dial("tcp", addr)
		return err
	})
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(testenv.Deadline())
	return c.(*net.TCPConn), nil
}

// synDataTaken says whether the server has acknowledged what was in the SYN
// (tcp_info, TCPI_OPT_SYN_DATA).
func synDataTaken(t *testing.T, c *net.TCPConn) bool {
	t.Helper()
	const optSYNData = 32
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	taken := false
	if err := raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			t.Error(err)
			return
		}
		taken = info.Options&optSYNData != 0
	}); err != nil {
		t.Fatal(err)
	}
	return taken
}

// echoes writes a word, which may go with the SYN, and reads it back.
func echoes(c io.ReadWriter, word string) error {
	if _, err := io.WriteString(c, word); err != nil {
		return err
	}
	got := make([]byte, len(word))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if string(got) != word {
		return fmt.Errorf("got %q", got)
	}
	return nil
}

// A client that has a Fast Open cookie of the server sends data with its SYN when the
// gateway is there, too. The gateway takes the SYN alone, and the client sends the
// data again: a ClientHello or, of a bypassed flow, the first bytes.
func TestFastOpenClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	for ns, value := range map[lab.NS]string{lab.Server: "3", lab.Client: "1"} {
		for key, v := range map[string]string{"net.ipv4.tcp_fastopen": value, "net.ipv4.tcp_fastopen_blackhole_timeout_sec": "0"} {
			if err := w.lab.Sysctl(ns, key, v); err != nil {
				t.Fatal(err)
			}
		}
	}
	addr := func(six bool, port int) string {
		return net.JoinHostPort(lab.ServerAddr(0, six).String(), strconv.Itoa(port))
	}
	for _, six := range []bool{false, true} {
		for _, port := range []int{443, 8443} {
			ln, err := w.lab.Listen(lab.Server, "tcp", addr(six, port))
			if err != nil {
				t.Fatal(err)
			}
			raw, err := ln.(*net.TCPListener).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			if err := raw.Control(func(fd uintptr) {
				if err := unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_FASTOPEN, 16); err != nil {
					t.Error(err)
				}
			}); err != nil {
				t.Fatal(err)
			}
			w.serveOn(ln, serveEcho)
		}
		// Without the gateway: the first connection fetches the cookie, the next one uses it.
		for _, want := range []bool{false, true} {
			c, err := w.fastDial(addr(six, 443))
			if err != nil {
				t.Fatal(err)
			}
			if err := echoes(c, "before the gateway"); err != nil {
				t.Fatal(err)
			}
			if got := synDataTaken(t, c); got != want {
				t.Fatalf("data in the SYN: %t, want %t", got, want)
			}
			_ = c.Close()
		}
	}

	w.start(w.config(fastOpenRules, ""))
	synData, err := w.lab.Sniff(lab.Gateway, "sslgate0", func(p lab.Packet) bool {
		return p.Flags&(lab.SYN|lab.ACK) == lab.SYN && p.Len > 130 // no header is so long
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = synData.Close() })
	cert, err := tls.LoadX509KeyPair(filepath.Join(w.dir, "alice.pem"), filepath.Join(w.dir, "alice.key"))
	if err != nil {
		t.Fatal(err)
	}
	flows := 0
	for _, six := range []bool{false, true} {
		for _, port := range []int{443, 8443} {
			flows++
			raw, err := w.fastDial(addr(six, port))
			if err != nil {
				t.Fatal(err)
			}
			var c io.ReadWriter = raw
			word := fmt.Sprintf("%0200d", flows)
			if port == 443 {
				c = tls.Client(raw, &tls.Config{RootCAs: w.ca.Pool(), ServerName: "pay.example", Certificates: []tls.Certificate{cert}})
			}
			if err := echoes(c, word); err != nil {
				t.Errorf("port %d, IPv6 %t: %v", port, six, err)
			}
			if synDataTaken(t, raw) {
				t.Errorf("port %d, IPv6 %t: the gateway has acknowledged data of the SYN", port, six)
			}
			_ = raw.Close()
			if r := w.last(flows); r.str("verdict") != "allowed" {
				t.Errorf("port %d, IPv6 %t: %v", port, six, r)
			}
			ctx, cancel := context.WithTimeout(t.Context(), testenv.Patience())
			if err := synData.Wait(ctx, flows); err != nil {
				t.Errorf("port %d, IPv6 %t: no SYN with data came: %v", port, six, err)
			}
			cancel()
		}
	}
}

// The urgent byte of a Linux client stays in its place in a bypassed flow.
func TestUrgentDataOfClients(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	w.origin(net.JoinHostPort(lab.ServerAddr(0, false).String(), "8443"), serveEcho)
	w.start(w.config(fastOpenRules, ""))
	for n, parts := range [][]string{{"before", "!", "after"}, {"!", "after"}, {"before", "!"}, {"interrupt!", "and go on", "again!"}} {
		c, err := w.fastDial(net.JoinHostPort(lab.ServerAddr(0, false).String(), "8443"))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		want := ""
		for _, p := range parts {
			want += p
			flags := 0
			if p[len(p)-1] == '!' {
				flags = unix.MSG_OOB
			}
			var sent error
			if err := raw.Write(func(fd uintptr) bool {
				_, sent = unix.SendmsgN(int(fd), []byte(p), nil, nil, flags)
				return sent != unix.EAGAIN
			}); err != nil || sent != nil {
				t.Fatal(err, sent)
			}
		}
		_ = c.CloseWrite()
		if got, err := io.ReadAll(c); err != nil || string(got) != want {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
		_ = c.Close()
		if r := w.last(n + 1); r.str("end") != "closed" {
			t.Errorf("%v", r)
		}
	}
}
