package config

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// An encrypted key is read with a passphrase of each place that one may stand in; the
// passphrase, right or wrong, is in nothing that is printed.
func TestPassphrases(t *testing.T) {
	testenv.Tool(t, "openssl")
	dir := t.TempDir()
	put := func(name string, mode os.FileMode, text []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), text, mode); err != nil {
			t.Fatal(err)
		}
	}
	const right, wrong = "open sesame", "open barley"
	ca := testpki.Must(testpki.NewCA(testpki.Options{}))
	leaf := testpki.Must(ca.Issue(testpki.Leaf{DNS: []string{"pay.example"}}))
	if _, _, err := leaf.WritePEM(dir, "pay"); err != nil {
		t.Fatal(err)
	}
	text, err := exec.CommandContext(testenv.Context(t), "openssl", "pkcs8", "-topk8", "-in", filepath.Join(dir, "pay.key"), "-passout", "pass:"+right).Output()
	if err != nil {
		t.Fatal(err)
	}
	put("locked.key", 0o600, text)
	put("ca.pem", 0o644, ca.PEM())
	put("right", 0o600, []byte(right+"\n"))
	put("wrong", 0o600, []byte(wrong+"\n"))
	put("open", 0o644, []byte(right+"\n"))
	put("empty", 0o600, []byte("\n"))
	t.Setenv(fileset.CredentialsVariable, dir)
	t.Setenv("SSLGATE_TEST_PASSPHRASE", right)
	plain := testpki.Must(os.ReadFile(filepath.Join(dir, "pay.key")))
	t.Setenv("SSLGATE_TEST_KEY", string(plain))
	for pair, want := range map[string]string{
		"key: locked.key, passphrase: right":                                      "",
		"key: locked.key, passphrase: 'file:right'":                               "",
		"key: locked.key, passphrase: 'credential:right'":                         "",
		"key: 'credential:locked.key', passphrase: 'env:SSLGATE_TEST_PASSPHRASE'": "",
		"key: 'credential:pay.key'":                                               "",
		"key: 'env:SSLGATE_TEST_KEY'":                                             "",
		"key: locked.key, passphrase: wrong":                                      "the passphrase does not decrypt the key",
		"key: locked.key, passphrase: empty":                                      "is empty",
		"key: locked.key, passphrase: open":                                       "is open to everyone",
		"key: locked.key, passphrase: 'env:SSLGATE_TEST_NONE'":                    "the environment variable is not set",
		"key: locked.key, passphrase: 'credential:none'":                          "no such file",
		"key: locked.key":                                                         "no passphrase of it is known",
		"key: pay.key, passphrase: right":                                         "warning: its passphrase has no effect",
	} {
		put("gateway.yaml", 0o644, []byte("version: 1\ncapture: {interfaces: [eth1], ports: [443]}\nauthorities: {staff: {roots: ca.pem}}\n"+
			"identities: {pay: {certificate: pay.pem, "+pair+"}}\npolicy:\n  rules:\n"+
			"    - {name: r, to: ['10.0.0.0/8:443'], identity: pay, client: {certificate: required, authorities: [staff]}, destination: {tls: plain}}\n"))
		rt, found := Check(filepath.Join(dir, "gateway.yaml"), stdtls.New())
		said := messages(found)
		warns := strings.HasPrefix(want, "warning: ")
		want = strings.TrimPrefix(want, "warning: ")
		if (rt == nil) != (want != "" && !warns) || !strings.Contains(said, want) {
			t.Errorf("%s: %s", pair, said)
		}
		for _, secret := range []string{right, wrong, strings.Split(string(plain), "\n")[1]} {
			if strings.Contains(said, secret) {
				t.Errorf("%s: a secret is printed: %s", pair, said)
			}
		}
		if rt != nil && !strings.Contains(pair, "env:SSLGATE_TEST_KEY") && len(rt.Own) != 1 {
			t.Errorf("%s: %d identities", pair, len(rt.Own))
		}
	}
}
