package handshake_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/reason"
)

func TestPeekSegments(t *testing.T) {
	in := handshaketest.RecordedHello(t, clientConfigs()["TLS 1.3 with ML-KEM"])
	msg := in[handshake.RecordHeader:]
	ones := bytes.Repeat([]byte{1}, 1<<16)
	for name, conn := range map[string]*handshaketest.ScriptedConn{
		"at once":                      {In: in},
		"byte by byte":                 {In: in, Cuts: ones},
		"two records":                  {In: handshaketest.InRecords(msg, len(msg)/2+1)},
		"two records byte by byte":     {In: handshaketest.InRecords(msg, len(msg)/2+1), Cuts: ones},
		"three bytes a record":         {In: handshaketest.InRecords(msg, 3)},
		"a byte a record":              {In: handshaketest.InRecords(msg, 1)},
		"a byte a record, and segment": {In: handshaketest.InRecords(msg, 1), Cuts: ones},
		"with early data behind":       {In: append(slices.Clone(in), handshake.RecordAppData, 3, 3, 0, 1, 0)},
		"empty reads between the rest": {In: in, Cuts: []byte{0, 0, 1, 0, 0, 0, 200, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			all := slices.Clone(conn.In)
			h, back, err := handshake.Peek(t.Context(), conn, 0)
			if err != nil {
				t.Fatal(err)
			}
			records := 0
			for rest, left := all, len(msg); left > 0; records++ {
				left -= handshake.RecordLen(rest)
				rest = rest[handshake.RecordHeader+handshake.RecordLen(rest):]
			}
			if h.Records != records {
				t.Errorf("in %d records, it says %d", records, h.Records)
			}
			if !bytes.Equal(h.Raw, msg) || h.RecordVersion != 0x0301 || h.ServerName != "shop.example" {
				t.Errorf("version %#04x, name %q", h.RecordVersion, h.ServerName)
			}
			got, err := io.ReadAll(back)
			if err != nil || !bytes.Equal(got, all) {
				t.Errorf("gives back %d of %d bytes: %v", len(got), len(all), err)
			}
		})
	}
}

// A server on the conn that Peek gives back finishes the handshake.
func TestPeekThenHandshake(t *testing.T) {
	client, server := testenv.TCPPair(t)
	result := make(chan error, 1)
	go func() {
		//nolint:gosec // the certificate is not the question
		c := tls.Client(client, &tls.Config{ServerName: "shop.example", InsecureSkipVerify: true})
		err := c.Handshake()
		if err == nil {
			_, err = c.Write([]byte("ping"))
		}
		result <- errors.Join(err, c.CloseWrite())
	}()
	h, back, err := handshake.Peek(t.Context(), server, 0)
	if err != nil {
		t.Fatal(err)
	}
	if h.ServerName != "shop.example" {
		t.Errorf("name %q", h.ServerName)
	}
	//nolint:gosec // defaults
	s := tls.Server(back, &tls.Config{Certificates: []tls.Certificate{handshaketest.Fixtures().Gateway.TLS()}})
	got, err := io.ReadAll(s)
	if err != nil || string(got) != "ping" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := <-result; err != nil {
		t.Error(err)
	}
}

// notTLSCase is what other protocols begin with and what is said of it.
type notTLSCase struct {
	in     string
	code   reason.Code
	detail string
}

