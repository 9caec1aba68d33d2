package report

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// packed is a text as each of the programs compresses it.
func packed(t *testing.T, text []byte) map[string][]byte {
	t.Helper()
	var gz, zst, bz2 bytes.Buffer
	for out, open := range map[*bytes.Buffer]func() io.WriteCloser{
		&gz: func() io.WriteCloser { return gzip.NewWriter(&gz) }, &zst: func() io.WriteCloser { return testpki.Must(zstd.NewWriter(&zst)) },
	} {
		z := open()
		if _, err := z.Write(text); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err, out)
		}
	}
	cmd := exec.CommandContext(testenv.Context(t), testenv.Tool(t, "bzip2"), "-c")
	cmd.Stdin, cmd.Stdout = bytes.NewReader(text), &bz2
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{"gz": gz.Bytes(), "zst": zst.Bytes(), "bz2": bz2.Bytes()}
}

// Compressed files are read as they are, two in one file too. One that is damaged, from its
// first bytes on or later, is named, and the files behind it are read all the same.
func TestCompressed(t *testing.T) {
	text := bytes.Repeat(day(t), 300) // more than one block
	for kind, b := range packed(t, text) {
		for name, c := range map[string]struct {
			file []byte
			all  int64 // records; -1 for fewer than are in it
			why  string
		}{
			"whole":        {b, 1200, ""},
			"two in one":   {append(slices.Clone(b), b...), 2400, ""},
			"nothing":      {b[:0], 0, ""},
			"the magic":    {b[:4], 0, "the rest cannot be read"},
			"cut":          {b[:len(b)/2], -1, "the rest cannot be read"},
			"other bytes":  {slices.Concat(b[:len(b)/2], bytes.Repeat([]byte{0x55}, 40), b[len(b)/2+40:]), -1, "the rest cannot be read"},
			"zeros behind": {append(slices.Clone(b), make([]byte, 512)...), 1200, "the rest cannot be read"},
		} {
			files := []string{file(t, "audit.jsonl.1."+kind, c.file), file(t, "audit.jsonl", text)}
			v, r := read(t, files...)
			got := v.flows - 1200
			if c.all >= 0 && got != c.all || c.all < 0 && got >= 1200 {
				t.Errorf("%s, %s: %d records, want %d", kind, name, got, c.all)
			}
			var why string
			for _, d := range r.Damaged {
				if why += d.Why; !strings.HasPrefix(d.Place, files[0]+":") {
					t.Errorf("%s, %s: %+v", kind, name, d)
				}
			}
			if !strings.Contains(why, c.why) || c.why == "" && why != "" {
				t.Errorf("%s, %s: %q, want %q", kind, name, why, c.why)
			}
		}
	}
	for _, other := range []string{"\xfd7zXZ\x00", "\x04\x22\x4d\x18"} {
		if err := (&Reader{}).Each(context.Background(), []string{file(t, "a", []byte(other+" and more"))}, New().Add); err == nil || !strings.Contains(err.Error(), "compressed by ") {
			t.Errorf("%q: %v", other, err)
		}
	}
}

// endless is one line that does not end.
type endless struct{ read int64 }

func (e *endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	e.read += int64(len(b))
	return len(b), nil
}

// A line of any length takes no memory, tells how far it is, and can be ended.
func TestEndlessLine(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	enough := errors.New("enough")
	in := &endless{}
	before, most := live(), uint64(0)
	r := &Reader{Stdin: in, Tell: func(p Progress) {
		if p.Bytes > 64<<20 {
			most = live()
			cancel(enough)
		}
	}}
	if err := r.Each(ctx, []string{"-"}, New().Add); !errors.Is(err, enough) {
		t.Errorf("%v after %d bytes", err, in.read)
	}
	if most > before+8<<20 {
		t.Errorf("%d MiB for one line", (most-before)>>20)
	}
}

