package demo

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"syscall"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/escape"
	"github.com/sslgate/sslgate/internal/lab"
)

// Seen says what a client can see of its connection.
type Seen string

// What clients see.
const (
	SeenAnswer  Seen = "answer"  // the destination's answer, complete
	SeenAlert   Seen = "alert"   // a TLS alert
	SeenRefused Seen = "refused" // RST instead of a connection
	SeenReset   Seen = "reset"   // RST on a connection
	SeenClosed  Seen = "closed"  // FIN without an answer
	SeenNothing Seen = "nothing" // no answer within the client's patience
	SeenOther   Seen = "other"   // something else: the text says what
)

// View is what one client saw.
type View struct {
	Seen  Seen
	Alert handshake.Alert // AlertNone unless Seen is SeenAlert
	// Text says it in words, escaped.
	Text string
	// Server is the subject of the certificate that the client was shown, "" for none.
	Server string
}

// patience is how long a client of the demo waits for anything. No scenario needs it to run
// out; it is long because the machine may be busy.
const patience = time.Minute

// attempt is one connection of a client.
type attempt struct {
	port uint16 // the local port, by which the record is found
	to   netip.AddrPort
	raw  []byte                  // sent instead of TLS; silent if empty and tls is nil
	tls  *tls.Config             // the client's TLS
	wrap func(net.Conn) net.Conn // below TLS, may be nil
}

// run connects, makes the handshake, sends a request and reads the answer, as an application
// would: it does not wait after the handshake to learn whether it was refused (in TLS 1.3 the
// client cannot know).
func (a attempt) run(ctx context.Context, l *lab.Lab) View {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := l.DialFrom(ctx, lab.Client, a.port, "tcp", a.to.String())
	if err != nil {
		v := classify(err)
		if v.Seen == SeenReset {
			v.Seen = SeenRefused
		}
		return v
	}
	defer func() { _ = c.Close() }()
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	if a.tls == nil {
		return exchange(c, a.raw)
	}
	under := c
	if a.wrap != nil {
		under = a.wrap(c)
	}
	t := tls.Client(under, a.tls)
	err = t.HandshakeContext(ctx)
	server := ""
	if certs := t.ConnectionState().PeerCertificates; len(certs) > 0 {
		server = certname.Subject(certs[0])
	}
	var v View
	if err != nil {
		v = classify(err)
	} else {
		v = exchange(t, []byte("GET /demo HTTP/1.1\r\nHost: demo.test\r\n\r\n"))
		_ = t.Close() // with close_notify, as an application does that is done
	}
	v.Server = server
	return v
}

// exchange sends a request and reads the answer. A refusal may have ended the connection
// before the request was written; what counts is what can still be read. Linux reports a RST
// once, to the first call that asks, and the end of the stream from then on: if the write got
// that report, the read cannot see the RST.
func exchange(c net.Conn, request []byte) View {
	_, err := c.Write(request)
	v := readAnswer(c)
	if err != nil && v.Seen == SeenClosed {
		return classify(err)
	}
	return v
}

// maxAnswer bounds what a client reads, in bytes.
const maxAnswer = 64 << 10

func readAnswer(c net.Conn) View {
	b, err := io.ReadAll(io.LimitReader(c, maxAnswer))
	switch {
	case err == nil && len(b) == 0:
		return View{Seen: SeenClosed, Alert: handshake.AlertNone, Text: "the connection was closed without an answer"}
	case err != nil:
		v := classify(err)
		if len(b) > 0 {
			v.Text = fmt.Sprintf("%d bytes, then: %s", len(b), v.Text)
		}
		return v
	}
	// A refusal in plaintext, to a client that does not speak TLS: a record of
	// type alert with level and description (RFC 8446, sections 5.1 and 6).
	if len(b) == 7 && b[0] == 21 && b[1] == 3 {
		a := handshake.Alert(b[6])
		return View{Seen: SeenAlert, Alert: a, Text: "7 bytes: alert " + a.String()}
	}
	_, body, _ := strings.Cut(string(b), "\r\n\r\n")
	if !strings.HasPrefix(body, "origin ") {
		return View{Seen: SeenOther, Alert: handshake.AlertNone, Text: "an odd answer: " + escape.String(string(b), 80)}
	}
	return View{Seen: SeenAnswer, Alert: handshake.AlertNone, Text: escape.String(strings.TrimSpace(body), 0)}
}

func classify(err error) View {
	v := View{Seen: SeenOther, Alert: handshake.AlertNone, Text: escape.String(err.Error(), 0)}
	if a, ok := remoteAlert(err); ok {
		return View{Seen: SeenAlert, Alert: a, Text: "alert " + a.String()}
	}
	var ne net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		v.Seen, v.Text = SeenRefused, "connection refused (RST)"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		v.Seen, v.Text = SeenReset, "connection reset (RST)"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		v.Seen, v.Text = SeenClosed, "the connection was closed without an answer"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.As(err, &ne) && ne.Timeout(),
		errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		v.Seen, v.Text = SeenNothing, "no answer: "+v.Text
	}
	return v
}

// remoteAlert returns the alert that the other side sent. crypto/tls reports it as a
// net.OpError "remote error" around an unexported type that is a uint8.
func remoteAlert(err error) (handshake.Alert, bool) {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" || op.Err == nil {
		return handshake.AlertNone, false
	}
	v := reflect.ValueOf(op.Err)
	if v.Kind() != reflect.Uint8 {
		return handshake.AlertNone, false
	}
	return handshake.Alert(v.Uint()), true
}

// byteByByte sends the first record in single bytes, each in a segment of its
// own (TCP_NODELAY is Go's default).
type byteByByte struct {
	net.Conn
	done bool
}

func (b *byteByByte) Write(p []byte) (int, error) {
	if b.done {
		return b.Conn.Write(p)
	}
	b.done = true
	for i := range p {
		if _, err := b.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}
