package keys

import (
	"bytes"
	"crypto/tls"
	"testing"
)

// Both sides of every group come to the same secret, whatever stands first in a share,
// and a share of another length or of no point is refused.
func TestOffer(t *testing.T) {
	for _, group := range Groups() {
		o, err := NewOffer(group)
		if err != nil {
			t.Fatal(err)
		}
		theirs, share, err := Answer(group, o.Share)
		if err != nil {
			t.Fatalf("%s: %v", tls.CurveID(group), err)
		}
		ours, err := o.Finish(share)
		if err != nil || !bytes.Equal(ours, theirs) || len(ours) == 0 || bytes.Equal(ours, make([]byte, len(ours))) {
			t.Errorf("%s: %x and %x, %v", tls.CurveID(group), ours, theirs, err)
		}
		for name, bad := range map[string][]byte{
			"nothing": nil, "a byte less": share[1:], "a byte more": append(bytes.Clone(share), 0),
			"the client's own": append(bytes.Clone(o.Share), 0), "zeros": make([]byte, len(share)),
		} {
			if name == "zeros" && group == uint16(tls.MLKEM1024) {
				continue // any ciphertext decapsulates: to another secret
			}
			if _, err := o.Finish(bad); err == nil {
				t.Errorf("%s: %s is taken", tls.CurveID(group), name)
			}
		}
	}
	if _, err := NewOffer(0x4242); err == nil {
		t.Error("a group that is not there")
	}
}
