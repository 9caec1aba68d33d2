package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// `sslgate signer` has the key, and `check` of a gateway that has not: one that is not there
// yet is a warning, one without the key of the certificate a mistake.
func TestSignerCommand(t *testing.T) {
	dir, err := os.MkdirTemp("", "signer") // a short path: that of a socket has at most 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	put := func(name string, mode os.FileMode, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	ca := testpki.Must(testpki.NewCA(testpki.Options{}))
	put("ca.pem", 0o644, string(ca.PEM()))
	for _, name := range []string{"pay", "other"} {
		if _, _, err := testpki.Must(ca.Issue(testpki.Leaf{DNS: []string{name + ".example"}})).WritePEM(dir, name); err != nil {
			t.Fatal(err)
		}
	}
	check := func(name string) (int, string) {
		put("sslgate.yaml", 0o644, "version: 1\ncapture: {interfaces: [eth1], ports: [443]}\nauthorities: {staff: {roots: ca.pem}}\n"+
			"identities: {"+name+": {certificate: "+name+".pem, key: 'signer:s.sock'}}\npolicy:\n  rules:\n"+
			"    - {name: r, to: ['10.0.0.0/8:443'], identity: "+name+", client: {certificate: required, authorities: [staff]}, destination: {tls: plain}}\n")
		code, out, errs := called("check", "-c", filepath.Join(dir, "sslgate.yaml"))
		return code, out + errs
	}
	if code, said := check("pay"); code != 0 || !strings.Contains(strings.Join(strings.Fields(said), " "), "handshakes fail until it answers") {
		t.Errorf("without a signer: %d\n%s", code, said)
	}
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		r, w := io.Pipe()
		done := make(chan error, 1)
		o := signerOptions{socket: filepath.Join(dir, "s.sock"), keys: []string{filepath.Join(dir, "pay.key")}}
		go func() { done <- o.run(ctx, w) }()
		line, err := bufio.NewReader(r).ReadString('\n')
		if err != nil || !strings.Contains(line, "with 1 key") {
			t.Fatalf("%q, %v", line, err)
		}
		if code, said := check("pay"); code != 0 || strings.Contains(strings.Join(strings.Fields(said), " "), "handshakes fail") {
			t.Errorf("with a signer: %d\n%s", code, said)
		}
		if code, said := check("other"); code != 2 || !strings.Contains(strings.Join(strings.Fields(said), " "), "the signer does not have the key of the certificate") {
			t.Errorf("with another key: %d\n%s", code, said)
		}
		if err := o.run(ctx, io.Discard); err == nil || !strings.Contains(err.Error(), "another process listens there") {
			t.Errorf("a second one: %v", err)
		}
		cancel()
		if err := testenv.Receive(t, "the signer ends", done); err != nil {
			t.Error(err)
		}
	}
	o := signerOptions{socket: filepath.Join(dir, "s.sock"), keys: []string{filepath.Join(dir, "pay.pem")}}
	if err := o.run(t.Context(), io.Discard); err == nil || !strings.Contains(err.Error(), "no private key") {
		t.Errorf("a certificate in the place of a key: %v", err)
	}
}
