package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/sslgate/sslgate/internal/fielderr"
	"github.com/sslgate/sslgate/policy"
)

// head is the least that a file needs.
const head = "version: 1\ncapture: {interfaces: [eth1], ports: [443]}\npolicy: {rules: []}\n"

func mustParse(t *testing.T, text string) *File {
	t.Helper()
	f, err := Parse("gateway.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%s\n%v", text, err)
	}
	return f
}

// findings parses a text that has mistakes.
func findings(t *testing.T, text string) Findings {
	t.Helper()
	f, err := Parse("gateway.yaml", []byte(text))
	var fs Findings
	if !errors.As(err, &fs) {
		t.Fatalf("taken, or not Findings: %v\n%s", err, text)
	}
	if f != nil {
		t.Fatal("an error and a File")
	}
	return fs
}

func TestDefaults(t *testing.T) {
	c := mustParse(t, head).Config
	want := Config{
		Version: 1,
		TUN:     TUN{Name: "sslgate0", MTU: 1500, Offload: "auto", Queues: 1, Sender: "paced"},
		Capture: Capture{
			Interfaces: []string{"eth1"}, Ports: Ports{List: []uint16{443}}, Local: Local{In: true}, QUIC: "reject", GRO: "keep",
			Mark: 0x10, Mask: 0x70, Table: 5519, Preference: 5519,
		},
		Fail:    "closed",
		Engine:  "std",
		Dial:    Dial{Source: "gateway", Timeout: Duration(5 * time.Second), Mark: 0x20, Table: 5520},
		Policy:  c.Policy,
		Tickets: Tickets{Mode: "on", Lifetime: Duration(time.Hour)},
		Limits: Limits{
			Flows: 20000, FlowsPerClient: 512, Hello: 65536, Handshake: Duration(10 * time.Second),
			Handshakes: 1024, HandshakesPerClient: 128, HandshakesPerSecond: 250, DialsPerDestination: 1024,
			RefusalRecords: 200, RefusalRecordsPerClient: 10,
			Chain: 10, ChainBytes: 64 << 10, Stall: Duration(time.Minute), HalfClosed: Duration(time.Minute),
			Idle: Duration(10 * time.Minute), Drain: Duration(30 * time.Second),
		},
		Audit:   Audit{File: "-", Queue: 4096, Rotate: Rotate{Size: 128 << 20, Keep: 7}, OnFull: "refuse"},
		Admin:   Admin{Socket: "/run/sslgate/admin.sock"},
		Reload:  Reload{Renew: true, Live: "keep"},
		Upgrade: Upgrade{CTMask: 0x30, Drain: Duration(12 * time.Hour)},
		Log:     Log{Level: "info", Format: "console"},
	}
	if d := cmp.Diff(want, c); d != "" {
		t.Error(d)
	}
}

// TestEveryField writes a value for every key of the schema and finds it
// again: no field is without a decoder.
func TestEveryField(t *testing.T) {
	var b strings.Builder
	for i := range reflect.TypeFor[Config]().NumField() {
		writeField(&b, reflect.TypeFor[Config]().Field(i), "")
	}
	f := parse("all.yaml", []byte(b.String()))
	// The values make no sense; that is found later and does not taint.
	for _, path := range f.tainted {
		t.Errorf("%s cannot be decoded:\n%v", path, Findings(f.findings))
	}
	checkFilled(t, reflect.ValueOf(f.Config), "")
}

func writeField(b *strings.Builder, f reflect.StructField, indent string) {
	b.WriteString(indent + f.Tag.Get("yaml") + ": ")
	writeValue(b, f.Type, indent)
}

