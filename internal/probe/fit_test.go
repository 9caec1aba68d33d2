package probe

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sslgate/sslgate/handshake"
)

func TestAgainst(t *testing.T) {
	named := func(name func(uint16) string, ids ...uint16) []Name { return names(ids, name) }
	good := func() *Result {
		return &Result{
			Versions: []Version{{Name{0x0304, "TLS 1.3"}, true, ""}, {Name{0x0303, "TLS 1.2"}, true, ""}, {Name{0x0302, "TLS 1.1"}, false, "protocol_version(70)"}},
			Suites13: suiteNames([]uint16{0x1301}), Suites12: suiteNames([]uint16{0xc02b}), SuitesOf: "TLS 1.2",
			Groups: named(handshake.GroupName, 0x1d), Certificates: []Certificate{{Subject: "CN=pay"}},
		}
	}
	demands := handshake.Profile{
		Name: "house", MinVersion: 0x0303, MaxVersion: 0x0304, Suites12: []uint16{0xc02b, 0xc02c}, Suites13: []uint16{0x1301},
		Groups: []uint16{0x1d, 0x17}, RequireEMS: true,
	}
	trusted := func([][]byte, handshake.Profile) (bool, string) { return true, "verified" }
	for name, tt := range map[string]struct {
		change  func(*Result)
		profile func(*handshake.Profile)
		want    []string
	}{
		"fits": {},
		"an old version": {
			change: func(r *Result) { r.Versions[2].Accepted = true },
			want:   []string{"accepts TLS 1.1; the least is TLS 1.2"},
		},
		"a version too new": {
			profile: func(p *handshake.Profile) { p.MaxVersion = 0x0303 },
			want:    []string{"accepts TLS 1.3; the most is TLS 1.2"},
		},
		"nothing in common": {
			change: func(r *Result) {
				r.Suites12, r.Suites13, r.Groups = suiteNames([]uint16{0x002f}), suiteNames([]uint16{0x1303}), named(handshake.GroupName, 0x19)
			},
			want: []string{
				"accepts CipherSuite TLS_RSA_WITH_AES_128_CBC_SHA", "accepts no CipherSuite of TLS 1.2 of the profile",
				"accepts CipherSuite TLS_CHACHA20_POLY1305_SHA256", "accepts no CipherSuite of TLS 1.3 of the profile",
				"accepts group secp521r1", "accepts no group of the profile",
			},
		},
		"no list of TLS 1.3 is the three of crypto/tls": {
			change:  func(r *Result) { r.Suites13 = suiteNames([]uint16{0x1301, 0x1303, 0x1304}) },
			profile: func(p *handshake.Profile) { p.Suites13 = nil },
			want:    []string{"accepts CipherSuite TLS_AES_128_CCM_SHA256"},
		},
		"compression, and no extended master secret": {
			change: func(r *Result) { r.Features = Features{Asked: true, Compression: true, WithoutEMS: true} },
			want:   []string{"accepts TLS 1.2 without extended_master_secret (RFC 7627)", "accepts compression (CRIME, CVE-2012-4929)"},
		},
		"what is not known does not fit": {
			change: func(r *Result) {
				r.Incomplete, r.Groups, r.GroupsNote = "time is up", nil, "not known"
				r.Certificates = nil
			},
			want: []string{"the probe did not end: time is up", "not known", "accepts no group of the profile", "no certificate was seen"},
		},
		"TLS 1.3 alone, by a profile of TLS 1.2": {
			change:  func(r *Result) { r.Versions[1].Accepted = false; r.Suites12 = nil },
			profile: func(p *handshake.Profile) { p.MaxVersion = 0x0303 },
			want:    []string{"accepts TLS 1.3; the most is TLS 1.2", "accepts no version of the profile"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, p := good(), demands
			if tt.change != nil {
				tt.change(r)
			}
			if tt.profile != nil {
				tt.profile(&p)
			}
			f := r.against(p, trusted)
			if tt.want == nil {
				tt.want = []string{}
			}
			if d := cmp.Diff(tt.want, f.Violations); d != "" || f.Fits != (len(tt.want) == 0) {
				t.Errorf("fits %v, -want +got:\n%s", f.Fits, d)
			}
		})
	}
	f := good().against(demands, func([][]byte, handshake.Profile) (bool, string) { return false, "refused: expired" })
	if f.Fits || !strings.Contains(f.Violations[0], "expired") {
		t.Errorf("a refused chain: %+v", f)
	}
	if f := good().against(handshake.Profile{}, trusted); f.Fits {
		t.Error("a profile that allows nothing is fitted")
	}
}
