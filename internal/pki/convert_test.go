package pki

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/pemfile"
)

// shell runs a command in dir. It has no terminal, so programs read
// passphrases from its standard input.
func shell(t *testing.T, dir, command string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), "sh", "-c", command)
	c.Dir, c.Stdin, c.SysProcAttr = dir, strings.NewReader(strings.Repeat("secret12\n", 6)), &syscall.SysProcAttr{Setsid: true}
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

// javaStore begins the command that makes a key store with Java's own tool.
const javaStore = "openssl pkcs12 -export -name x -in c.pem -inkey k.pem -passout pass:secret12 -out p && keytool -importkeystore -noprompt -srckeystore p -srcstoretype PKCS12 -srcstorepass secret12 -deststorepass secret12 "

// The commands in errors work as they are, on files whose name has a space and quotes,
// and their results are read; a file with a key is readable only by its owner.
func TestCommandsWork(t *testing.T) {
	testenv.Tool(t, "openssl")
	const name = `odd 'file' "here"`
	for what, c := range map[string]struct {
		make string // of c.pem and k.pem, into f
		key  bool
		load int // what is loaded: 1 certificates, 2 a key; 4 times the number of certificates, where it is not one
	}{
		"PKCS#12":              {"openssl pkcs12 -export -in c.pem -inkey k.pem -passout pass:secret12 -out f", false, 3},
		"PKCS#12 as key":       {"openssl pkcs12 -export -in c.pem -inkey k.pem -passout pass:secret12 -out f", true, 3},
		"certificate in DER":   {"openssl x509 -in c.pem -outform DER -out f", false, 1},
		"PKCS#7 in DER":        {"openssl crl2pkcs7 -nocrl -certfile c.pem -outform DER -out f", false, 1},
		"PKCS#7":               {"openssl crl2pkcs7 -nocrl -certfile c.pem -out f", false, 1},
		"trusted":              {"openssl x509 -in c.pem -trustout -addtrust clientAuth -out f", false, 1},
		"three trusted":        {"for i in 1 2 3; do openssl x509 -in c.pem -trustout -addtrust clientAuth; done > f", false, 1 + 4*3},
		"trusted and not":      {"openssl x509 -in c.pem -trustout -addtrust clientAuth > f && cat c.pem >> f", false, 1 + 4*2},
		"PKCS#12, RC2":         {"openssl pkcs12 -export -legacy -in c.pem -inkey k.pem -passout pass:secret12 -out f", false, 3},
		"PKCS#12, RC2 as key":  {"openssl pkcs12 -export -legacy -in c.pem -inkey k.pem -passout pass:secret12 -out f", true, 3},
		"PKCS#12, RC4":         {"openssl pkcs12 -export -legacy -keypbe PBE-SHA1-RC4-128 -certpbe PBE-SHA1-RC2-128 -in c.pem -inkey k.pem -passout pass:secret12 -out f", true, 3},
		"PKCS#12, 3DES":        {"openssl pkcs12 -export -keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES -in c.pem -inkey k.pem -passout pass:secret12 -out f", false, 3},
		"PKCS#12 of Java":      {javaStore + "-deststoretype PKCS12 -destkeystore f", false, 3},
		"encrypted key in DER": {"openssl pkcs8 -topk8 -in k.pem -passout pass:secret12 -outform DER -out f", true, 2},
		"key of RSA in DER":    {"openssl genrsa -traditional 2048 > r && openssl rsa -traditional -in r -outform DER -out f", true, 2},
		"old label":            {"sed 's/ CERT/ X509 CERT/' c.pem > f", false, 1},
		"UTF-16":               {"iconv -f UTF-8 -t UTF-16 c.pem > f", false, 1},
		"key in DER":           {"openssl pkey -in k.pem -outform DER -out f", true, 2},
		"encrypted key":        {"openssl pkcs8 -topk8 -in k.pem -passout pass:secret12 -out f", true, 2},
		"encrypted, old form":  {"openssl ec -in k.pem -aes256 -passout pass:secret12 -out f", true, 2},
		"key in OpenSSH's own": {"cp k.pem f && chmod 600 f && ssh-keygen -q -t ecdsa -N '' -f s && mv s f", true, 2},
	} {
		t.Run(what, func(t *testing.T) {
			for _, tool := range []string{"ssh-keygen", "keytool"} {
				if strings.Contains(c.make, tool) {
					testenv.Tool(t, tool)
				}
			}
			dir := t.TempDir()
			file := filepath.Join(dir, name)
			shell(t, dir, "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x -days 9 -keyout k.pem -out c.pem && "+c.make)
			if err := os.Rename(filepath.Join(dir, "f"), file); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if c.key {
				_, err = ParseKey(data)
			} else {
				_, err = ParseChain(data, 0o600)
			}
			if err == nil {
				t.Fatal("taken as it is")
			}
			// Twice: the commands overwrite nothing.
			for n := 1; n <= 2; n++ {
				told := strings.Split(pemfile.Named(err, file).Error(), "`")
				for i := 1; i < len(told)-1; i += 2 {
					shell(t, "/", told[i])
				}
				loadedFrom(t, dir, name, c.load, n)
			}
		})
	}
}

