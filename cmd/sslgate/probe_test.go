package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// probeServer is a server of TLS 1.3 alone, which asks for a certificate.
func probeServer(t *testing.T, ca *testpki.CA) string {
	t.Helper()
	cert := testpki.Must(ca.Issue(testpki.Leaf{IPs: []string{"127.0.0.1"}}))
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{cert.TLS()}, MinVersion: tls.VersionTLS13, ClientAuth: tls.RequestClientCert,
		CurvePreferences: []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256, tls.CurveP384},
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(testenv.Deadline())
			_, _ = c.Read(make([]byte, 1))
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = ln.Close(); <-done })
	return ln.Addr().String()
}

func sslgate(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

func TestProbeCommand(t *testing.T) {
	dir := t.TempDir()
	ca := testpki.Must(testpki.NewCA(testpki.Options{}))
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), ca.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	cert, key, err := testpki.Must(ca.Issue(testpki.Leaf{CN: "alice"})).WritePEM(dir, "alice")
	if err != nil {
		t.Fatal(err)
	}
	_, otherKey, err := testpki.Must(ca.Issue(testpki.Leaf{CN: "bob"})).WritePEM(dir, "bob")
	if err != nil {
		t.Fatal(err)
	}
	addr, caFile := probeServer(t, ca), filepath.Join(dir, "ca.pem")

	code, out, errs := sslgate(t, "probe", addr, "--ca", caFile, "--against", "modern", "--cert", cert, "--key", key)
	if code != 0 || !strings.Contains(out, "profile modern: yes") || !strings.Contains(out, "verified, by CN=Test CA") {
		t.Errorf("code %d: %s%s", code, out, errs)
	}
	if !strings.Contains(errs, "at most 160 connections") {
		t.Errorf("it does not say how many connections it makes: %q", errs)
	}
	code, out, errs = sslgate(t, "probe", addr, "--json", "--against", "bsi")
	var r struct {
		Fit struct {
			Fits       bool
			Violations []string
		}
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 1 || r.Fit.Fits || len(r.Fit.Violations) == 0 || errs != "" {
		t.Errorf("code %d, %v: %s%s", code, err, out, errs)
	}

	for name, tt := range map[string]struct {
		args []string
		code int
		say  string
	}{
		"no address":        {nil, 2, "something is missing"},
		"no port":           {[]string{"127.0.0.1"}, 2, "not HOST:PORT"},
		"profile":           {[]string{addr, "--against", "modernn"}, 2, "modern"},
		"key without cert":  {[]string{addr, "--key", key}, 2, "belong together"},
		"another's key":     {[]string{addr, "--cert", cert, "--key", otherKey}, 2, "alice.pem"},
		"no such file":      {[]string{addr, "--ca", filepath.Join(dir, "none.pem")}, 2, "none.pem"},
		"no time":           {[]string{addr, "--timeout", "0s"}, 2, "timeout"},
		"nobody is there":   {[]string{closedPort(t), "--timeout", "3s"}, 1, "refused"},
		"key is no key":     {[]string{addr, "--cert", cert, "--key", caFile}, 2, "ca.pem"},
		"ca is no CA's PEM": {[]string{addr, "--ca", key}, 2, "alice.key"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errs := sslgate(t, append([]string{"probe"}, tt.args...)...)
			if code != tt.code || out != "" || !strings.Contains(errs, tt.say) {
				t.Errorf("code %d, want %d: %q %q", code, tt.code, out, errs)
			}
		})
	}
}

func closedPort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
	return ln.Addr().String()
}

func TestProfilesCommand(t *testing.T) {
	code, out, errs := sslgate(t, "profiles")
	if code != 0 || errs != "" {
		t.Fatalf("code %d: %s", code, errs)
	}
	engine := stdtls.New()
	for _, p := range handshake.NamedProfiles() {
		if !strings.Contains(out, "profile      "+p.Name+"\n") {
			t.Errorf("%s is not listed", p.Name)
		}
		code, one, _ := sslgate(t, "profiles", p.Name)
		if code != 0 || !strings.Contains(out, one) {
			t.Errorf("profiles %s: code %d, %s", p.Name, code, one)
		}
		for _, id := range append(append([]uint16{}, p.Suites12...), p.Suites13...) {
			if !strings.Contains(one, handshake.SuiteName(id)) {
				t.Errorf("%s: %s is missing", p.Name, handshake.SuiteName(id))
			}
		}
		if kept := strings.Contains(one, "kept"); kept != (len(engine.Cannot(&handshake.Params{Profile: p})) == 0) {
			t.Errorf("%s: kept is %v:\n%s", p.Name, kept, one)
		}
		if !strings.Contains(one, "source") || strings.Contains(one, "source       \n") {
			t.Errorf("%s has no source", p.Name)
		}
	}
	code, out, _ = sslgate(t, "profiles", "cnsa2", "--json")
	var all struct {
		Profiles []struct {
			Name   string
			Source string
			Cannot []struct{ Demand, Why string }
		}
	}
	if err := json.Unmarshal([]byte(out), &all); err != nil || code != 0 || len(all.Profiles) != 1 || len(all.Profiles[0].Cannot) == 0 || all.Profiles[0].Source == "" {
		t.Errorf("%v: %s", err, out)
	}
	if code, out, errs := sslgate(t, "profiles", "bsy"); code != 2 || out != "" || !strings.Contains(errs, "bsi") {
		t.Errorf("code %d: %s%s", code, out, errs)
	}
}
