// Package pcap makes records of the TLS connections in a capture of packets, as a gateway
// makes them of connections that it passes on: with what was in the clear, and nothing
// proven. It reads the formats pcap and pcapng.
package pcap

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"github.com/gopacket/gopacket/tcpassembly"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/passing"
	"github.com/sslgate/sslgate/internal/reason"
)

// Bounds, whatever the capture holds.
const (
	// maxConns is how many connections are read at the same time, each with one message of
	// at most 80 KiB. Those beyond are counted.
	maxConns = 1 << 12
	// pagesEach and pagesAll bound what is held of packets out of order, in pages of 1900
	// bytes: 128 KiB of a connection, 30 MiB of all.
	pagesEach = 70
	pagesAll  = 1 << 14
	// idle is after how long without a packet a connection is over.
	idle = 2 * time.Minute
	// flushEvery is after how many packets idle connections are looked for.
	flushEvery = 1 << 14
	// maxPacket bounds a packet in bytes.
	maxPacket = 1 << 18
)

// Stats is what a capture held.
type Stats struct {
	Packets     int64
	Undecoded   int64 // packets that are no TCP over IP, or damaged
	Connections int64 // with TLS
	Crowded     int64 // connections that were given up because there were too many
}

// source is a reader of one of the formats.
type source interface {
	ReadPacketData() ([]byte, gopacket.CaptureInfo, error)
	LinkType() layers.LinkType
}

// Read reads a capture and calls f with the record of each TLS connection in it, as a line
// of an audit log. It returns an error for what is no capture, and if it ends in the middle
// of a packet; what was read before counts.
func Read(ctx context.Context, r io.Reader, f func(line []byte) error) (Stats, error) {
	in := bufio.NewReaderSize(r, 1<<18)
	c := &capture{conns: map[key]*conn{}, f: f}
	src, err := open(in)
	if err != nil {
		return c.stats, err
	}
	pool := tcpassembly.NewStreamPool(c)
	asm := tcpassembly.NewAssembler(pool)
	asm.MaxBufferedPagesPerConnection, asm.MaxBufferedPagesTotal = pagesEach, pagesAll
	err = c.packets(ctx, src, asm)
	asm.FlushAll()
	c.finish(func(*conn) bool { return true })
	return c.stats, errors.Join(err, c.failed)
}

func open(in *bufio.Reader) (source, error) {
	magic, err := in.Peek(4)
	if err != nil {
		return nil, errors.New("no capture: it has less than four bytes")
	}
	if bytes.Equal(magic, []byte{0x0a, 0x0d, 0x0d, 0x0a}) {
		return pcapgo.NewNgReader(in, pcapgo.NgReaderOptions{})
	}
	src, err := pcapgo.NewReader(in)
	if err != nil {
		return nil, fmt.Errorf("no capture: %w", err)
	}
	if src.Snaplen() == 0 || src.Snaplen() > maxPacket {
		src.SetSnaplen(maxPacket)
	}
	return src, nil
}

func (c *capture) packets(ctx context.Context, src source, asm *tcpassembly.Assembler) error {
	for {
		data, info, err := src.ReadPacketData()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("after %d packets: %w", c.stats.Packets, err)
		}
		c.stats.Packets++
		packet := gopacket.NewPacket(data, src.LinkType(), gopacket.DecodeOptions{Lazy: true, NoCopy: true})
		tcp, ok := packet.TransportLayer().(*layers.TCP)
		if !ok || packet.NetworkLayer() == nil {
			c.stats.Undecoded++
			continue
		}
		asm.AssembleWithTimestamp(packet.NetworkLayer().NetworkFlow(), tcp, info.Timestamp)
		c.now = info.Timestamp
		if c.stats.Packets%flushEvery == 0 {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			old := c.now.Add(-idle)
			asm.FlushOlderThan(old)
			c.finish(func(o *conn) bool { return o.last.Before(old) })
		}
	}
}

// key is a connection, whichever way a packet goes: the lower end first.
type key struct{ a, b netip.AddrPort }

// conn is one connection.
type conn struct {
	reader       passing.Reader
	client, dest netip.AddrPort // valid once it is known who is who
	first, last  time.Time
	halves       int // that are still read
}

// capture makes streams of connections.
type capture struct {
	conns  map[key]*conn
	now    time.Time
	stats  Stats
	f      func(line []byte) error
	failed error
}