func notTLSCases() []notTLSCase {
	return []notTLSCase{
		{"GET /x HTTP/1.1\r\nHost: a\r\n\r\n", reason.PlainHTTP, `"GET /x HTTP/1.1"`},
		{"POST /\x1b[31m\xff HTTP/1.1\n", reason.PlainHTTP, `"POST /\x1b[31m\xff HTTP/1.1"`},
		{"GET /" + strings.Repeat("a", 100), reason.PlainHTTP, `"GET /` + strings.Repeat("a", 59) + `"...`},
		{"HEAD /", reason.PlainHTTP, `"HEAD /"`},
		{"PUT /", reason.PlainHTTP, `"PUT /"`},
		{"CONNECT a:443 HTTP/1.1\r\n", reason.PlainHTTP, `"CONNECT a:443 HTTP/1.1"`},
		{"OPTIONS *", reason.PlainHTTP, `"OPTIONS *"`},
		{"DELETE /", reason.PlainHTTP, `"DELETE /"`},
		{"PATCH /", reason.PlainHTTP, `"PATCH /"`},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", reason.PlainHTTP, `"PRI * HTTP/2.0"`},
		{"PRIVMSG", reason.NotTLS, `"PRIVMSG"`},
		{"GET", reason.NotTLS, `"GET"`},
		{"get / HTTP/1.0\r\n", reason.NotTLS, `"get / HTTP/1.0\r\n"`},
		{"SSH-2.0-OpenSSH_9.9\r\n", reason.NotTLS, `SSH: "SSH-2.0-OpenSSH_"...`},
		{"EHLO mail\r\n", reason.NotTLS, `SMTP: "EHLO mail\r\n"`},
		{"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", reason.NotTLS, `the PROXY protocol, version 1: "PROXY TCP4 1.2.3"...`},
		{"\r\n\r\n\x00\r\nQUIT\n\x21", reason.NotTLS, `the PROXY protocol, version 2: "\r\n\r\n\x00\r\nQUIT\n!"`},
		{"\x80\x2e\x01\x00\x02\x00\x03", reason.NotTLS, `an SSLv2 ClientHello: "\x80.\x01\x00\x02\x00\x03"`},
		{"\x80\x2e\x01\x03\x01\x00\x03", reason.NotTLS, `an SSLv2 ClientHello: "\x80.\x01\x03\x01\x00\x03"`},
		{"\x80\x2e\x02\x00\x02", reason.NotTLS, `"\x80.\x02\x00\x02"`},
		{"\x80", reason.NotTLS, `"\x80"`},
		{"\x16\x47\x03\x00", reason.NotTLS, `"\x16G\x03\x00"`},
		{"\x16G", reason.NotTLS, `"\x16G"`},
		{"\x15\x02\x03\x00", reason.NotTLS, `"\x15\x02\x03\x00"`},
		{"\x16\x02\x00\x00\x05hello", reason.ProtocolVersion, `a record of version 0x0200`},
		{"\x00\x00\x00\x08\x04\xd2\x16\x2f", reason.NotTLS, `PostgreSQL's SSLRequest: "\x00\x00\x00\b\x04\xd2\x16/"`},
		{"\x00", reason.NotTLS, `"\x00"`},
		{"\xff\xfe\xfdgarbage and more garbage", reason.NotTLS, `"\xff\xfe\xfdgarbage and m"...`},
	}
}

func TestPeekNotTLS(t *testing.T) {
	for _, c := range notTLSCases() {
		for how, cuts := range map[string][]byte{"at once": nil, "byte by byte": bytes.Repeat([]byte{1}, 99)} {
			t.Run(c.detail+" "+how, func(t *testing.T) {
				_, _, err := handshake.Peek(t.Context(), &handshaketest.ScriptedConn{In: []byte(c.in), Cuts: cuts}, 0)
				wantRefusal(t, err, c.code, handshake.AlertOf(c.code))
				if e := handshake.AsError(err); how == "at once" && e.Detail != c.detail {
					t.Errorf("detail is\n%s, want\n%s", e.Detail, c.detail)
				}
			})
		}
	}
}