func writeValue(b *strings.Builder, t reflect.Type, indent string) {
	switch t {
	case reflect.TypeFor[Duration]():
		b.WriteString("7s\n")
		return
	case reflect.TypeFor[Size]():
		b.WriteString("3KiB\n")
		return
	case reflect.TypeFor[Ports]():
		b.WriteString("[7, 3]\n")
		return
	}
	if t == reflect.TypeFor[policy.SetSpec]() {
		b.WriteString("[x]\n")
		return
	}
	switch t.Kind() {
	case reflect.Pointer:
		writeValue(b, t.Elem(), indent)
	case reflect.Struct:
		b.WriteString("\n")
		for i := range t.NumField() {
			writeField(b, t.Field(i), indent+"  ")
		}
	case reflect.Map:
		b.WriteString("\n" + indent + "  x.y: ")
		writeValue(b, t.Elem(), indent+"  ")
	case reflect.Slice:
		if t.Elem().Kind() == reflect.String {
			b.WriteString("[x]\n")
			return
		}
		if t.Elem().Kind() == reflect.Int {
			b.WriteString("[7]\n")
			return
		}
		b.WriteString("\n" + indent + "  -")
		writeValue(b, t.Elem(), indent+"  ")
	case reflect.Bool:
		b.WriteString("true\n")
	case reflect.Int, reflect.Uint32:
		b.WriteString("0x1\n")
	default:
		b.WriteString("x\n")
	}
}

func checkFilled(t *testing.T, v reflect.Value, path string) {
	switch {
	case v.IsZero():
		t.Errorf("%s was not decoded", path)
	case v.Type() == reflect.TypeFor[Ports](), v.Type() == reflect.TypeFor[policy.SetSpec]():
	case v.Kind() == reflect.Pointer:
		checkFilled(t, v.Elem(), path)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			checkFilled(t, v.Field(i), path+"."+v.Type().Field(i).Name)
		}
	case v.Kind() == reflect.Map:
		for _, k := range v.MapKeys() {
			checkFilled(t, v.MapIndex(k), path+"."+k.String())
		}
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			checkFilled(t, v.Index(i), path+"[]")
		}
	}
}

// TestPlaces: a mistake that another package finds by path is located at the
// value, also behind scalars of several lines, comments, CR LF and a BOM.
func TestPlaces(t *testing.T) {
	const text = `# a comment
version: 1   # one
capture:
  interfaces: [eth1]
  ports:
  - 443

policy:
  # the rules
  rules:
    - name: "first"
      sni:
        - >-
          folded.example.org

        - |
            literal.example.org
        - plain.
          example.org
        - 'quoted.
          example.org'
      to: ["10.0.0.0/8:443", ä.example, x]

    - {name: two, to: [
        "10.0.0.0/8:443",   # here
        "[::]/0:443" ], client: {authorities: [staff]}}
    - name: &n three
      to: &to
      - "10.1.0.0/16:443"
    - name: four
      to: *to
authorities: {staff: {roots: "ä.pem"}, "a.b": {roots: r.pem}}
`
	want := map[string]string{
		"version":                                  "2:10",
		"capture.ports":                            "5:3",
		"capture.ports[0]":                         "6:5",
		"policy.rules[0]":                          "11:7",
		"policy.rules[0].name":                     "11:13",
		"policy.rules[0].identity":                 "11:7", // not there: the rule
		"policy.rules[0].sni[0]":                   "14:11",
		"policy.rules[0].sni[1]":                   "17:13",
		"policy.rules[0].sni[2]":                   "18:11",
		"policy.rules[0].sni[3]":                   "20:11",
		"policy.rules[0].to":                       "22:7",
		"policy.rules[0].to[1]":                    "22:30",
		"policy.rules[0].to[2]":                    "22:41",
		"policy.rules[1]":                          "24:7",
		"policy.rules[1].to[0]":                    "25:9",
		"policy.rules[1].to[1]":                    "26:9",
		"policy.rules[1].client.authorities":       "26:34",
		"policy.rules[1].client.authorities[0]":    "26:48",
		"policy.rules[1].client.authorities[7].x":  "26:34",
		"policy.rules[2].name":                     "27:16",
		"policy.rules[2].to[0]":                    "29:9",
		"policy.rules[3].to":                       "31:7", // where the alias stands
		"policy.rules[3].to[0]":                    "29:9", // where the value stands
		"authorities.staff.roots":                  "32:30",
		`authorities["a.b"].roots`:                 "32:55",
		`authorities["staff"]["roots"]`:            "32:30",
		"profiles.house":                           "2:1",
		"policy.default":                           "8:1",
		"":                                         "2:1",
		"][":                                       "2:1",
		`authorities["a.b`:                         "32:1",
		"policy.rules[1].client.authorities[x][0]": "26:34",
	}
	for variant, edit := range map[string]func(string) string{
		"LF":         func(s string) string { return s },
		"CRLF":       func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") },
		"CR":         func(s string) string { return strings.ReplaceAll(s, "\n", "\r") },
		"BOM":        func(s string) string { return "\xef\xbb\xbf" + s },
		"no newline": func(s string) string { return strings.TrimSuffix(s, "\n") },
	} {
		t.Run(variant, func(t *testing.T) {
			f := mustParse(t, edit(text))
			for path, at := range want {
				x := f.Finding(path, "msg")
				if !strings.HasPrefix(x.String(), "gateway.yaml:"+at+": ") {
					t.Errorf("%s: %s, want %s\n%s", path, x, at, x.Excerpt)
				}
			}
			if got := f.Config.Policy.Rules[0].SNI; !reflect.DeepEqual(got, []string{"folded.example.org", "literal.example.org", "plain. example.org", "quoted. example.org"}) {
				t.Errorf("the texts are %q", got)
			}
			if got := f.Config.Policy.Rules[3].To; !reflect.DeepEqual(got, []string{"10.1.0.0/16:443"}) {
				t.Errorf("the alias gave %q", got)
			}
		})
	}
}

