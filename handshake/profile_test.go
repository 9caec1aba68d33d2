package handshake

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNamedProfiles(t *testing.T) {
	want := []Profile{
		{Name: "modern", MinVersion: 0x0304, MaxVersion: 0x0304, Groups: []uint16{0x11ec, 0x1d, 0x17, 0x18}, MinRSABits: 2048, MinECBits: 256},
		{
			Name: "intermediate", MinVersion: 0x0303, MaxVersion: 0x0304,
			Suites12: []uint16{0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8},
			Groups:   []uint16{0x11ec, 0x1d, 0x17, 0x18}, MinRSABits: 2048, MinECBits: 256,
		},
	}
	if d := cmp.Diff(want, NamedProfiles()[:2]); d != "" {
		t.Error(d)
	}
	NamedProfiles()[0].Groups[0] = 1
	if NamedProfiles()[0].Groups[0] != 0x11ec {
		t.Error("callers share the slices")
	}
}