// half is one direction of a connection.
type half struct {
	c        *capture
	k        key
	src, dst netip.AddrPort
	conn     *conn
	begin    []byte // until it is known what the direction is
	over     bool
	read     func([]byte) bool
}

// New begins one direction.
func (c *capture) New(network, transport gopacket.Flow) tcpassembly.Stream {
	h := &half{c: c, src: end(network.Src(), transport.Src()), dst: end(network.Dst(), transport.Dst())}
	if h.k = (key{h.src, h.dst}); h.dst.Compare(h.src) < 0 {
		h.k = key{h.dst, h.src}
	}
	if h.conn = c.conns[h.k]; h.conn == nil {
		if len(c.conns) >= maxConns {
			c.stats.Crowded++
			h.over = true
			return h
		}
		h.conn = &conn{}
		c.conns[h.k] = h.conn
	}
	h.conn.halves++
	return h
}

func end(addr, port gopacket.Endpoint) netip.AddrPort {
	a, _ := netip.AddrFromSlice(addr.Raw())
	p := port.Raw()
	if len(p) != 2 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(p[0])<<8|uint16(p[1]))
}

// Reassembled takes the next bytes in order. A gap ends the reading.
func (h *half) Reassembled(parts []tcpassembly.Reassembly) {
	for _, p := range parts {
		if h.over {
			return
		}
		if h.conn.last = p.Seen; h.conn.first.IsZero() {
			h.conn.first = p.Seen
		}
		if p.Skip > 0 { // -1: the capture began later than the connection
			h.over = true
			return
		}
		h.take(p.Bytes)
	}
}

// take gives bytes to the reader, once they show who has sent them: a client begins with a
// ClientHello and a server with a ServerHello, or an alert (RFC 8446, sections 4 and 5.1).
func (h *half) take(b []byte) {
	if h.read == nil {
		h.begin = append(h.begin, b[:min(len(b), 64)]...)
		if len(h.begin) < 6 && (len(h.begin) == 0 || h.begin[0] == handshake.RecordHandshake || h.begin[0] == handshake.RecordAlert) {
			return
		}
		// What did not fit into begin follows it.
		b = append(h.begin, b[min(len(b), 64):]...)
		h.begin = nil
		switch {
		case b[0] == handshake.RecordHandshake && b[5] == handshake.TypeClientHello:
			h.read, h.conn.client, h.conn.dest = h.conn.reader.Client, h.src, h.dst
		case b[0] == handshake.RecordHandshake && b[5] == handshake.TypeServerHello, b[0] == handshake.RecordAlert:
			h.read = h.conn.reader.Server
		default:
			h.over = true
			return
		}
	}
	h.over = !h.read(b)
}

// ReassemblyComplete ends one direction.
func (h *half) ReassemblyComplete() {
	if h.conn == nil {
		return
	}
	if h.conn.halves--; h.conn.halves == 0 && h.c.conns[h.k] == h.conn {
		h.c.end(h.k, h.conn)
	}
}

// finish ends connections.
func (c *capture) finish(over func(*conn) bool) {
	for k, o := range c.conns {
		if over(o) {
			c.end(k, o)
		}
	}
}

// end makes the record of a connection that began with TLS.
func (c *capture) end(k key, o *conn) {
	delete(c.conns, k)
	seen := o.reader.Seen()
	if seen.Hello == nil || !o.client.IsValid() {
		return
	}
	c.stats.Connections++
	r := audit.NewRecord(fmt.Sprintf("pcap-%d", c.stats.Connections), o.first, o.client, o.dest)
	r.Action, r.Reason = "bypass", reason.Bypassed
	r.Hello, r.SNI, r.ALPN = seen.Hello, seen.Hello.ServerName, seen.Hello.ALPN
	r.Duration = o.last.Sub(o.first)
	if seen.State != nil || seen.Client != nil || seen.Alert != handshake.AlertNone {
		r.Seen = &audit.Seen{State: seen.State, Asked: seen.Asked, Client: seen.Client, Destination: seen.Destination, Alert: seen.Alert, ByClient: seen.ByClient}
	}
	var line bytes.Buffer
	err := audit.New(&line).Write(r)
	if err == nil {
		err = c.f(bytes.TrimSpace(line.Bytes()))
	}
	c.failed = errors.Join(c.failed, err)
}
