package dialer

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// A socket is known by its own mark, from its own side, in both families.
func TestOwns(t *testing.T) {
	testenv.Root(t)
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		ln, err := net.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		dial := func(m Mark) (local, remote netip.AddrPort) {
			t.Helper()
			c, err := m.Dialer().DialContext(t.Context(), "tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			return netip.MustParseAddrPort(c.LocalAddr().String()), netip.MustParseAddrPort(c.RemoteAddr().String())
		}
		const mark Mark = 0x50
		local, remote := dial(mark)
		otherLocal, otherRemote := dial(0x30)
		plainLocal, plainRemote := dial(0)
		for name, c := range map[string]struct {
			mark          Mark
			local, remote netip.AddrPort
			want          bool
		}{
			"own":                    {mark, local, remote, true},
			"IPv4-mapped":            {mark, netip.AddrPortFrom(netip.AddrFrom16(local.Addr().As16()), local.Port()), remote, true},
			"of another mark":        {mark, otherLocal, otherRemote, false},
			"the other mark":         {0x30, otherLocal, otherRemote, true},
			"without a mark":         {mark, plainLocal, plainRemote, false},
			"the accepted side":      {mark, remote, local, false},
			"no such socket":         {mark, netip.AddrPortFrom(local.Addr(), 1), remote, false},
			"no mark to be known by": {0, local, remote, false},
		} {
			if got, err := c.mark.Owns(c.local, c.remote); got != c.want || err != nil {
				t.Errorf("%s, %s: %v, %v", at, name, got, err)
			}
		}
	}
}

// A kernel that tells no mark of what is left of a closed socket says that nobody owns it; one
// that tells none of a living socket is an error, for then nothing is known.
func TestAnswerWithoutMark(t *testing.T) {
	message := func(timer byte) []byte {
		b := make([]byte, unix.NLMSG_HDRLEN+inetDiagMessage)
		binary.NativeEndian.PutUint16(b[4:], sockDiagByFamily)
		b[unix.NLMSG_HDRLEN+idiagTimer] = timer
		return b
	}
	if _, err := answer(message(timerTimeWait)); !errors.Is(err, unix.ENOENT) {
		t.Errorf("TIME_WAIT: %v", err)
	}
	if _, err := answer(message(0)); err == nil || errors.Is(err, unix.ENOENT) {
		t.Errorf("a living socket: %v", err)
	}
}

// Whatever is read as an answer: a mark or an error.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte{})
	f.Add(question(netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("127.0.0.1:2")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if mark, err := answer(b); err != nil && mark != 0 {
			t.Errorf("%d and %v", mark, err)
		}
	})
}
