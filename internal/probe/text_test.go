package probe_test

import (
	"crypto/tls"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/probe"
)

// Whatever a server puts into its names, the text stays within 80 columns of printable
// characters and has everything that was found.
func TestTextOfAHostileServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	evil := testpki.Must(w.ca.Issue(testpki.Leaf{CN: "\x1b[2Jpay\u202egnp.exe\nverified, by CN=God", DNS: []string{"pay.example"}}))
	evilCA := testpki.Must(testpki.NewCA(testpki.Options{CN: "\x1b]0;owned\x07" + strings.Repeat("long ", 40)}))
	o := w.options(serveTLS(t, &tls.Config{
		Certificates: []tls.Certificate{evil.TLS()}, ClientAuth: tls.RequestClientCert, ClientCAs: evilCA.Pool(),
	}))
	o.Against = &handshake.NamedProfiles()[0]
	r := run(t, o)
	text := r.Text()
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if n := utf8.RuneCountInString(line); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
		for _, c := range line {
			if c < ' ' || c == 0x7f || c >= 0x202a && c <= 0x202e {
				t.Errorf("%q in %q", c, line)
			}
		}
		if strings.HasPrefix(line, "verified") {
			t.Errorf("a name forges a line: %s", line)
		}
	}
	for _, word := range []string{"probed", "ClientHello", "certificate", "versions     TLS 1.3, TLS 1.2", "X25519MLKEM768", `\1B`, "asks", "resumption", "refusals", "profile modern: no"} {
		if !strings.Contains(text, word) {
			t.Errorf("%q is not in the text:\n%s", word, text)
		}
	}
	// Nobody stands to the left of sslgate.
	for line := range strings.Lines(r.Picture) {
		if len(line) > 5 && line[5] == '|' || strings.Contains(line, " client ") && strings.Contains(line, "destination") {
			t.Errorf("the picture has a client: %s", line)
		}
	}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back probe.Result
	if err := json.Unmarshal(b, &back); err != nil || len(back.Suites13) != len(r.Suites13) || back.Fit == nil {
		t.Errorf("the JSON does not come back: %v", err)
	}
}
