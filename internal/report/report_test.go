package report

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/policytest"
	"github.com/sslgate/sslgate/internal/reason"
)

var start = time.Date(2026, 11, 1, 8, 0, 0, 0, time.UTC)

// written is a record as the gateway writes it, with its end of line.
func written(t testing.TB, change func(r *audit.Record)) []byte {
	t.Helper()
	r := audit.NewRecord("1-1", start, netip.MustParseAddrPort("10.1.0.7:4000"), netip.MustParseAddrPort("10.20.0.9:443"))
	r.Hello = hello(t, policytest.Hello{SNI: "pay.example", ALPN: []string{"h2"}})
	r.SNI, r.ALPN = r.Hello.ServerName, r.Hello.ALPN
	r.Action, r.Reason, r.Rule, r.Step = "terminate", reason.OK, "pay", 9
	r.ClientLeg = &handshake.State{Version: tls.VersionTLS13, Suite: tls.TLS_AES_128_GCM_SHA256, Group: uint16(tls.X25519MLKEM768), ALPN: "h2"}
	if change != nil {
		change(r)
	}
	var b bytes.Buffer
	if err := audit.New(&b).Write(r); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func hello(t testing.TB, h policytest.Hello) *handshake.ClientHello {
	t.Helper()
	out, err := h.ClientHello()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// day is a log of four flows: a modern client with a certificate, the same again, an old one
// that is refused, and one without TLS.
func day(t testing.TB) []byte {
	t.Helper()
	ca := testpki.Must(testpki.NewCA(testpki.Options{CN: "Staff"}))
	leaf := testpki.Must(ca.Issue(testpki.Leaf{DNS: []string{"pay.example"}, Mutate: func(c *x509.Certificate) {
		c.Subject.CommonName, c.NotBefore, c.NotAfter = "pay\x1b[31m", start.Add(-time.Hour), start.Add(10*24*time.Hour)
	}}))
	old := policytest.Hello{Versions: []string{"1.2"}, Groups: []string{"secp256r1"}, Suites: []string{"ECDHE-RSA-AES128-GCM-SHA256"}}
	var b bytes.Buffer
	for i := range 2 {
		b.Write(written(t, func(r *audit.Record) {
			r.Start = start.Add(time.Duration(i) * time.Minute)
			r.Peer = &handshake.Peer{Shown: leaf.Chain, Authority: "staff", Proven: true}
		}))
	}
	b.Write(written(t, func(r *audit.Record) {
		r.Client = netip.MustParseAddrPort("10.1.0.8:4000")
		r.Hello, r.SNI, r.ALPN = hello(t, old), "", nil
		r.ClientLeg, r.Action, r.Reason, r.Step = nil, "deny", reason.ProtocolVersion, 1
	}))
	b.Write(written(t, func(r *audit.Record) {
		r.Client = netip.MustParseAddrPort("10.1.0.9:4000")
		r.Hello, r.ClientLeg, r.Plaintext, r.Action, r.Reason = nil, nil, true, "originate", reason.Originated
	}))
	return b.Bytes()
}

func read(t testing.TB, files ...string) (*Inventory, *Reader) {
	t.Helper()
	v, r := New(), &Reader{}
	if err := r.Each(context.Background(), files, v.Add); err != nil {
		t.Fatal(err)
	}
	return v, r
}

func file(t testing.TB, name string, text []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCrypto(t *testing.T) {
	path := file(t, "audit.jsonl", day(t))
	v, r := read(t, path)
	c := v.Crypto(v.Read([]string{path}, r))
	if c.Read.Flows != 4 || c.Read.Damaged != 0 || c.Read.From != "2026-11-01T08:00:00.000000Z" || c.Read.To != "2026-11-01T08:01:00.000000Z" {
		t.Errorf("read %+v", c.Read)
	}
	if d := cmp.Diff([]Count{{"TLS 1.3", 2}, {"plaintext", 1}}, c.Client.Versions); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]Count{{"X25519MLKEM768", 2}}, c.Client.Groups); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]Count{{"ECDSA P-256", 2}}, c.Client.Keys); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]Count{{"protocol_version", 1}}, c.Reasons); d != "" {
		t.Error(d)
	}
	if o := c.Offered; o.Hellos != 3 || o.MLKEM != 2 || o.Clients != 2 || o.ClientsWithoutMLKEM != 1 || len(o.JA4) != 2 {
		t.Errorf("offered %+v", o)
	}
	want := map[string]Profile{
		"modern":       {"modern", 1, 1, []Count{{"protocol_version", 1}}},
		"intermediate": {"intermediate", 0, 0, []Count{}},
		"cnsa2":        {"cnsa2", 3, 2, []Count{{"no_common_group", 2}, {"protocol_version", 1}}},
		"cnsa1":        {"cnsa1", 1, 1, []Count{{"no_common_suite", 1}}},
	}
	for _, p := range c.Profiles {
		if w, ok := want[p.Name]; ok {
			if d := cmp.Diff(w, p); d != "" {
				t.Error(d)
			}
			delete(want, p.Name)
		}
	}
	if len(want) > 0 {
		t.Errorf("profiles that were not judged: %v", want)
	}
}

