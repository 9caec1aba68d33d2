package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/lab/demo"
)

func TestDemoList(t *testing.T) {
	var out bytes.Buffer
	text, code, err := runCmd(newDemoCmd(&out, io.Discard), &out, "--list")
	if err != nil || code != 0 || strings.Count(text, "\n") != len(demo.Scenarios()) || !strings.Contains(text, "thief-tls13") {
		t.Errorf("%d, %v\n%s", code, err, text)
	}
	if _, code, err := runCmd(newDemoCmd(&out, io.Discard), &out, "--only", "thief-tls14"); code != 2 || !strings.Contains(err.Error(), "thief-tls1") {
		t.Errorf("a scenario that is not there: %d, %v", code, err)
	}
	if _, code, err := runCmd(newDemoCmd(&out, io.Discard), &out, "--engine", "natve"); code != 2 || err == nil {
		t.Errorf("an engine that is not there: %d, %v", code, err)
	}
}

// A normal user's demo starts itself again: with the same meaning.
func TestDemoArgs(t *testing.T) {
	got := demoArgs(demo.Options{JSON: true, Only: []string{"a", "b"}, Engine: "native", Binary: "/x"})
	if s := strings.Join(got, " "); s != "demo --json --only a --only b --engine native --gateway /x" {
		t.Error(s)
	}
	if s := strings.Join(demoArgs(demo.Options{}), " "); s != "demo" {
		t.Error(s)
	}
}

func TestLabRefuses(t *testing.T) {
	var out bytes.Buffer
	if _, code, err := runCmd(newLabCmd(&out, io.Discard), &out, "exec", "nowhere", "true"); code != 2 || !strings.Contains(err.Error(), "client, gateway or server") {
		t.Errorf("an unknown namespace: %d, %v", code, err)
	}
	if _, code, err := runCmd(newLabCmd(&out, io.Discard), &out, "exec", "client"); code != 2 {
		t.Errorf("no command: %d, %v", code, err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, code, err := runCmd(newLabCmd(&out, io.Discard), &out, "up", "--dir", dir); code != 2 || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("a folder with something in it: %d, %v", code, err)
	}
}
