package audit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"

	"golang.org/x/sys/unix"
)

func receiver(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetReadDeadline(testenv.Deadline()); err != nil {
		t.Fatal(err)
	}
	return c
}

// receive is one datagram, or the file that came with it, which must be sealed.
func receive(t *testing.T, c *net.UnixConn) []byte {
	t.Helper()
	buf, oob := make([]byte, 1<<18), make([]byte, 64)
	n, on, _, _, err := c.ReadMsgUnix(buf, oob)
	if err != nil {
		t.Fatal(err)
	}
	if on == 0 {
		return buf[:n]
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:on])
	if err != nil {
		t.Fatal(err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fds[0]), "memfd")
	defer func() { _ = f.Close() }()
	if seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0); err != nil || seals&unix.F_SEAL_WRITE == 0 {
		t.Errorf("seals %x, %v: journald takes only sealed files", seals, err)
	}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<24))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// message reads an entry as journald does.
func message(t *testing.T, entry []byte) string {
	t.Helper()
	head, rest, ok := bytes.Cut(entry, []byte("MESSAGE\n"))
	if !ok || string(head) != "PRIORITY=6\nSYSLOG_IDENTIFIER=sslgate\nSSLGATE_RECORD=1\n" || len(rest) < 9 {
		t.Fatalf("entry %q", entry[:min(len(entry), 200)])
	}
	n := binary.LittleEndian.Uint64(rest)
	if uint64(len(rest)) != 8+n+1 || rest[8+n] != '\n' {
		t.Fatalf("length %d of %d", n, len(rest))
	}
	return string(rest[8 : 8+n])
}

func TestJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	c := receiver(t, path)
	j, err := OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = j.Close() }()
	for _, size := range []int{1, 3000, 1 << 20} {
		line := strings.Repeat("z", size)
		put(t, j, line)
		if got := message(t, receive(t, c)); got != line {
			t.Errorf("%d bytes arrived as %d", size, len(got))
		}
	}
}

// journald restarts: what is written meanwhile fails and can be written after.
func TestJournalRestarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	c := receiver(t, path)
	j, err := OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = j.Close() }()
	_ = c.Close()
	_ = os.Remove(path)
	if err := j.Write([]byte("one\n")); err == nil || !strings.Contains(err.Error(), "write to the journal") {
		t.Errorf("err = %v", err)
	}
	c = receiver(t, path)
	put(t, j, "one")
	if got := message(t, receive(t, c)); got != "one" {
		t.Errorf("%q", got)
	}
}

// A journald that hangs costs a second a try, not for ever.
func TestJournalHangs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	receiver(t, path) // never read
	j, err := OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = j.Close() }()
	for range 10_000 {
		if err = j.Write([]byte("x\n")); err != nil {
			break
		}
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("err = %v", err)
	}
}

func TestNobodyListens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none")
	if _, err := OpenJournal(path); err == nil || !strings.Contains(err.Error(), "open the journal") {
		t.Errorf("journal: %v", err)
	}
	if _, err := OpenSyslog(path); err == nil || !strings.Contains(err.Error(), "open syslog") {
		t.Errorf("syslog: %v", err)
	}
}

func TestSyslog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	c := receiver(t, path)
	s, err := OpenSyslog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	s.now = func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC) }
	put(t, s, `{"msg":"flow"}`)
	got := string(receive(t, c))
	want := regexp.MustCompile(`^<110>1 2026-01-02T03:04:05\.000006Z [!-~]{1,255} sslgate [0-9]+ flow - \{"msg":"flow"\}$`)
	if !want.MatchString(got) {
		t.Errorf("%q", got)
	}
}

// A record that is too long for a datagram is lost alone: it does not stop
// those behind it.
func TestSyslogTooLong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	c := receiver(t, path)
	s, err := OpenSyslog(path)
	if err != nil {
		t.Fatal(err)
	}
	log, logs := observed()
	l := Start(Config{Sink: s, Name: s.String(), Log: log})
	l.queue.ch <- bytes.Repeat([]byte("y"), 1<<20)
	if err := l.Write(rec("next", true)); err != nil {
		t.Fatal(err)
	}
	if got := string(receive(t, c)); !strings.Contains(got, `"id":"next"`) {
		t.Errorf("%q", got)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if s := l.Stats(); s.Lost != 1 || s.Written != 1 || logs.FilterMessage("audit records lost").Len() != 1 {
		t.Errorf("%+v, %v", s, logs.All())
	}
}
