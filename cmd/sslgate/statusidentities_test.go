package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/admin"
)

// Identities that are ordered, and those whose source fails, have a line with the hours left, and
// one with why; what others have written is escaped. Files that are in order have none.
func TestStatusOfIdentities(t *testing.T) {
	ends := time.Now()
	var b strings.Builder
	printIdentities(func(name, format string, args ...any) { fmt.Fprintf(&b, name+"|"+format+"\n", args...) }, admin.Status{Identities: []admin.IdentitySource{
		{Name: "calm", Source: "files", NotAfter: &ends, HoursLeft: 100},
		{Name: "late", Source: "files", NotAfter: &ends, HoursLeft: -0.5, Error: "expired\x1b[31m"},
		{Name: "new", Source: "acme", Error: "being ordered"},
		{Name: "shop", Source: "acme", NotAfter: &ends, HoursLeft: 719.9},
	}})
	want := "identities|late: files, -0.5 hours left\n|late: expired\\x1b[31m\n|new: acme, no certificate\n|new: being ordered\n|shop: acme, 719.9 hours left\n"
	if b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}