// numbered are the records of one process, each a minute after the one before.
func numbered(t *testing.T, n int) [][]byte {
	t.Helper()
	var out [][]byte
	for i := range n {
		out = append(out, written(t, func(r *audit.Record) {
			r.ID, r.Seq, r.Start = fmt.Sprintf("0badcafe-%x", i+1), uint64(i+1), start.Add(time.Duration(i)*time.Minute)
			r.Client = netip.MustParseAddrPort(fmt.Sprintf("10.1.0.%d:4000", i%7+1))
		}))
	}
	return out
}

// The same report comes of the same records, in whatever order the files are given, under
// other names, given twice, or compressed beside the file that was compressed.
func TestFilesInAnyOrder(t *testing.T) {
	all := numbered(t, 40)
	older, newer := bytes.Join(all[:20], nil), bytes.Join(all[20:], nil)
	a, b := file(t, "audit.jsonl.1", older), file(t, "audit.jsonl", newer)
	copied := file(t, "copy.gz", packed(t, older)["gz"])
	want := func() string { v, r := read(t, a, b); return inventoryOf(t, v, v.Read(nil, r)) }()
	for name, c := range map[string]struct {
		files []string
		again int64
		twice []string
	}{
		"the newest first":      {[]string{b, a}, 0, nil},
		"one given twice":       {[]string{a, b, a}, 0, []string{a}},
		"under another name":    {[]string{b, filepath.Dir(b) + "/./audit.jsonl", a}, 0, []string{filepath.Dir(b) + "/./audit.jsonl"}},
		"compressed beside it":  {[]string{copied, b, a}, 20, nil},
		"an older copy of more": {[]string{file(t, "copied", bytes.Join(all[5:30], nil)), b, a}, 25, nil},
	} {
		v, r := read(t, c.files...)
		rd := v.Read(c.files, r)
		if rd.Again != c.again || rd.Missing != 0 || rd.Flows != 40 {
			t.Errorf("%s: %+v", name, rd)
		}
		if d := cmp.Diff(c.twice, r.Twice); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		if d := cmp.Diff(want, inventoryOf(t, v, Read{From: rd.From, To: rd.To})); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		text := texts(t, v)
		if c.again > 0 && !strings.Contains(text, fmt.Sprintf("twice    %d records: read before in another file, and counted once", c.again)) {
			t.Errorf("%s:\n%s", name, text)
		}
	}
}