func TestCertificatesAndClients(t *testing.T) {
	path := file(t, "audit.jsonl", day(t))
	v, r := read(t, path)
	all := v.Certificates(v.Read([]string{path}, r), start).All
	if len(all) != 1 {
		t.Fatalf("%d certificates", len(all))
	}
	c := all[0]
	if c.Of != "client" || c.Flows != 2 || c.Proven != 2 || c.Subject != `CN=pay\1B[31m` || *c.DaysLeft != 10 || c.Key != "ECDSA P-256" || c.Authority != "staff" {
		t.Errorf("%+v", c)
	}
	if d := cmp.Diff([]string{"pay.example, 10.20.0.9:443"}, c.Places); d != "" {
		t.Error(d)
	}
	clients := v.Clients(Read{}).All
	var got []string
	for _, c := range clients {
		got = append(got, fmt.Sprintf("%s %d %d %d %v", c.Address, c.Flows, c.Refused, c.NoMLKEM, c.Names))
	}
	want := []string{`10.1.0.7 2 0 0 [CN=pay\1B[31m]`, "10.1.0.8 1 1 1 []", "10.1.0.9 1 0 0 []"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"modern", "pq", "cnsa1", "cnsa2"}, clients[1].Fails); d != "" {
		t.Error(d)
	}
}

