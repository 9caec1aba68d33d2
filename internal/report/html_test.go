package report

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// The page stands alone, and nothing that a peer has chosen is more than text in it.
func TestHTML(t *testing.T) {
	v, r := read(t, file(t, "audit.jsonl", day(t)))
	evil := `{"msg":"flow","time":"2026-11-01T09:00:00Z","client":"10.9.9.9:1","destination":"<script>alert(1)</script>","sni":"\"onload=x","client_leg":{"version":"<b>","suite":"</style>","group":"'x"},"peer":{"subject":"CN=<img src=x>","sans":["javascript:x"],"not_after":"<i>"}}`
	if err := v.Add([]byte(evil)); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := v.HTML(&b, v.Read([]string{"f"}, r), start); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	for _, bad := range []string{"<script", "<b>x", "</style>,", "<img", "<i>", `"onload`, "ZgotmplZ", "http://", "https://", "url("} {
		if strings.Contains(page, bad) {
			t.Errorf("%q is in the page", bad)
		}
	}
	for _, want := range []string{"&lt;img src=x&gt;", "X25519MLKEM768", "10.1.0.8", "<rect class=\"pq\"", "cnsa2", "pay\\1B[31m"} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is not in the page", want)
		}
	}
	if dir := os.Getenv("SSLGATE_TEST_PAGES"); dir != "" { // to be looked at
		if err := os.WriteFile(filepath.Join(dir, "report.html"), b.Bytes(), 0o600); err != nil {
			t.Error(err)
		}
	}
}

// An empty inventory has a page too.
func TestHTMLOfNothing(t *testing.T) {
	v := New()
	var b bytes.Buffer
	if err := v.HTML(&b, v.Read(nil, &Reader{}), start); err != nil || !strings.Contains(b.String(), "No handshake was seen") {
		t.Errorf("%v\n%s", err, b.String())
	}
}

// Many hours become days, and days months: the bars can be told apart.
func TestTimeline(t *testing.T) {
	var l timeline
	for i := range 700 {
		l.add(&record{Time: fmt.Sprintf("2026-%02d-%02dT%02d:00:00Z", 1+i/300, 1+i/24%12, i%24), ClientLeg: &audit.ParsedLeg{Version: "TLS 1.3", Group: "X25519"}})
	}
	p := l.plot()
	sum := int64(0)
	for _, e := range p.Legend {
		sum += e.N
	}
	if p.Unit != "day" || len(p.Bars) > mostBars || sum != 700 {
		t.Errorf("%s, %d bars, %d flows", p.Unit, len(p.Bars), sum)
	}
}

// schema is CycloneDX's own of a bill of materials, from the module of its library.
func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	out, err := exec.CommandContext(context.Background(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(strings.TrimSpace(string(out)), "schema")
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	for name, in := range map[string]string{"bom-1.6.schema.json": "bom-1.6.schema.json", "spdx.schema.json": "spdx.schema.json", "jsf-0.82.schema.json": "jsf-0.82.schemax.json"} {
		b, err := os.ReadFile(filepath.Join(dir, in))
		if os.IsNotExist(err) && in != name {
			b, err = os.ReadFile(filepath.Join(dir, name))
		}
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.AddResource("http://cyclonedx.org/schema/"+name, doc); err != nil {
			t.Fatal(err)
		}
	}
	s, err := c.Compile("http://cyclonedx.org/schema/bom-1.6.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// validate holds a bill of materials against the schema.
func validate(t *testing.T, bom []byte) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(bom))
	if err != nil {
		t.Fatal(err)
	}
	s := schema(t)
	if err := s.Validate(doc); err != nil {
		t.Errorf("%v\n%s", err, bom)
	}
	return s
}

// The bill of materials is one by CycloneDX's own schema, and its library reads all of it.
func TestCBOM(t *testing.T) {
	v, r := read(t, file(t, "audit.jsonl", day(t)))
	ca := testpki.Must(testpki.NewCA(testpki.Options{CN: "Servers"}))
	leaf := testpki.Must(ca.Issue(testpki.Leaf{DNS: []string{"pay.example"}}))
	for _, line := range [][]byte{
		written(t, func(r *audit.Record) {
			r.ClientLeg = &handshake.State{Version: 0x0303, Suite: 0xc02b, Group: 0x001d}
			r.Seen = &audit.Seen{State: r.ClientLeg, Destination: leaf.Cert, Alert: handshake.AlertNone}
		}),
		[]byte(`{"msg":"flow","client":"10.0.0.1:1","peer":{"subject":"","not_after":"never","sans":["\u202e"]},"client_leg":{"version":"","suite":"?"}}`),
	} {
		if err := v.Add(line); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if err := v.CBOM(&b, v.Read([]string{"f"}, r), "v1", start); err != nil {
		t.Fatal(err)
	}
	s := validate(t, b.Bytes())
	var broken map[string]any
	if err := json.Unmarshal(bytes.Replace(b.Bytes(), []byte(`"key-agree"`), []byte(`"made up"`), 1), &broken); err != nil {
		t.Fatal(err)
	}
	if s.Validate(broken) == nil {
		t.Error("the schema takes anything")
	}
	var read cdx.BOM
	if err := cdx.NewBOMDecoder(&b, cdx.BOMFileFormatJSON).Decode(&read); err != nil {
		t.Fatal(err)
	}
	kinds := map[cdx.CryptoAssetType]int{}
	for _, c := range *read.Components {
		kinds[c.CryptoProperties.AssetType]++
	}
	if kinds[cdx.CryptoAssetTypeProtocol] != 2 || kinds[cdx.CryptoAssetTypeAlgorithm] != 2 || kinds[cdx.CryptoAssetTypeCertificate] != 3 {
		t.Errorf("%v", kinds)
	}
}
