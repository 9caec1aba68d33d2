package tun

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"

	"golang.org/x/sys/unix"
)

func TestOffloadFlags(t *testing.T) {
	n := newNS(t, "gateway")
	d := openIn(t, n, Config{Name: "t0"})
	flags, err := d.queues[0].flags(d.name)
	if want := uint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_MULTI_QUEUE | unix.IFF_VNET_HDR); err != nil || flags&want != want {
		t.Errorf("flags %#x, want %#x: %v", flags, want, err)
	}
}

func TestPlainRefusesOffload(t *testing.T) {
	n := newNS(t, "gateway")
	d := openIn(t, n, Config{Name: "t0", Offload: OffloadOff})
	good := packet{src: "192.0.2.9", dst: "192.0.0.8", proto: unix.IPPROTO_UDP}.bytes()
	gso := make([]byte, headerLen)
	gso[1] = 1 // VIRTIO_NET_HDR_GSO_TCPV4
	taken, err := d.WriteBatch([][][]byte{{gso, good}, {make([]byte, headerLen), good}, {good}})
	if taken != 1 || !errors.Is(err, ErrHeader) {
		t.Errorf("%d taken, %v", taken, err)
	}
	if s := d.Stats(); s.Refused != 2 || s.Written != 1 {
		t.Errorf("%+v", s)
	}
}

func TestReadBadBuffers(t *testing.T) {
	n := newNS(t, "gateway")
	d := openIn(t, n, Config{Name: "t0"})
	n.run("ip route add 198.51.100.0/24 dev t0 src 192.0.0.8")
	n.do(func() error {
		c, err := net.Dial("udp4", "198.51.100.1:7")
		if err != nil {
			return err
		}
		_, err = c.Write([]byte{1})
		return errors.Join(err, c.Close())
	})
	if _, err := d.ReadBatch(nil, nil); err == nil {
		t.Error("no buffers")
	}
	if _, err := d.ReadBatch([][][]byte{{make([]byte, 12), make([]byte, 100)}}, make([]int, 1)); !errors.Is(err, unix.EINVAL) {
		t.Errorf("header of 12 bytes: %v", err)
	}
}

// TestGSO: a TCP connection of the kernel is answered by hand: the kernel
// sends segments larger than the MTU, and takes one.
func TestGSO(t *testing.T) {
	n := newNS(t, "gateway")
	d := openIn(t, n, Config{Name: "t0", Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}})
	if !d.Offload() {
		t.Fatalf("no offload: %s", d.OffloadReason())
	}
	const size = 60000
	result := make(chan error, 1)
	n.do(func() error {
		// The socket belongs to the namespace in which it is made; the
		// connection is completed in another goroutine.
		dialer := net.Dialer{Timeout: testenv.Patience()}
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		err = unix.Connect(fd, &unix.SockaddrInet4{Port: 7, Addr: [4]byte{192, 0, 2, 2}})
		if err != nil && !errors.Is(err, unix.EINPROGRESS) {
			return err
		}
		go func() { result <- exchange(fd, size, dialer.Timeout) }()
		return nil
	})

	bufs, sizes := buffers(8, 65536)
	var next uint32 // the sequence number we expect
	biggest, total := 0, 0
	sent := false
	deadline := time.AfterFunc(testenv.Patience(), func() { _ = d.Close() })
	defer deadline.Stop()
	for total < size || !sent {
		got, err := d.ReadBatch(bufs, sizes)
		if err != nil {
			t.Fatalf("%v after %d bytes", err, total)
		}
		for i := range got {
			p := parse(bufs[i][1][:sizes[i]-headerLen])
			if p.proto != unix.IPPROTO_TCP {
				continue
			}
			seq := binary.BigEndian.Uint32(p.body[4:])
			ack := binary.BigEndian.Uint32(p.body[8:])
			data := p.body[int(p.body[12]>>4)*4:]
			switch {
			case p.body[13]&0x02 != 0:
				next = seq + 1
				writeTCP(t, d, p.sport, 1000, next, 0x12, nil)
			case len(data) > 0:
				if len(data) > 1460 && (bufs[i][0][1] != 1 || binary.LittleEndian.Uint16(bufs[i][0][4:]) == 0) {
					t.Fatalf("%d bytes of data, header %x", len(data), bufs[i][0])
				}
				biggest = max(biggest, len(data))
				if seq == next {
					next += uint32(len(data))
					total += len(data)
				}
				writeTCP(t, d, p.sport, ack, next, 0x10, nil)
			}
			if total >= size && !sent {
				sent = true
				writeTCP(t, d, p.sport, ack, next, 0x18, bytes.Repeat([]byte("x"), size))
			}
		}
	}
	if err := <-result; err != nil {
		t.Error(err)
	}
	if biggest <= 1460 {
		t.Errorf("the largest segment had %d bytes", biggest)
	}
	if s := d.Stats(); s.Refused > 0 || s.Truncated > 0 {
		t.Errorf("%+v", s)
	}
}

// exchange writes and then reads size bytes on a connecting socket.
func exchange(fd, size int, timeout time.Duration) error {
	f := newSocketFile(fd)
	defer func() { _ = f.Close() }()
	_ = f.SetDeadline(time.Now().Add(timeout))
	if _, err := f.Write(bytes.Repeat([]byte("y"), size)); err != nil {
		return err
	}
	got := make([]byte, size)
	if _, err := io.ReadFull(f, got); err != nil {
		return err
	}
	if !bytes.Equal(got, bytes.Repeat([]byte("x"), size)) {
		return errors.New("other bytes arrived than were written")
	}
	return nil
}

// writeTCP writes one segment of 192.0.2.2:7, with offload if it has data.
func writeTCP(t *testing.T, d *Device, dport uint16, seq, ack uint32, flags byte, data []byte) {
	t.Helper()
	tcp := binary.BigEndian.AppendUint16(nil, 7)
	tcp = binary.BigEndian.AppendUint16(tcp, dport)
	tcp = binary.BigEndian.AppendUint32(tcp, seq)
	tcp = binary.BigEndian.AppendUint32(tcp, ack)
	tcp = append(tcp, 5<<4, flags, 0xff, 0xff, 0, 0, 0, 0)
	ip := []byte{0x45, 0}
	ip = binary.BigEndian.AppendUint16(ip, uint16(40+len(data)))
	ip = append(ip, 0, 0, 0x40, 0, 64, unix.IPPROTO_TCP, 0, 0, 192, 0, 2, 2, 192, 0, 2, 1)
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	pseudo := append([]byte(nil), ip[12:20]...)
	pseudo = append(pseudo, 0, unix.IPPROTO_TCP)
	pseudo = binary.BigEndian.AppendUint16(pseudo, uint16(20+len(data)))
	header := make([]byte, headerLen)
	if len(data) > 0 {
		binary.BigEndian.PutUint16(tcp[16:], ^checksum(pseudo)) // the kernel adds the rest
		header[0], header[1] = 1, 1                             // NEEDS_CSUM, GSO_TCPV4
		binary.LittleEndian.PutUint16(header[2:], 40)           // hdr_len
		binary.LittleEndian.PutUint16(header[4:], 1460)         // gso_size
		binary.LittleEndian.PutUint16(header[6:], 20)           // csum_start
		binary.LittleEndian.PutUint16(header[8:], 16)           // csum_offset
	} else {
		binary.BigEndian.PutUint16(tcp[16:], checksum(append(pseudo, tcp...)))
	}
	if n, err := d.WriteBatch([][][]byte{{header, ip, tcp, data}}); n != 1 || err != nil {
		t.Fatalf("%d taken, %v, %+v", n, err, d.Stats())
	}
}