// A key store of Java's own form is converted to PKCS#12, whose commands are given then.
func TestJKSWorks(t *testing.T) {
	testenv.Tool(t, "keytool")
	dir := t.TempDir()
	shell(t, dir, "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x -days 9 -keyout k.pem -out c.pem && "+javaStore+"-deststoretype JKS -destkeystore 'a store'")
	file := filepath.Join(dir, "a store")
	for range 2 {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = ParseCertificates(data); err == nil {
			t.Fatal("taken as it is")
		}
		told := strings.Split(pemfile.Named(err, file).Error(), "`")
		for i := 1; i < len(told)-1; i += 2 {
			shell(t, "/", told[i])
		}
		file += ".new"
	}
	loadedFrom(t, dir, "a store.new", 3, 1)
}

// loadedFrom checks the files that commands have made beside a file.
func loadedFrom(t *testing.T, dir, name string, want, times int) {
	t.Helper()
	got, certFiles, keyFiles := 0, 0, 0
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), name+".") || strings.HasSuffix(e.Name(), ".pub") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if certs, err := ParseCertificates(data); err == nil && len(certs) == max(1, want>>2) {
			got |= 1
			certFiles++
		}
		if _, err := ParseKey(data); err == nil {
			got |= 2
			keyFiles++
			if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("the key has mode %v, %v", info.Mode(), err)
			}
		}
	}
	if got != want&3 || got&1 != 0 && certFiles != times || got&2 != 0 && keyFiles != times {
		t.Errorf("loaded %b, want %b; %d files of certificates and %d of keys, want %d", got, want, certFiles, keyFiles, times)
	}
}

// Certificate and key in one file are accepted, in any order, if the file's mode is that
// of a key, and nowhere else.
func TestChainWithKey(t *testing.T) {
	dir := t.TempDir()
	testenv.Tool(t, "openssl")
	shell(t, dir, "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x -days 9 -keyout k.pem -out c.pem && cat c.pem k.pem > a && cat k.pem c.pem > b && openssl ec -in k.pem -out e.pem && openssl ecparam -name prime256v1 >> c.pem && cat c.pem e.pem > d")
	for _, name := range []string{"a", "b", "d"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, mode := range []fs.FileMode{0o600, 0o640, 0o400} {
			if certs, err := ParseChain(data, mode); err != nil || len(certs) != 1 {
				t.Errorf("%s, mode %04o: %v", name, mode, err)
			}
		}
		for _, mode := range []fs.FileMode{0o644, 0o604, 0o602} {
			if _, err := ParseChain(data, mode); err == nil || !strings.Contains(err.Error(), "`chmod o= FILE`") {
				t.Errorf("%s, mode %04o: %v", name, mode, err)
			}
		}
		if _, err := ParseCertificates(data); err == nil {
			t.Errorf("%s: a key among authorities", name)
		}
		if _, err := ParseKey(data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParseKey([]byte(jks + "\x00\x00")); err == nil || !strings.Contains(err.Error(), "keytool") {
		t.Errorf("Java's key store: %v", err)
	}
}
