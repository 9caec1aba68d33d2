package report

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// A capture may be compressed, and cut off: what was read before counts, and the rest is named.
func TestCaptures(t *testing.T) {
	var whole bytes.Buffer
	w := pcapgo.NewWriter(&whole)
	if err := w.WriteFileHeader(65536, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		b := []byte("no packet of TCP, but one")
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: start, CaptureLength: len(b), Length: len(b)}, b); err != nil {
			t.Fatal(err)
		}
	}
	zipped := packed(t, whole.Bytes())["gz"]
	for name, c := range map[string]struct {
		b       []byte
		packets int64
		damage  string
		fails   bool
	}{
		"whole":           {whole.Bytes(), 5, "", false},
		"cut":             {whole.Bytes()[:whole.Len()-3], 4, "after 4 packets: ", false},
		"compressed":      {zipped, 5, "", false},
		"compressed, cut": {zipped[:len(zipped)-9], 5, "after 5 packets: unexpected EOF; the rest cannot be read", false},
		"no capture":      {[]byte("no capture of packets at all, but long enough"), 0, "", true},
	} {
		for _, from := range []string{file(t, "a.pcap", c.b), "-"} {
			r := Reader{Stdin: bytes.NewReader(c.b)}
			packets, err := r.Captures(context.Background(), []string{from}, New().Add)
			if (err != nil) != c.fails || packets != c.packets || int(r.Bad) != len(r.Damaged) || (r.Bad == 1) != (c.damage != "") {
				t.Errorf("%s: %d packets, %v, %+v", name, packets, err, r.Damaged)
			}
			if r.Bad == 1 && (r.Damaged[0].Place != from || !strings.Contains(r.Damaged[0].Why, c.damage)) {
				t.Errorf("%s: %+v", name, r.Damaged)
			}
		}
	}
}
