package handshake

import (
	"crypto/tls"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

func TestSuiteTable(t *testing.T) {
	names := map[string]bool{}
	for i, e := range suiteTable {
		if i > 0 && suiteTable[i-1].id >= e.id {
			t.Errorf("%#04x is out of order", e.id)
		}
		for _, n := range []string{e.name, e.openssl} {
			if n != "" && names[strings.ToLower(n)] {
				t.Errorf("%s stands for two CipherSuites", n)
			}
			names[strings.ToLower(n)] = true
		}
	}
	able := &Capabilities{Engine: "crypto/tls"}
	all := append(tls.CipherSuites(), tls.InsecureCipherSuites()...)
	for _, s := range all {
		able.Suites = append(able.Suites, s.ID)
	}
	for _, s := range all {
		e, ok := lookupSuite(s.ID)
		if !ok || e.name != s.Name {
			t.Errorf("%#04x is %q, crypto/tls calls it %s", s.ID, e.name, s.Name)
			continue
		}
		for _, n := range []string{e.name, strings.ToLower(e.name), e.openssl} {
			if n == "" {
				continue
			}
			if id, err := able.SuiteByName(n); err != nil || id != s.ID {
				t.Errorf("able.SuiteByName(%q) = %#04x, %v", n, id, err)
			}
		}
		if e.openssl == "" && !IsTLS13Suite(s.ID) {
			t.Errorf("%s has no OpenSSL name", e.name)
		}
	}
}

// OpenSSL's own list agrees with the table.
func TestSuiteTableAgainstOpenSSL(t *testing.T) {
	openssl := testenv.Tool(t, "openssl")
	out, err := exec.Command(openssl, "ciphers", "-V", "-stdname", "ALL:COMPLEMENTOFALL:@SECLEVEL=0").Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line) // 0xC0,0x2B - TLS_... - ECDHE-...
		if len(f) < 5 {
			continue
		}
		id, err := strconv.ParseUint(strings.NewReplacer("0x", "", ",", "").Replace(f[0]), 16, 16)
		if err != nil {
			t.Fatal(err)
		}
		lines++
		e, ok := lookupSuite(uint16(id))
		if !ok || e.name != f[2] || (e.openssl != f[4] && !IsTLS13Suite(e.id)) {
			t.Errorf("%#04x is %+v, OpenSSL has %s, %s", id, e, f[2], f[4])
		}
	}
	if lines < 20 {
		t.Errorf("only %d lines of openssl ciphers were read", lines)
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct {
		got, want string
	}{
		{SuiteName(0x1301), "TLS_AES_128_GCM_SHA256"},
		{SuiteName(0xc02b), "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"},
		{SuiteName(0x009e), "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256"},
		{SuiteName(0xc0ac), "TLS_ECDHE_ECDSA_WITH_AES_128_CCM"},
		{SuiteName(0x0088), "TLS_DHE_RSA_WITH_CAMELLIA_256_CBC_SHA"},
		{SuiteName(0x00ff), "TLS_EMPTY_RENEGOTIATION_INFO_SCSV"},
		{SuiteName(0x5600), "TLS_FALLBACK_SCSV"},
		{SuiteName(0x1a2b), "0x1a2b"},
		{SuiteName(0x1a1a), "GREASE(0x1a1a)"},
		{SuiteName(0xfafa), "GREASE(0xfafa)"},
		{SuiteName(0x1a2a), "0x1a2a"},
		{GroupName(0x11ec), "X25519MLKEM768"},
		{GroupName(0x001d), "X25519"},
		{GroupName(0x0017), "secp256r1"},
		{GroupName(0x0100), "ffdhe2048"},
		{GroupName(0x001e), "X448"},
		{GroupName(0x0a0a), "GREASE(0x0a0a)"},
		{GroupName(0x00fe), "0x00fe"},
		{VersionName(0x0304), "TLS 1.3"},
		{VersionName(0x0300), "SSL 3.0"},
		{VersionName(0x0305), "0x0305"},
		{SchemeName(0x0804), "rsa_pss_rsae_sha256"},
		{SchemeName(0x0808), "ed448"},
		{SchemeName(0xffff), "0xffff"},
		{extensionName(0), "server_name(0)"},
		{extensionName(0x7777), "0x7777"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

// No number and no name of a table stands for two things.
func TestTablesNameOnce(t *testing.T) {
	for _, table := range [][]code{groupTable[:], schemeTable[:], versionTable[:], extensionTable[:]} {
		ids, names := map[uint16]bool{}, map[string]bool{}
		for _, c := range table {
			if ids[c.id] || names[c.name] {
				t.Errorf("%#04x %s stands twice", c.id, c.name)
			}
			ids[c.id], names[c.name] = true, true
		}
	}
}