// Rotated, compressed, damaged, cut off: what can be read is read, and the rest is named.
func TestFiles(t *testing.T) {
	text := day(t)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	damaged := bytes.Join([][]byte{lines[0], []byte("{\"msg\":\"flow\",\"step\"\n\n"), lines[1], []byte("{\"msg\":\"other\"}\n{\"msg\":\"flow\",\"client\":7}\n"), bytes.Repeat([]byte("x"), maxLine+readBuffer), []byte("\n"), lines[2], lines[3][:40]}, nil)
	files := []string{file(t, "audit.jsonl", damaged), file(t, "audit.jsonl.1", text), file(t, "audit.jsonl.2.gz", packed.Bytes()), file(t, "cut.gz", packed.Bytes()[:packed.Len()-9])}
	v, r := read(t, files...)
	rd := v.Read(files, r)
	want := []Damage{
		{files[0] + ":2", "column 21: no JSON"}, {files[0] + ":5", "no record of a flow"}, {files[0] + ":6", "column 24: a field of another type than a record has"},
		{files[0] + ":7", "longer than 1 MiB"}, {files[0] + ":9", "column 41: no JSON"},
	}
	if len(rd.At) != 6 || rd.Damaged != 6 || !strings.HasPrefix(rd.At[5].Place, files[3]+":") || !strings.Contains(rd.At[5].Why, "the rest cannot be read: unexpected EOF") {
		t.Fatalf("%+v", rd.At)
	}
	if d := cmp.Diff(want, rd.At[:5]); d != "" {
		t.Error(d)
	}
	if rd.Flows < 11 || rd.Flows > 15 {
		t.Errorf("%d flows", rd.Flows)
	}
	in := &Reader{Stdin: bytes.NewReader(text)}
	piped := New()
	if err := in.Each(context.Background(), []string{"-"}, piped.Add); err != nil || piped.flows != 4 {
		t.Errorf("stdin: %v, %d flows", err, piped.flows)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	many := file(t, "many", bytes.Repeat(text, tellEvery))
	if err := (&Reader{}).Each(ctx, []string{many}, New().Add); err == nil {
		t.Error("a canceled report goes on")
	}
}

// The tables are bounded, and a full one is named.
func TestFullTables(t *testing.T) {
	v := New()
	line := written(t, nil)
	for i := range maxClients + 100 {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		if err := v.Add(bytes.Replace(line, []byte("10.1.0.7"), []byte(a.String()), 1)); err != nil {
			t.Fatal(err)
		}
	}
	rd := v.Read(nil, &Reader{})
	if d := cmp.Diff([]string{"clients"}, rd.Full); d != "" || len(v.clients.m) != maxClients || v.clients.lost != 100 {
		t.Errorf("%s, %d clients, %d lost", d, len(v.clients.m), v.clients.lost)
	}
	c := newTable[int, int](10, 100)
	if e, isNew := c.at(1, 60); e == nil || !isNew {
		t.Error("there was room")
	}
	if e, _ := c.at(2, 60); e != nil || c.lost != 1 {
		t.Error("there was no room")
	}
	var n counts
	for i := range maxNames + 5 {
		n.add(fmt.Sprint("name ", i))
	}
	if l := n.list(); len(l) != maxNames+1 || l[maxNames].Flows != 5 {
		t.Errorf("%d names, the last %+v", len(l), l[len(l)-1])
	}
}

func texts(t testing.TB, v *Inventory) string {
	t.Helper()
	var b bytes.Buffer
	rd := v.Read([]string{"f"}, &Reader{})
	crypto, certs, clients := v.Crypto(rd), v.Certificates(rd, start), v.Clients(rd)
	for _, err := range []error{crypto.Text(&b), certs.Text(&b), clients.Text(&b)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// checkLines: text has at most 80 columns, but for words that are longer, and nothing in it
// acts on a terminal.
func checkLines(t testing.TB, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if i := strings.IndexFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("unprintable at %d of %q", i, line)
		}
		if words := strings.Fields(line); len([]rune(line)) > width && len(words) > 0 && len([]rune(words[len(words)-1])) < 40 {
			t.Errorf("%d columns: %s", len([]rune(line)), line)
		}
	}
}

func TestText(t *testing.T) {
	v, _ := read(t, file(t, "audit.jsonl", day(t)))
	text := texts(t, v)
	checkLines(t, text)
	for _, want := range []string{
		"4 flows from 2026-11-01 08:00:00 to 2026-11-01 08:01:00",
		"X25519MLKEM768", "no ML-KEM offered: 1 client of 2", "10 days      CN=pay", "10.1.0.8         1 flow, 1 refused",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}

// Whatever stands in a line: an error, or one more flow; and what is shown can be shown.
func FuzzAdd(f *testing.F) {
	for line := range bytes.Lines(day(f)) {
		f.Add(line)
	}
	f.Add([]byte(`{"msg":"flow","client":"::1","hello":{"suites":"13"},"peer":{"subject":"\u202e<b>"}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		v := New()
		err := v.Add(line)
		if want := int64(1); err == nil && v.flows != want || err != nil && v.flows != 0 {
			t.Fatalf("%v and %d flows", err, v.flows)
		}
		text := texts(t, v)
		if i := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
			t.Fatalf("unprintable at %d of %q", i, text)
		}
		if _, err := json.Marshal(v.Crypto(Read{})); err != nil {
			t.Fatal(err)
		}
	})
}

// Bytes of uncompressed JSON a second, of records with both ledgers.
func BenchmarkAdd(b *testing.B) {
	var entries []handshake.Entry
	for i := range 14 {
		entries = append(entries, handshake.Entry{Step: handshake.Step(i % 9), Message: "EncryptedExtensions", At: time.Duration(i) * time.Millisecond, Size: 1000, Facts: "TLS 1.3, 1.2; 17 CipherSuites; X25519MLKEM768 share; sni shop.example", Alert: handshake.AlertNone})
	}
	ca := testpki.Must(testpki.NewCA(testpki.Options{CN: "Staff"}))
	leaf := testpki.Must(ca.Issue(testpki.Leaf{DNS: []string{"pay.example"}}))
	line := bytes.TrimSpace(written(b, func(r *audit.Record) {
		r.Ledger, r.DestLedger = entries, entries
		r.Peer = &handshake.Peer{Shown: leaf.Chain, Authority: "staff", Proven: true}
		r.DestPeer, r.DestinationLeg = r.Peer, r.ClientLeg
	}))
	v := New()
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		if err := v.Add(line); err != nil {
			b.Fatal(err)
		}
	}
}
