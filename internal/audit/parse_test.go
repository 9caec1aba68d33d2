package audit

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/escape"
	"github.com/sslgate/sslgate/internal/ja4"
	"github.com/sslgate/sslgate/internal/reason"
)

// What is written is read: every field, and nothing else.
func TestParse(t *testing.T) {
	line, want := write(t, fullRecord(t))
	p := readAs(t, line, want)
	if e := p.DestinationLedger[0].Entry(); e.Alert != 48 || e.From != handshake.SideUs || p.Ledger[0].Entry().From != handshake.SidePeer {
		t.Errorf("%+v", e)
	}
}

// readAs reads a line, of which everything that want has is written again.
func readAs(t *testing.T, line string, want map[string]any) *Parsed {
	t.Helper()
	p, err := Parse([]byte(line))
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(- written, + read):\n%s", d)
	}
	return p
}

func TestParseBad(t *testing.T) {
	for text, want := range map[string]string{
		"{":            "column 1: unexpected end of JSON input",
		`{"step":"x"}`: "column 11: field step is no int",
		"[]":           "column 1: the line is no object",
		"":             "column 0: unexpected end of JSON input",
	} {
		p, err := Parse([]byte(text))
		if err == nil || err.Error() != want || p != nil {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestParseAlert(t *testing.T) {
	for text, want := range map[string]handshake.Alert{
		"unknown_ca(48)": 48, "alert(200)": 200, "": handshake.AlertNone, "x": handshake.AlertNone, "x(300)": handshake.AlertNone, "x(-1)": handshake.AlertNone, "(": handshake.AlertNone,
	} {
		if got := ParseAlert(text); got != want {
			t.Errorf("%q is %d, want %d", text, got, want)
		}
	}
}

// Whatever stands in a line: an error and nothing, or a record that stays the
// same when it is written again.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"id":"7","step":6,"peer":{"proven":false,"subject":"CN=pay"},"ledger":[{"step":1,"from":"peer","at_us":625}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			if p != nil {
				t.Error("an error and a record")
			}
			return
		}
		once, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(once)
		if err != nil {
			t.Fatal(err)
		}
		twice, err := json.Marshal(again)
		if err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%s becomes %s (%v)", once, twice, err)
		}
	})
}

// Whatever peers and policies have put into a record: it is one line, fit to be shown,
// and what Parse reads of it is all that stands there.
func FuzzRecord(f *testing.F) {
	f.Add("pay.example", "h2", "détail", "rule", int64(7), uint8(48), true)
	f.Add("a\x00\u202e\xff\"\\", "\x2a\x2a", "</script>\u2028", "<&>", int64(-1), uint8(255), false)
	f.Add("", "", "\ufffd", "\U0010ffff", int64(1)<<62, uint8(0), true)
	full := fullRecord(f)
	f.Fuzz(func(t *testing.T, name, protocol, detail, rule string, n int64, b uint8, all bool) {
		r := *full
		if !all {
			r = *NewRecord(name, full.Start, full.Client, full.Destination)
		}
		st := *full.ClientLeg
		st.ALPN, st.ServerName, st.Version, st.Group, st.Suite = protocol, name, uint16(n), uint16(n>>16), uint16(n>>32)
		r.ID, r.SNI, r.ALPN, r.Detail, r.Rule, r.EndDetail = name, name, []string{protocol, name, ""}, detail, rule, detail
		for range b {
			r.ALPN = append(r.ALPN, protocol)
		}
		r.Step, r.AlertSent, r.AlertWanted = handshake.Step(b), handshake.Alert(b), handshake.Alert(n)
		r.ClientLeg, r.BytesUp, r.BytesDown, r.Duration, r.Setup = &st, n, -n, time.Duration(n), time.Duration(-n)
		r.Suppressed, r.SuppressedFlows, r.LedgerLost = n, -n, int(n)
		r.Would = &Would{Rule: rule, Reason: reason.UnknownCA, Detail: detail, Alert: handshake.Alert(b)}
		r.Shadow = &Shadow{Policy: "d", Kind: "k", Action: "deny", Rule: rule, Reason: reason.NotAllowed, Detail: protocol}
		r.Revocation = &Revocation{Status: "good", Mode: "hard", Source: "crl", Until: time.Unix(n%(1<<40), 0), Detail: protocol}
		r.Ledger = []handshake.Entry{{Step: handshake.Step(b), Message: protocol, At: time.Duration(n), Size: int(n), Facts: detail, Alert: handshake.Alert(b)}}
		line, want := write(t, &r)
		if i := strings.IndexFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return !strconv.IsPrint(r) }); i >= 0 {
			t.Fatalf("not fit to be shown at %d: %q", i, line)
		}
		p := readAs(t, line, want)
		offered := r.ALPN[:min(len(r.ALPN), maxNames)]
		if cut := slices.ContainsFunc(offered, func(s string) bool { return len(escape.String(s, 1<<20)) > escape.MaxString }); !cut && !slices.Equal(p.Offered(), offered) {
			t.Errorf("offered %q, read %q", offered, p.Offered())
		}
	})
}

// What a hello offers is read as it was sent: a decision by it is the one that was made.
func TestParsedHello(t *testing.T) {
	r := fullRecord(t)
	r.Hello.Fault13 = nil
	line, want := write(t, r)
	p := readAs(t, line, want)
	h, err := p.Hello.ClientHello(p.SNI, p.Offered())
	if err != nil || p.Hello.Partly {
		t.Fatal(err, p.Hello.Partly)
	}
	h.SNISent, h.CompressionMethods, h.HasExtensions = "", nil, false // which nothing is decided by
	if d := cmp.Diff(r.Hello, h); d != "" {
		t.Error(d)
	}
	for text, bad := range map[string]bool{"": false, "1301": false, "1301 002f": false, "1301 ": true, "1301  002f": true, "130": true, "13011": true, "xyzw": true, strings.Repeat("1301 ", 200) + "1301": true} {
		if _, err := Numbers(text); err != nil != bad {
			t.Errorf("%q: %v", text, err)
		}
	}
	if h, err := (*ParsedHello)(nil).ClientHello("", nil); h != nil || err != nil {
		t.Error("a hello of nothing")
	}
	if _, err := (&ParsedHello{Groups: "1"}).ClientHello("", nil); err == nil || !strings.Contains(err.Error(), "hello.groups") {
		t.Errorf("%v", err)
	}
}

// Of every hello that a client can send: the record has its fingerprint, and the hello
// that is made of the record has the same, unless it says that it has only a part.
func FuzzParsedHello(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0})
	full := fullRecord(f)
	f.Fuzz(func(t *testing.T, msg []byte) {
		sent, err := handshake.ParseClientHello(msg)
		if err != nil {
			return
		}
		r := *full
		r.Hello, r.SNI, r.ALPN = sent, sent.ServerName, sent.ALPN
		line, want := write(t, &r)
		p := readAs(t, line, want)
		h, err := p.Hello.ClientHello(p.SNI, p.Offered())
		if err != nil {
			t.Fatal(err)
		}
		if !p.Hello.Partly && (ja4.Of(h) != ja4.Of(sent) || h.ServerName != sent.ServerName || h.SNIPresent != sent.SNIPresent || h.ECH != sent.ECH || h.ExtendedMasterSecret != sent.ExtendedMasterSecret) {
			t.Errorf("%+v\nof %+v", h, sent)
		}
	})
}
