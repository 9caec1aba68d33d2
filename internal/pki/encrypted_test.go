package pki

import (
	"crypto"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// openssl encrypts a key as its users do.
func openssl(t *testing.T, key []byte, args ...string) []byte {
	t.Helper()
	in := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(in, key, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(testenv.Context(t), "openssl", append([]string{"pkcs8", "-topk8", "-in", in, "-passout", "pass:open sesame"}, args...)...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// What OpenSSL encrypts is decrypted, by its passphrase alone.
func TestEncryptedKeys(t *testing.T) {
	testenv.Tool(t, "openssl")
	for _, kind := range []testpki.KeyKind{testpki.P256, testpki.RSA2048, testpki.Ed25519} {
		key := testpki.Must(testpki.NewKey(kind))
		plain := testpki.Must(testpki.KeyPEM(key))
		if got, encrypted, err := DecryptKey(plain, []byte("of no use")); err != nil || encrypted || !sameKey(got, key) {
			t.Errorf("not encrypted: %v %v", encrypted, err)
		}
		for _, args := range [][]string{
			{"-v2", "aes-256-cbc"}, {"-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA512"}, {"-v2", "aes-192-cbc", "-v2prf", "hmacWithSHA1"},
			{"-v2", "des3", "-v2prf", "hmacWithSHA384"}, {"-scrypt"}, {"-iter", "100000"},
		} {
			text := openssl(t, plain, args...)
			got, encrypted, err := DecryptKey(text, []byte("open sesame"))
			if err != nil || !encrypted || !sameKey(got, key) {
				t.Errorf("%v: %v %v", args, encrypted, err)
			}
			if got, _, err := DecryptKey(text, []byte("open barley")); got != nil || err == nil {
				t.Errorf("%v: a wrong passphrase: %v", args, err)
			}
			if _, _, err := DecryptKey(text, nil); err == nil {
				t.Errorf("%v: no passphrase", args)
			}
		}
	}
	text := openssl(t, testpki.Must(testpki.KeyPEM(testpki.Must(testpki.NewKey(testpki.P256)))), "-v1", "PBE-SHA1-3DES")
	_, _, err := DecryptKey(text, []byte("open sesame"))
	wantErr(t, err, "only PBES2 is read")
}

func sameKey(a, b crypto.Signer) bool {
	pub, ok := a.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && pub.Equal(b.Public())
}

// Whatever the file: a key or an error, and the work is bounded.
func FuzzDecrypt(f *testing.F) {
	for _, name := range []string{"aes", "scrypt"} {
		text, err := os.ReadFile(filepath.Join("testdata", name+".key"))
		if err != nil {
			f.Fatal(err)
		}
		b, _ := pem.Decode(text)
		f.Add(b.Bytes)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		key, err := decrypt(der, []byte("open sesame"))
		if (key == nil) == (err == nil) {
			t.Fatalf("%v, %v", key, err)
		}
	})
}
