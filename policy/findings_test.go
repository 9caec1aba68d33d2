package policy

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sslgate/sslgate/internal/fielderr"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Every file is one case: a policy section, a line of dashes, and what is
// wrong with it. A policy without findings has nothing after the dashes.
func TestFindings(t *testing.T) {
	files, err := filepath.Glob("testdata/findings/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	line := []byte("----\n")
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			text, want, _ := bytes.Cut(data, line)
			set, findings := Compile(readSpec(t, string(text)), testEnv(t))
			var got bytes.Buffer
			failed := false
			for _, f := range findings {
				kind := "error"
				if f.Warning {
					kind = "warning"
				}
				failed = failed || !f.Warning
				fmt.Fprintf(&got, "%s: %s\n", kind, f)
			}
			if failed != (set == nil) {
				t.Errorf("failed is %v, but the set is nil: %v", failed, set == nil)
			}
			if *update {
				if err := os.WriteFile(file, bytes.Join([][]byte{text, got.Bytes()}, line), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCheckPermits(t *testing.T) {
	found := CheckPermits(&PermitsSpec{
		SPIFFE: []string{"corp", "spiffe://corp/*", "Corp", "a b"},
		DNS:    []string{".example.org", "example.org", "*.example.org", "exa mple", "EXAMPLE.org"},
		URI:    []string{"https://a.example/", "https://a.example", "spiffe://corp/", "https:///", "https://a/*"},
		Email:  []string{"example.org", "joe@example.org", ".example.org"},
		IP:     []string{"10.0.0.0/8", "10.0.0.1/8", "fd00::/8", "x"},
	})
	var got []string
	for _, f := range found {
		got = append(got, f.Path)
		if f.Warning != (f.Path == "dns[4]") {
			t.Errorf("%v: warning is %v", f, f.Warning)
		}
	}
	want := []string{
		"spiffe[1]", "spiffe[2]", "spiffe[3]", "dns[2]", "dns[3]", "dns[4]",
		"uri[1]", "uri[2]", "uri[3]", "uri[4]", "email[1]", "email[2]", "ip[1]", "ip[3]",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("paths (-want +got):\n%s\n%v", diff, found)
	}
	if found := CheckPermits(nil); found != nil {
		t.Errorf("nil permits: %v", found)
	}
	var l fielderr.List
	if p := compilePermits(newScope(&l, ""), nil); p != nil {
		t.Error("nil permits must stay nil: any name")
	}
}