func TestLocate(t *testing.T) {
	f := mustParse(t, head+"log: {level: info}\n")
	var l fielderr.List
	l.Addf("level", "one")
	l.Warnf("format", "two")
	got := f.Locate("log", l.Err())
	if len(got) != 2 || got[0].Line != 4 || got[0].Col != 14 || got[0].Path != "log.level" || got[0].Warning ||
		got[1].Col != 1 || got[1].Path != "log.format" || !got[1].Warning {
		t.Errorf("%+v", got)
	}
	if got := f.Locate("log", errors.New("plain")); len(got) != 1 || got[0].Path != "log" || got[0].Msg != "plain" {
		t.Errorf("%+v", got)
	}
}

func TestFormat(t *testing.T) {
	f := mustParse(t, "log: {level: info} #\t\x1b[2J "+strings.Repeat("ä", 300)+"\n"+head)
	x := f.Warning("log.level", "hm")
	plain := "gateway.yaml:1:14: warning: log.level: hm\n" +
		"    1 | log: {level: info} # ?[2J " + strings.Repeat("ä", 84) + "\n" +
		"      |              ^~~~\n"
	if d := cmp.Diff(plain, x.Format(false)); d != "" {
		t.Error(d)
	}
	colored := x.Format(true)
	for _, want := range []string{"\x1b[1mgateway.yaml:1:14:", "\x1b[33m      |              ^~~~\x1b[0m"} {
		if !strings.Contains(colored, want) {
			t.Errorf("no %q in %q", want, colored)
		}
	}
	// A place far to the right stays in sight.
	long := findings(t, head+"log: {level: info, format: json}"+strings.Repeat(" ", 300)+"x\n")[0]
	lines := strings.Split(long.Excerpt, "\n")
	if utf8.RuneCountInString(lines[0]) > maxExcerpt+8 || len(lines[1]) > maxExcerpt+8 {
		t.Errorf("too wide:\n%s", long.Excerpt)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "sub", "gateway.yaml")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(head+"authorities: {a: {roots: ../a.pem}, b: {roots: /b.pem}}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := f.abs(f.Config.Authorities["a"].Roots); got != filepath.Join(dir, "a.pem") {
		t.Errorf("relative path became %s", got)
	}
	if got := f.abs(f.Config.Authorities["b"].Roots); got != "/b.pem" {
		t.Errorf("absolute path became %s", got)
	}
	for name, want := range map[string]string{
		filepath.Join(dir, "none.yaml"): "no such file",
		dir:                             "not a regular file",
		"/dev/zero":                     "not a regular file",
	} {
		f, err := Load(name)
		if f != nil || err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), name+":1:1: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
