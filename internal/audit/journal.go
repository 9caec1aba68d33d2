package audit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// JournalSocket is where systemd-journald listens (JOURNAL_NATIVE_PROTOCOL,
	// https://systemd.io/JOURNAL_NATIVE_PROTOCOL/).
	JournalSocket = "/run/systemd/journal/socket"
	// SyslogSocket is where syslog(3) writes to.
	SyslogSocket = "/dev/log"

	// datagramWait is how long a datagram waits for a receiver that is full.
	datagramWait = time.Second
)

// datagram is a connected unix datagram socket. It reconnects after an error, because the
// receiver may have restarted.
type datagram struct {
	path string
	conn *net.UnixConn
}

func (d *datagram) open() error {
	if d.conn != nil {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: d.path, Net: "unixgram"})
	if err != nil {
		return err
	}
	d.conn = conn
	return nil
}

func (d *datagram) send(b []byte) error {
	if err := d.open(); err != nil {
		return err
	}
	err := d.conn.SetWriteDeadline(time.Now().Add(datagramWait))
	if err == nil {
		_, err = d.conn.Write(b)
	}
	if err != nil && !errors.Is(err, unix.EMSGSIZE) {
		_ = d.close() // the error that counts is err
	}
	return err
}

func (d *datagram) close() error {
	if d.conn == nil {
		return nil
	}
	err := d.conn.Close()
	d.conn = nil
	return err
}

// Journal is a Sink that writes to systemd-journald. MESSAGE is the line; the fields
// SSLGATE_RECORD=1 and SYSLOG_IDENTIFIER=sslgate serve to find it.
type Journal struct{ d datagram }

var _ Sink = (*Journal)(nil)

// OpenJournal connects to journald's native socket; "" means JournalSocket.
func OpenJournal(socket string) (*Journal, error) {
	if socket == "" {
		socket = JournalSocket
	}
	j := &Journal{datagram{path: socket}}
	if err := j.d.open(); err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	return j, nil
}

// Write sends one entry. An entry that is too large for a datagram goes in a sealed memory
// file, as the protocol specifies.
func (j *Journal) Write(line []byte) error {
	entry := journalEntry(bytes.TrimSuffix(line, []byte("\n")))
	err := j.d.send(entry)
	if errors.Is(err, unix.EMSGSIZE) || errors.Is(err, unix.ENOBUFS) {
		err = j.sendFile(entry)
	}
	if err != nil {
		return fmt.Errorf("write to the journal: %w", err)
	}
	return nil
}

// journalEntry encodes one entry in the native protocol. MESSAGE has the form with a length,
// which allows any bytes.
func journalEntry(message []byte) []byte {
	b := []byte("PRIORITY=6\nSYSLOG_IDENTIFIER=sslgate\nSSLGATE_RECORD=1\nMESSAGE\n")
	b = binary.LittleEndian.AppendUint64(b, uint64(len(message)))
	b = append(b, message...)
	return append(b, '\n')
}

func (j *Journal) sendFile(entry []byte) error {
	fd, err := unix.MemfdCreate("sslgate-audit", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "sslgate-audit")
	defer func() { _ = f.Close() }()
	if _, err := f.Write(entry); err != nil {
		return err
	}
	const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return err
	}
	if err := j.d.open(); err != nil {
		return err
	}
	if err := j.d.conn.SetWriteDeadline(time.Now().Add(datagramWait)); err != nil {
		return err
	}
	// Not WriteMsgUnix: package net refuses it on a connected datagram socket.
	raw, err := j.d.conn.SyscallConn()
	if err != nil {
		return err
	}
	rights := unix.UnixRights(int(f.Fd()))
	var sent error
	err = raw.Write(func(fd uintptr) bool {
		sent = unix.Sendmsg(int(fd), nil, rights, nil, 0)
		return !errors.Is(sent, unix.EAGAIN)
	})
	if err == nil {
		err = sent
	}
	return err
}

// Reopen closes the socket; the next write connects again.
func (j *Journal) Reopen() error { return j.d.close() }

// Close closes the socket.
func (j *Journal) Close() error { return j.d.close() }

// String names the sink in messages.
func (j *Journal) String() string { return "journal " + j.d.path }

// Syslog is a Sink that writes RFC 5424 messages to a unix datagram socket:
// facility 13 (log audit), severity 6 (informational), MSGID "flow".
type Syslog struct {
	d      datagram
	host   string
	now    func() time.Time
	procID string
}

var _ Sink = (*Syslog)(nil)

// OpenSyslog connects to the socket; "" means SyslogSocket.
func OpenSyslog(socket string) (*Syslog, error) {
	if socket == "" {
		socket = SyslogSocket
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "-" // NILVALUE, RFC 5424 section 6.2.4
	}
	s := &Syslog{d: datagram{path: socket}, host: host, now: time.Now, procID: strconv.Itoa(os.Getpid())}
	if err := s.d.open(); err != nil {
		return nil, fmt.Errorf("open syslog: %w", err)
	}
	return s, nil
}

// Write sends one message (RFC 5424, section 6). The receiver decides how long a message may
// be (section 6.1): rsyslog takes 8 KiB by default.
func (s *Syslog) Write(line []byte) error {
	const priority = 13<<3 | 6
	msg := fmt.Appendf(nil, "<%d>1 %s %s sslgate %s flow - %s", priority,
		s.now().UTC().Format("2006-01-02T15:04:05.000000Z07:00"), s.host, s.procID, bytes.TrimSuffix(line, []byte("\n")))
	if err := s.d.send(msg); err != nil {
		return fmt.Errorf("write to syslog: %w", err)
	}
	return nil
}

// Reopen closes the socket; the next write connects again.
func (s *Syslog) Reopen() error { return s.d.close() }

// Close closes the socket.
func (s *Syslog) Close() error { return s.d.close() }

// String names the sink in messages.
func (s *Syslog) String() string { return "syslog " + s.d.path }