func TestPeekRefusesRecords(t *testing.T) {
	good := handshaketest.GoodHello().Bytes()
	record := func(typ byte, b ...byte) []byte { return append([]byte{typ, 3, 1}, handshaketest.Prefixed(b...)...) }
	half := record(handshake.RecordHandshake, good[:9]...)
	join := func(parts ...[]byte) []byte { return slices.Concat(parts...) }
	for _, c := range []struct {
		name  string
		in    []byte
		limit int
		code  reason.Code
		alert handshake.Alert
	}{
		{"nothing", nil, 0, reason.HelloEOF, handshake.AlertNone},
		{"one byte", []byte{22}, 0, reason.HelloEOF, handshake.AlertNone},
		{"a header", []byte{22, 3, 1, 0, 9}, 0, reason.HelloEOF, handshake.AlertNone},
		{"half a handshake header", []byte{22, 3, 1, 0, 9, 1, 0}, 0, reason.HelloEOF, handshake.AlertNone},
		{"half a record", handshaketest.InRecords(good, handshake.MaxPlaintext)[:40], 0, reason.HelloEOF, handshake.AlertNone},
		{"half a hello", half, 0, reason.HelloEOF, handshake.AlertNone},
		{"an alert first", record(handshake.RecordAlert, 2, 40), 0, reason.HelloMalformed, handshake.AlertNone},
		{"an alert in between", join(half, record(handshake.RecordAlert, 2, 40)), 0, reason.HelloMalformed, handshake.AlertNone},
		{"an odd alert", record(handshake.RecordAlert, 2, 40, 1), 0, reason.HelloMalformed, handshake.AlertUnexpectedMessage},
		{"ChangeCipherSpec first", record(handshake.RecordCCS, 1), 0, reason.HelloMalformed, handshake.AlertUnexpectedMessage},
		{"application data in between", join(half, record(handshake.RecordAppData, 1)), 0, reason.HelloMalformed, handshake.AlertUnexpectedMessage},
		{"an unknown record in between", join(half, record(99, 1)), 0, reason.HelloMalformed, handshake.AlertUnexpectedMessage},
		{"an empty record first", record(handshake.RecordHandshake), 0, reason.HelloMalformed, handshake.AlertUnexpectedMessage},
		{"an empty record in between", join(half, record(handshake.RecordHandshake)), 0, reason.HelloMalformed, handshake.AlertUnexpectedMessage},
		{"a record of another protocol in between", join(half, []byte{22, 4, 1, 0, 1, 0}), 0, reason.HelloMalformed, handshake.AlertProtocolVersion},
		{"a record too large", []byte{22, 3, 1, 0x40, 1, 1}, 0, reason.HelloMalformed, handshake.AlertRecordOverflow},
		{"another message", record(handshake.RecordHandshake, 2, 0, 0, 0), 0, reason.HelloMalformed, handshake.AlertUnexpectedMessage},
		{"bytes behind the hello", record(handshake.RecordHandshake, append(slices.Clone(good), 11, 0, 0, 0)...), 0, reason.HelloMalformed, handshake.AlertUnexpectedMessage},
		{"bytes behind the hello in its second record", join(half, record(handshake.RecordHandshake, append(slices.Clone(good[9:]), 0)...)), 0, reason.HelloMalformed, handshake.AlertUnexpectedMessage},
		{"a hello that does not decode", record(handshake.RecordHandshake, 1, 0, 0, 1, 3), 0, reason.HelloMalformed, handshake.AlertDecodeError},
		{"no body", record(handshake.RecordHandshake, 1, 0, 0, 0), 0, reason.HelloMalformed, handshake.AlertDecodeError},
		{"larger than the limit, seen by its header", record(handshake.RecordHandshake, good[:4]...), len(good) - 1, reason.HelloTooLarge, handshake.AlertIllegalParameter},
		{"16 MB, seen by its header", record(handshake.RecordHandshake, 1, 0xff, 0xff, 0xff), 1 << 30, reason.HelloTooLarge, handshake.AlertIllegalParameter},
		{"too many records", handshaketest.InRecords(handshaketest.GoodHello().With(21, make([]byte, handshake.MaxHelloRecords)).Bytes(), 1), 0, reason.HelloTooLarge, handshake.AlertIllegalParameter},
		{"SSL 3.0", handshaketest.InRecords((&handshaketest.Hello{Legacy: 0x0300, Suites: []uint16{5}, Compression: []byte{0}}).Bytes(), 99), 0, reason.ProtocolVersion, handshake.AlertProtocolVersion},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, back, err := handshake.Peek(t.Context(), &handshaketest.ScriptedConn{In: c.in}, c.limit)
			wantRefusal(t, err, c.code, c.alert)
			if h != nil {
				t.Error("a hello beside the error")
			}
			if got, _ := io.ReadAll(back); !bytes.Equal(got, c.in) {
				t.Error("what was read is not given back")
			}
		})
	}
	if _, _, err := handshake.Peek(t.Context(), &handshaketest.ScriptedConn{In: record(handshake.RecordAlert, 2, 48)}, 0); handshake.AsError(err).Received != handshake.AlertUnknownCA {
		t.Errorf("the alert received is not told: %v", err)
	}
	if _, _, err := handshake.Peek(t.Context(), &handshaketest.ScriptedConn{In: handshaketest.InRecords(good, 99)}, len(good)); err != nil {
		t.Errorf("a hello of exactly the limit: %v", err)
	}
}

