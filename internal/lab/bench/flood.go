package bench

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/lab"
)

// FloodJob is what a flood process is told: SYNs from addresses that never
// answer.
type FloodJob struct {
	To   netip.AddrPort
	Rate int // SYNs a second
	For  time.Duration
}

// Flooded is what it has done.
type Flooded struct {
	Sent, Failed int64
	Error        string
}

// spoofed is where the SYNs claim to come from: 131,072 addresses set aside
// for benchmarks (RFC 2544, appendix C.2.2).
var spoofed = netip.MustParsePrefix("198.18.0.0/15")

// maxFloodRate bounds FloodJob.Rate.
const maxFloodRate = 100_000

// runFlood writes "ready", begins at the next line of in, and writes Flooded
// as one line of JSON.
func runFlood(job FloodJob, in io.Reader, out io.Writer) error {
	if job.Rate < 1 || job.Rate > maxFloodRate {
		return fmt.Errorf("flood: %d SYNs a second: 1 to %d", job.Rate, maxFloodRate)
	}
	if !job.To.Addr().Is4() {
		return errors.New("flood: IPv4 only")
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return fmt.Errorf("flood: raw socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	if _, err := fmt.Fprintln(out, readyLine); err != nil {
		return err
	}
	if !bufio.NewScanner(in).Scan() {
		return errors.New("flood: nobody said go")
	}
	var f Flooded
	to := &unix.SockaddrInet4{Addr: job.To.Addr().As4()}
	start := time.Now()
	for {
		past := time.Since(start)
		if past >= job.For {
			break
		}
		// As many as are due by now, so that a late wake-up is made good.
		for due := int64(past.Seconds() * float64(job.Rate)); f.Sent+f.Failed < due; {
			if err := unix.Sendto(fd, spoofedSYN(job.To), 0, to); err != nil {
				f.Failed++
				f.Error = err.Error()
				continue
			}
			f.Sent++
		}
		time.Sleep(time.Millisecond)
	}
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n", b)
	return err
}

// spoofedSYN is a SYN from a random address and port of spoofed.
func spoofedSYN(to netip.AddrPort) []byte {
	a := spoofed.Addr().As4()
	r := rand.Uint32()
	a[1] |= byte(r>>16) & 1
	a[2], a[3] = byte(r>>8), byte(r)
	return lab.Segment{
		Src: netip.AddrPortFrom(netip.AddrFrom4(a), 1024+uint16(rand.Uint32N(64000))),
		Dst: to, Seq: rand.Uint32(), Flags: lab.SYN,
	}.Packet()
}
