package pcap

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// wire is what a real handshake sends, each way.
func wire(t testing.TB, version uint16) (client, server []byte) {
	t.Helper()
	ca := testpki.Must(testpki.NewCA(testpki.Options{CN: "CA"}))
	own := testpki.Must(ca.Issue(testpki.Leaf{CN: "server", DNS: []string{"pay.example"}})).TLS()
	near, far := testenv.TCPPair(t)
	var in, out bytes.Buffer
	var wg sync.WaitGroup
	wg.Go(func() {
		defer far.Close()
		s := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{own}})
		_, _ = io.Copy(s, s)
	})
	c := tls.Client(teed{near, io.TeeReader(near, &in), io.MultiWriter(near, &out)}, &tls.Config{RootCAs: ca.Pool(), ServerName: "pay.example", MaxVersion: version})
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	_ = near.Close()
	wg.Wait()
	return out.Bytes(), in.Bytes()
}

type teed struct {
	net.Conn
	r io.Reader
	w io.Writer
}

func (c teed) Read(b []byte) (int, error)  { return c.r.Read(b) }
func (c teed) Write(b []byte) (int, error) { return c.w.Write(b) }

// packets cuts both directions of a connection into packets; keep says which are written.
func packets(t testing.TB, client, server []byte, port uint16, keep func(i int) bool) [][]byte {
	t.Helper()
	var out [][]byte
	add := func(fromClient bool, seq uint32, syn bool, data []byte) {
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: net.IP{10, 1, 0, 7}, DstIP: net.IP{10, 20, 0, 9}}
		tcp := &layers.TCP{SrcPort: layers.TCPPort(port), DstPort: 443, Seq: seq, SYN: syn, ACK: !syn || !fromClient, Window: 65535}
		if !fromClient {
			ip.SrcIP, ip.DstIP, tcp.SrcPort, tcp.DstPort = ip.DstIP, ip.SrcIP, tcp.DstPort, tcp.SrcPort
		}
		if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		b := gopacket.NewSerializeBuffer()
		eth := &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4}
		if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, ip, tcp, gopacket.Payload(data)); err != nil {
			t.Fatal(err)
		}
		if keep == nil || keep(len(out)) {
			out = append(out, bytes.Clone(b.Bytes()))
		} else {
			out = append(out, nil)
		}
	}
	add(true, 99, true, nil)
	add(false, 999, true, nil)
	for _, d := range []struct {
		client bool
		seq    uint32
		data   []byte
	}{{true, 100, client}, {false, 1000, server}} {
		for at := 0; at < len(d.data); at += 300 {
			add(d.client, d.seq+uint32(at), false, d.data[at:min(at+300, len(d.data))])
		}
	}
	return out
}

func capturedIn(t testing.TB, ng bool, all [][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var write func(gopacket.CaptureInfo, []byte) error
	flush := func() error { return nil }
	if ng {
		w, err := pcapgo.NewNgWriter(&b, layers.LinkTypeEthernet)
		if err != nil {
			t.Fatal(err)
		}
		write, flush = w.WritePacket, w.Flush
	} else {
		w := pcapgo.NewWriter(&b)
		if err := w.WriteFileHeader(65536, layers.LinkTypeEthernet); err != nil {
			t.Fatal(err)
		}
		write = w.WritePacket
	}
	for i, p := range all {
		if p == nil {
			continue
		}
		at := time.Date(2026, 11, 1, 8, 0, 0, 0, time.UTC).Add(time.Duration(i) * time.Millisecond)
		if err := write(gopacket.CaptureInfo{Timestamp: at, CaptureLength: len(p), Length: len(p)}, p); err != nil {
			t.Fatal(err)
		}
	}
	if err := flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func readAll(t testing.TB, b []byte) (all []*audit.Parsed, stats Stats, err error) {
	t.Helper()
	stats, err = Read(context.Background(), bytes.NewReader(b), func(line []byte) error {
		p, err := audit.Parse(line)
		all = append(all, p)
		return err
	})
	return all, stats, err
}

// Real handshakes in both formats, in order and out of order: what was in the clear is in
// their records, and who is the client.
func TestRead(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client, server := wire(t, version)
		for _, ng := range []bool{false, true} {
			for _, shuffled := range []bool{false, true} {
				ps := packets(t, client, server, 40000, nil)
				if shuffled {
					data := ps[2:]
					rand.New(rand.NewPCG(1, 2)).Shuffle(len(data), func(i, j int) { data[i], data[j] = data[j], data[i] })
				}
				all, stats, err := readAll(t, capturedIn(t, ng, ps))
				if err != nil || len(all) != 1 || stats.Packets != int64(len(ps)) || stats.Connections != 1 {
					t.Fatalf("%v, %d records, %+v", err, len(all), stats)
				}
				r := all[0]
				if r.Client != "10.1.0.7:40000" || r.Destination != "10.20.0.9:443" || r.SNI != "pay.example" || r.Hello.JA4 == "" || r.Peer != nil || r.Seen == nil || r.Seen.Version != tls.VersionName(version) {
					t.Errorf("%+v %+v", r, r.Seen)
				}
				if d := r.Seen.Destination; (d != nil) != (version == tls.VersionTLS12) || d != nil && (d.Subject != "CN=server" || d.Proven) {
					t.Errorf("destination %+v", d)
				}
			}
		}
	}
}

// What is lost or cut off ends the reading of that connection, and no other's.
func TestGapsAndDamage(t *testing.T) {
	client, server := wire(t, tls.VersionTLS12)
	first := 2 + (len(client)+299)/300 // the server's first packet with data
	ps := packets(t, client, server, 40000, func(i int) bool { return i != first+1 })
	ps = append(ps, packets(t, client, server, 40001, nil)...)
	ps = append(ps, packets(t, []byte("GET / HTTP/1.1\r\n\r\n"), []byte("HTTP/1.1 200 OK\r\n\r\n"), 40002, nil)...)
	ps = append(ps, []byte("no packet"))
	whole := capturedIn(t, false, ps)
	all, stats, err := readAll(t, whole)
	if err != nil || len(all) != 2 || stats.Undecoded != 1 {
		t.Fatalf("%v, %d records, %+v", err, len(all), stats)
	}
	for _, r := range all {
		if lacks := r.Client == "10.1.0.7:40000"; (r.Seen == nil || r.Seen.Destination == nil) != lacks {
			t.Errorf("%s: %+v", r.Client, r.Seen)
		}
	}
	if all, _, err := readAll(t, whole[:len(whole)-3]); err == nil || len(all) != 2 {
		t.Errorf("a cut capture: %v, %d records", err, len(all))
	}
	for _, b := range []string{"", "abc", "no capture at all, but long enough to be one"} {
		if _, _, err := readAll(t, []byte(b)); err == nil || !strings.Contains(err.Error(), "no capture") {
			t.Errorf("%q: %v", b, err)
		}
	}
}

// FuzzRead: a capture may hold anything. Each record is one that can be read.
func FuzzRead(f *testing.F) {
	client, server := wire(f, tls.VersionTLS12)
	f.Add(capturedIn(f, false, packets(f, client, server, 40000, nil)))
	f.Add(capturedIn(f, true, packets(f, client, server, 40000, nil)))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, stats, _ := readAll(t, b) // an error is fine
		if int64(len(all)) != stats.Connections {
			t.Errorf("%d records of %d connections", len(all), stats.Connections)
		}
	})
}