// RFC 5246, appendix E.1: any {3, XX} record version is accepted.
func TestPeekRecordVersion(t *testing.T) {
	for _, minor := range []byte{0, 1, 3, 9} {
		in := handshaketest.InRecords(handshaketest.GoodHello().Bytes(), handshake.MaxPlaintext)
		in[2] = minor
		h, _, err := handshake.Peek(t.Context(), &handshaketest.ScriptedConn{In: in}, 0)
		if err != nil || h.RecordVersion != 0x0300|uint16(minor) {
			t.Errorf("record version 0x03%02x: %v", minor, err)
		}
	}
}

// The deadline is a total one: a client that sends a byte a second gets no
// more time than a silent one. After it the conn can be read again.
func TestPeekTimeout(t *testing.T) {
	in := handshaketest.InRecords(handshaketest.GoodHello().Bytes(), handshake.MaxPlaintext)
	for name, c := range map[string]struct {
		every time.Duration
		in    []byte
		code  reason.Code
	}{
		"silent":                {time.Hour, in, reason.HelloTimeout},
		"a byte a second":       {time.Second, in, reason.HelloTimeout},
		"not TLS, then silence": {4 * time.Second, []byte("GE"), reason.NotTLS},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					for _, b := range c.in {
						time.Sleep(c.every)
						if _, err := client.Write([]byte{b}); err != nil {
							return
						}
					}
				}()
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second+time.Millisecond)
				defer cancel()
				start := time.Now()
				_, back, err := handshake.Peek(ctx, server, 0)
				wantRefusal(t, err, c.code, handshake.AlertOf(c.code))
				if took := time.Since(start); took != 10*time.Second+time.Millisecond {
					t.Errorf("ended after %v", took)
				}
				if c.code == reason.HelloTimeout && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("the cause is %v", err)
				}
				_ = client.Close()
				<-sent
				if _, err := io.ReadAll(back); err != nil {
					t.Errorf("the deadline is still on: %v", err)
				}
			})
		})
	}
}

func TestPeekReset(t *testing.T) {
	client, server := testenv.TCPPair(t)
	if _, err := client.Write([]byte{22, 3, 1}); err != nil {
		t.Fatal(err)
	}
	if err := client.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	_ = client.Close()
	_, _, err := handshake.Peek(t.Context(), server, 0)
	wantRefusal(t, err, reason.HelloReset, handshake.AlertNone)
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the cause is lost: %v", err)
	}
}

// The abilities of the conn below stay within reach.
func TestPeekConnPassesThrough(t *testing.T) {
	client, server := testenv.TCPPair(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, back, err := handshake.Peek(ctx, server, 0)
	wantRefusal(t, err, reason.HelloTimeout, handshake.AlertNone)
	if err := back.CloseWrite(); err != nil {
		t.Error(err)
	} else if n, err := client.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("the client reads %d bytes, %v after CloseWrite", n, err)
	}
	if back.(handshake.Wrapper).NetConn() != net.Conn(server) {
		t.Error("NetConn is another conn")
	}
	stuck := &handshaketest.ScriptedConn{In: []byte{22}, Cuts: make([]byte, 1000)}
	if _, _, err := handshake.Peek(t.Context(), stuck, 0); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a conn that returns nothing for ever: %v", err)
	}
}