// inventoryOf is all of an inventory but how it was read.
func inventoryOf(t *testing.T, v *Inventory, rd Read) string {
	t.Helper()
	rd = Read{From: rd.From, To: rd.To}
	out, err := json.Marshal([]any{v.Crypto(rd), v.Certificates(rd, start), v.Clients(rd), v.time.plot()})
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// A later version has more fields, and other words in those of now: each record counts.
func TestRecordsOfLaterVersions(t *testing.T) {
	v := New()
	for _, line := range []string{
		`{"msg":"flow","id":"1-1","seq":1,"time":"2027-01-01T00:00:00.000000001Z","client":"10.1.0.1:1","destination":"10.0.0.1:443","later":{"deep":[[{"er":null}]],"n":1e400},"action":"mirror","verdict":"delayed","reason":"moon_phase","hello":{"versions":"0305 0304","suites":"1399","later":1},"client_leg":{"version":"TLS 1.4","suite":"TLS_LATER","group":"LATER1024"},"peer":{"proven":true,"subject":"CN=x","key":"LATER","not_after":"never","later":[]}}`,
	} {
		if err := v.Add([]byte(line)); err != nil {
			t.Errorf("%v: %s", err, line)
		}
	}
	text := texts(t, v)
	for _, want := range []string{"TLS 1.4", "TLS_LATER", "LATER1024", "delayed", "mirror", "moon_phase", "1 flow from 2027-01-01 00:00:00"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}

// A clock that jumps spoils no plot, and what is no time is in no span of time.
func TestClockJumps(t *testing.T) {
	v := New()
	for _, at := range []string{"1970-01-01T00:00:03.000000Z", "2026-11-01T08:00:00.000000Z", "2026-11-01T08:00:00Z", "2106-02-07T06:28:15.000000Z", "9999-12-31T23:59:59.999999Z", "2026-11-01T07:00:00.000000Z"} {
		if err := v.Add(bytes.Replace(written(t, nil), []byte("2026-11-01T08:00:00.000000Z"), []byte(at), 1)); err != nil {
			t.Fatal(err)
		}
	}
	for _, none := range []string{"", "zzzz", "2026-11-01 08:00:00", "2026-11-01T08:00:00+02:00", "2026-11-01T08:00:00.0x0Z", "\u202e026-11-01T08:00:00Z"} {
		if err := v.Add(bytes.Replace(written(t, nil), []byte("2026-11-01T08:00:00.000000Z"), []byte(none), 1)); err != nil {
			t.Fatal(err)
		}
	}
	rd := v.Read(nil, &Reader{})
	if rd.From != "1970-01-01T00:00:03.000000Z" || rd.To != "9999-12-31T23:59:59.999999Z" || rd.Flows != 12 || rd.Undated != 6 {
		t.Errorf("%+v", rd)
	}
	if p := v.time.plot(); len(p.Bars) != 5 || p.Most != 2 {
		t.Errorf("%+v", p)
	}
	if c := v.Clients(rd).All; len(c) != 1 || c[0].First != rd.From || c[0].Last != rd.To {
		t.Errorf("%+v", c)
	}
	if text := texts(t, v); !strings.Contains(text, "undated  6 flows") {
		t.Error(text)
	}
}

// What no gateway has written: names that act on a terminal, a page or a schema. They are
// shown as what they are, in each form of the report.
func TestHostileNames(t *testing.T) {
	const evil = "a\x1b[2J\u202e\u2066</script><b>\x00&{{.}}=cmd|' /C calc'!A0\r\n\xe2\x80\xa8"
	line := func(key string) []byte {
		b, err := json.Marshal(map[string]any{
			"msg": "flow", "id": evil, "seq": 1, "time": "2026-11-01T08:00:00.000000Z", "client": key, "destination": evil, "sni": evil, "action": evil, "verdict": evil, "reason": evil,
			"rule": evil, "client_leg": map[string]any{"version": evil, "suite": evil, "group": evil, "alpn": evil},
			"destination_leg": map[string]any{"version": evil + "|", "suite": "|", "group": "MLKEM" + evil},
			"peer":            map[string]any{"proven": true, "subject": evil, "issuer": evil, "serial": evil, "spki": evil, "key": evil, "sans": []string{evil, evil + "2"}, "authority": evil, "not_before": evil, "not_after": "2026-11-02T00:00:00,5Z"},
			"seen":            map[string]any{"version": evil, "alert": evil, "destination": map[string]any{"subject": strings.Repeat(evil, 100)}},
			"hello":           map[string]any{"versions": "0304", "suites": "1301", "ja4": evil},
		})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	v := New()
	for _, client := range []string{"10.1.0.1:1", evil, "[fe80::1%" + "eth0]:1"} {
		if err := v.Add(line(client)); err != nil {
			t.Fatal(err)
		}
	}
	if text := texts(t, v); strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
		t.Errorf("%q", text)
	}
	rd := v.Read([]string{evil}, &Reader{Damaged: []Damage{{evil, evil}}, Twice: []string{evil}, Bad: 1})
	var page, bom bytes.Buffer
	if err := v.HTML(&page, rd, start); err != nil {
		t.Fatal(err)
	}
	if err := v.CBOM(&bom, rd, "v1", start); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"\x1b", "\u202e", "\u2066", "\x00", "\u2028", "</script>", "<b>&"} {
		if strings.Contains(page.String(), bad) {
			t.Errorf("%q is in the page", bad)
		}
	}
	validate(t, bom.Bytes())
	for _, bad := range []string{`\u001b`, "\u202e", `\u202e`, `\u0000`, `\u2028`} {
		if strings.Contains(bom.String(), bad) && !strings.Contains(bom.String(), `\`+bad) {
			t.Errorf("%q is in the bill of materials", bad)
		}
	}
}
