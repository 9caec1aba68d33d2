package report

import (
	"context"
	"fmt"

	"github.com/sslgate/sslgate/internal/pcap"
	"github.com/sslgate/sslgate/internal/readfile"
)

// Captures calls f with the record of each TLS connection in captures of packets, which may be
// compressed; "-" is Stdin. It returns the number of packets. A capture that ends in the middle
// of a packet, as it does where its program was ended, is damaged from there on; what is no
// capture is an error.
func (r *Reader) Captures(ctx context.Context, names []string, f func(line []byte) error) (packets int64, err error) {
	for _, name := range names {
		n, err := r.capture(ctx, name, f)
		switch {
		case err != nil && (n == 0 || ctx.Err() != nil):
			return packets, fmt.Errorf("%s: %w", name, err)
		case err != nil:
			r.Bad++
			r.Damaged = append(r.Damaged, Damage{Place: name, Why: err.Error() + "; the rest cannot be read"})
		}
		packets += n
	}
	return packets, nil
}

func (r *Reader) capture(ctx context.Context, name string, f func([]byte) error) (packets int64, err error) {
	from := r.Stdin
	if name != "-" {
		file, _, err := readfile.Open(name)
		if err != nil {
			return 0, err
		}
		defer file.Close()
		from = file
	}
	in, done, err := Unpack(from)
	if err != nil {
		return 0, err
	}
	defer done()
	stats, err := pcap.Read(ctx, in, f)
	return stats.Packets, err
}
