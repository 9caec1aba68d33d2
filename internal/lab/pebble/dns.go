package pebble

import (
	"encoding/binary"
	"net"
	"strings"
	"sync"
	"testing"
)

// DNS is a server of names on loopback: each name has the address 127.0.0.1, and the TXT records
// that it is given.
type DNS struct {
	Addr string // "127.0.0.1:PORT", of UDP

	mu  sync.Mutex
	txt map[string][]string
}

// Put gives a name one more TXT record.
func (d *DNS) Put(name, value string) { d.change(name, append(d.TXT(name), value)) }

// Drop takes all TXT records of a name away.
func (d *DNS) Drop(name string) { d.change(name, nil) }

// TXT are the records of a name.
func (d *DNS) TXT(name string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.txt[strings.ToLower(name)]...)
}

func (d *DNS) change(name string, values []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.txt[strings.ToLower(name)] = values
}

func startDNS(t testing.TB) *DNS {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	d := &DNS{Addr: c.LocalAddr().String(), txt: map[string][]string{}}
	var run sync.WaitGroup
	run.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := c.ReadFromUDP(buf)
			if err != nil {
				return
			}
			if answer := d.answer(buf[:n]); answer != nil {
				_, _ = c.WriteToUDP(answer, from)
			}
		}
	})
	t.Cleanup(func() { _ = c.Close(); run.Wait() })
	return d
}

// The types of records that are answered (RFC 1035, section 3.2.2).
const typeA, typeTXT = 1, 16

// answer is the reply to a message (RFC 1035, section 4.1); nil to what is no question.
func (d *DNS) answer(q []byte) []byte {
	if len(q) < 12 || binary.BigEndian.Uint16(q[4:]) != 1 {
		return nil
	}
	var labels []string
	at := 12
	for {
		if at >= len(q) {
			return nil
		}
		n := int(q[at])
		at++
		if n == 0 {
			break
		}
		if n > 63 || at+n > len(q) {
			return nil
		}
		labels = append(labels, string(q[at:at+n]))
		at += n
	}
	if at+4 > len(q) {
		return nil
	}
	kind := binary.BigEndian.Uint16(q[at:])
	at += 4
	var records [][]byte
	switch kind {
	case typeA:
		records = append(records, []byte{127, 0, 0, 1})
	case typeTXT:
		for _, v := range d.TXT(strings.Join(labels, ".")) {
			records = append(records, append([]byte{byte(len(v))}, v...))
		}
	}
	out := append([]byte(nil), q[:at]...)
	binary.BigEndian.PutUint16(out[2:], 0x8580|binary.BigEndian.Uint16(q[2:])&0x0100) // a response, with authority
	binary.BigEndian.PutUint16(out[6:], uint16(len(records)))
	binary.BigEndian.PutUint32(out[8:], 0) // neither authorities nor what else the question had
	for _, r := range records {
		out = append(out, 0xc0, 12) // the name of the question
		out = binary.BigEndian.AppendUint16(out, kind)
		out = binary.BigEndian.AppendUint16(out, 1)
		out = binary.BigEndian.AppendUint32(out, 1)
		out = binary.BigEndian.AppendUint16(out, uint16(len(r)))
		out = append(out, r...)
	}
	return out
}
