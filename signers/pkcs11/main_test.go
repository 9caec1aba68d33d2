package main

import (
	"context"
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ThalesGroup/crypto11"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/signer"
)

// libraries are where distributions put SoftHSM.
var libraries = []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"}

// softHSM makes a token with PIN 1234 and returns the library.
func softHSM(t *testing.T) string {
	t.Helper()
	testenv.Tool(t, "softhsm2-util")
	library := ""
	for _, path := range libraries {
		if _, err := os.Stat(path); err == nil {
			library = path
		}
	}
	if library == "" {
		testenv.Missing(t, "the library of SoftHSM is in none of %v", libraries)
	}
	dir := t.TempDir()
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+dir+"\nobjectstore.backend = file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	if out, err := exec.CommandContext(testenv.Context(t), "softhsm2-util", "--init-token", "--free", "--label", "gateway", "--so-pin", "4321", "--pin", "1234").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return library
}

// Keys that are made in a module, and never leave it, sign what TLS needs.
func TestSoftHSM(t *testing.T) {
	library := softHSM(t)
	t.Setenv("TEST_PIN", "1234")
	module, err := crypto11.Configure(&crypto11.Config{Path: library, TokenLabel: "gateway", Pin: "1234"})
	if err != nil {
		t.Fatal(err)
	}
	ec, err := module.GenerateECDSAKeyPairWithLabel([]byte{1}, []byte("ec"), elliptic.P256())
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := module.GenerateRSAKeyPairWithLabel([]byte{2}, []byte("rsa"), 2048)
	if err != nil {
		t.Fatal(err)
	}
	public := map[string]crypto.PublicKey{"ec": ec.Public(), "rsa": rsaKey.Public()}
	if err := module.Close(); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "signer")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	socket := filepath.Join(dir, "s.sock")
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := run(ctx, []string{"-module", library, "-token", "gateway", "-pin", "env:TEST_PIN", "-key", "ec", "-key", "rsa", "-socket", socket}, w, os.Stderr)
		_ = w.CloseWithError(err)
		done <- err
	}()
	line := make([]byte, 200)
	n, err := r.Read(line)
	if err != nil || !strings.Contains(string(line[:n]), "with 2 keys of token gateway") {
		t.Fatalf("%q, %v", line[:n], err)
	}
	c := signer.New(socket, testenv.Patience())
	defer c.Close()
	pss := func(h crypto.Hash) crypto.SignerOpts {
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: h}
	}
	for label, ways := range map[string][]crypto.SignerOpts{
		"ec": {crypto.SHA256, crypto.SHA384}, "rsa": {crypto.SHA256, crypto.SHA512, pss(crypto.SHA256), pss(crypto.SHA384)},
	} {
		k, err := c.Remote(public[label])
		if err != nil {
			t.Fatal(err)
		}
		keys, err := c.Keys(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.Among(keys); err != nil {
			t.Error(err)
		}
		for _, opts := range ways {
			digest := make([]byte, opts.HashFunc().Size())
			_, _ = rand.Read(digest)
			if _, err := k.Sign(nil, digest, opts); err != nil { // which verifies it
				t.Errorf("%s, %v: %v", label, fmt.Sprint(opts), err)
			}
		}
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(testenv.Patience()):
		t.Error("it does not end")
	}
	if err := run(t.Context(), []string{"-module", library, "-token", "gateway", "-pin", "env:TEST_PIN", "-key", "none", "-socket", socket}, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "was not found") {
		t.Error(err)
	}
}
