package service

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/reason"
)

var adminAll admin.Filter

// evil is what a hostile peer may put into a name.
const evil = "<img src=x onerror=alert(1)>\u202e\x1b[31m</td><script>alert(2)</script>"

// The page in a real browser, with real flows: it asks for the token, shows
// live and refused flows, draws one, is used by keyboard alone, runs nothing
// that a peer sent and takes its colours from the user.
func TestPage(t *testing.T) {
	testenv.Slow(t)
	h := newHouse(t)
	b := newBrowser(t)
	live := h.good()
	defer live.Close()
	h.bad()
	h.bad()
	h.finished(2)
	h.s.finished(hostile("evil-1"))
	silent, err := h.client.Dial(t.Context(), houseServer) // stays before its hello
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	b.look("light", 1280, 1400)
	b.must("Page.navigate", map[string]any{"url": h.url + "/"}, nil)

	// Without the token nothing is shown; a wrong one is told.
	b.until(`document.activeElement.id === "token"`)
	b.must("Input.insertText", map[string]any{"text": "not the token at all"}, nil)
	b.key("Enter", "Enter", 13)
	b.until(`document.getElementById("login-error").textContent.includes("not the gateway")`)
	if b.eval(`document.getElementById("main").hidden`) != true {
		t.Error("the page is open without a token")
	}
	b.must("Input.insertText", map[string]any{"text": h.token}, nil)
	b.key("Enter", "Enter", 13)
	b.until(`document.getElementById("state").textContent === "ready"`)
	b.until(`document.querySelector("#refusals tbody").textContent.includes("no_certificate")`)
	b.until(`document.querySelector("#handshakes tbody").textContent.includes("203.0.113.5")`)
	b.until(`document.querySelector("#steps li .now").textContent === "1"`)
	b.until(`document.querySelector("#relays tbody").textContent.includes("pay.example")`)
	b.until(`document.querySelector("#policy tbody").textContent.includes("closed")`)
	b.until(`document.querySelector("#certificates tbody").textContent.includes("Staff CA")`)
	b.until(`document.querySelector("#crls tbody").textContent.includes(".crl")`)
	b.until(`/^[0-9.]+ [KMG]iB of [0-9.]+ [MGT]iB/.test(` + fact("memory") + `)`)
	b.until(`/^[1-9][0-9.]* [KM]iB$/.test(` + fact("flows hold") + `)`) // the live one, and the silent one
	b.until(fact("refused, ended for memory") + ` === "0, 0"`)
	if b.eval(`document.getElementById("token").checkVisibility()`) != false {
		t.Error("the token is still asked for")
	}
	if n := b.eval(`document.querySelectorAll("#steps li").length`); n != 10.0 {
		t.Errorf("%v steps", n)
	}

	// What the peer sent is text, and hidden characters are seen.
	b.until(`document.querySelector("#refusals tbody").textContent.includes("onerror")`)
	seen, _ := b.eval(`document.querySelector("#refusals tbody").textContent`).(string)
	if !strings.Contains(seen, "<img src=x") || !strings.Contains(seen, `\u{202e}`) || strings.Contains(seen, "\u202e") {
		t.Errorf("shown as %q", seen)
	}
	if n := b.eval(`document.querySelectorAll("main img, main script").length`); n != 0.0 {
		t.Errorf("%v elements came from a peer", n)
	}
	// The policy of contents holds: inline scripts do not run.
	b.eval(`(() => { const s = document.createElement("script"); try { s.textContent = "window.ran = 1"; } catch { return; } document.head.append(s); })()`)
	if b.eval(`window.ran`) != nil {
		t.Error("an inline script ran")
	}

	// By keyboard alone: to the flow in the refusals, into its picture, back.
	b.eval(`document.querySelector("#refusals button").focus()`)
	b.key("Enter", "Enter", 13)
	b.until(`document.getElementById("picture").textContent.includes("ClientHello")`)
	picture, _ := b.eval(`document.getElementById("picture").textContent`).(string)
	for _, want := range []string{"no_certificate", "sslgate", "verdict"} {
		if !strings.Contains(picture, want) {
			t.Errorf("the picture lacks %q:\n%s", want, picture)
		}
	}
	if b.eval(`document.activeElement.id`) != "h-detail" {
		t.Errorf("the focus is on %v", b.eval(`document.activeElement.outerHTML`))
	}
	var light, dark []byte
	light = b.shot()
	b.look("dark", 1280, 1400)
	dark = b.shot()
	b.key("Escape", "Escape", 27)
	b.until(`document.getElementById("detail").hidden && document.activeElement.dataset.flow`)
	b.key("p", "KeyP", 80)
	b.until(`document.getElementById("pause").getAttribute("aria-pressed") === "true"`)
	b.key("p", "KeyP", 80)
	if l, d := brightness(t, light), brightness(t, dark); l < 0.75 || d > 0.25 {
		t.Errorf("brightness: light %.2f, dark %.2f", l, d)
	}
	keep(t, "light.png", light)
	keep(t, "dark.png", dark)

	// On a narrow screen nothing stands out over the side.
	b.look("light", 480, 900)
	b.until(`document.documentElement.scrollWidth <= 480`)
	keep(t, "narrow.png", b.shot())

	b.mu.Lock()
	defer b.mu.Unlock()
	for _, line := range b.console {
		// The wrong token's 401, and the inline script that this test tried.
		if !strings.Contains(line, "401") && !strings.Contains(line, "Trusted") && !strings.Contains(line, "Content Security Policy") {
			t.Errorf("the page complains: %s", line)
		}
	}
}

// fact is the text of one of the page's facts, in JavaScript.
func fact(name string) string {
	return fmt.Sprintf(`[...document.querySelectorAll("#facts div")].find((d) => d.firstElementChild.textContent === %q).lastElementChild.textContent`, name)
}

// A rule that is only observed and a shadow policy: the page and the interface
// say what either would have refused, by rule and reason.
func TestPageShadowAndWould(t *testing.T) {
	testenv.Slow(t)
	h := newHouse(t, func(h *house) {
		observed := strings.Replace(houseConfig, "    - name: pay\n", "    - name: pay\n      mode: observe\n", 1)
		h.put("sslgate.yaml", 0o644, []byte(observed+"shadow: shadow.yaml\n"))
		h.put("shadow.yaml", 0o644, []byte(strings.Replace(houseConfig, "authorities: [staff]}", "authorities: [staff], allow: [{san_dns: [nobody.example]}]}", 1)))
	})
	b := newBrowser(t)
	_ = h.good().Close()
	for range 3 { // let through, and would be refused
		c, err := h.connect("pay.example", false, true)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
	h.finished(4)
	p := h.s.Policy(0)
	if i := slices.IndexFunc(p.Rules, func(r admin.Rule) bool { return r.Name == "pay" }); p.Rules[i].Hits.Would != 3 || p.Rules[i].Hits.Allowed != 4 {
		t.Errorf("hits of pay: %+v", p.Rules[i].Hits)
	}
	if len(p.Would) != 1 || p.Would[0] != (admin.Would{Rule: "pay", Reason: "no_certificate", Flows: 3}) {
		t.Errorf("would: %+v", p.Would)
	}
	b.look("light", 1280, 1400)
	b.must("Page.navigate", map[string]any{"url": h.url + "/#token=" + h.token}, nil)
	cells := func(table string) string {
		s, _ := b.eval(`[...document.querySelectorAll("#` + table + ` tbody tr")].map((r) => [...r.cells].map((c) => c.textContent).join("|")).join("\n")`).(string)
		return s
	}
	b.until(`document.querySelector("#differences tbody tr td:nth-child(2)")`)
	b.until(`document.querySelector("#would tbody").textContent.includes("no_certificate")`)
	if got := cells("would"); got != "3|pay|no_certificate" {
		t.Errorf("would: %q", got)
	}
	if got := cells("policy"); !strings.Contains(got, "pay|terminate|observe|4|0|0|3") {
		t.Errorf("policy: %q", got)
	}
	got := cells("differences")
	for _, want := range []string{"shadow_denies", "identity_not_allowed", "no_certificate"} {
		if !strings.Contains(got, want) {
			t.Errorf("differences lack %s: %q", want, got)
		}
	}
	if sum, _ := b.eval(`document.getElementById("shadow-sum").textContent`).(string); sum != "4 of 4 flows would have been decided differently." {
		t.Errorf("sum: %q", sum)
	}
	b.eval(`document.getElementById("shadow").scrollIntoView()`)
	keep(t, "shadow-light.png", b.shot())
	b.look("dark", 1280, 1400)
	keep(t, "shadow-dark.png", b.shot())
	b.look("light", 480, 900)
	b.until(`document.documentElement.scrollWidth <= 480`)
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.console) > 0 {
		t.Errorf("the page complains: %q", b.console)
	}
}

// Of many rules the page draws those with flows and says how many it leaves
// out; the interface gives all of them, or as many as it is asked for.
func TestPageManyRules(t *testing.T) {
	testenv.Slow(t)
	const rules = 400
	h := newHouse(t, func(h *house) {
		var b strings.Builder
		for i := range rules {
			fmt.Fprintf(&b, "    - {name: many-%d, to: [\"203.0.113.98:443\"], sni: [m%d.example], action: deny}\n", i, i)
		}
		h.put("sslgate.yaml", 0o644, []byte(strings.Replace(houseConfig, "    - name: pay\n", b.String()+"    - name: pay\n", 1)))
	})
	b := newBrowser(t)
	for _, i := range []int{7, 399} {
		r := many(1)
		r.Rule = fmt.Sprintf("many-%d", i)
		h.s.finished(r)
	}
	all := h.s.Policy(0)
	if len(all.Rules) < rules || all.More != 0 {
		t.Fatalf("%d rules and %d more", len(all.Rules), all.More)
	}
	two := h.s.Policy(2)
	if len(two.Rules) != 2 || two.More != len(all.Rules)-2 || two.Rules[0].Name != "many-7" || two.Rules[1].Name != "many-399" {
		t.Errorf("the two with flows: %+v", two)
	}
	b.look("light", 1280, 1400)
	b.must("Page.navigate", map[string]any{"url": h.url + "/#token=" + h.token}, nil)
	b.until(`document.querySelector("#policy tbody").textContent.includes("many-399")`)
	if n := b.eval(`document.querySelectorAll("#policy tbody tr").length`); n != 101.0 { // and the default
		t.Errorf("%v rows", n)
	}
	b.until(fmt.Sprintf(`document.getElementById("more").checkVisibility() && document.getElementById("more").textContent.includes("%d more")`, len(all.Rules)-100))
	b.eval(`document.getElementById("more").scrollIntoView()`)
	keep(t, "rules.png", b.shot())
}

func hostile(id string) *audit.Record {
	r := many(1)
	r.ID, r.SNI, r.Detail, r.Rule, r.Reason = id, evil, evil, "pay", reason.SNIInvalid
	return r
}

// many makes the records of a busy hour.
func many(i int) *audit.Record {
	codes := []reason.Code{reason.OK, reason.NoCertificate, reason.OK, reason.UnknownCA, reason.SNIUnknown, reason.Expired, reason.DialRefused}
	r := audit.NewRecord(fmt.Sprintf("load-%x", i), time.Now(), netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), uint16(i)), houseServer)
	r.Rule, r.Reason, r.SNI = "pay", codes[i%len(codes)], "pay.example"
	r.Duration = 12 * time.Millisecond
	return r
}

// brightness is the mean of a picture, 0 to 1.
func brightness(t *testing.T, raw []byte) float64 {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	var sum, n float64
	r := img.Bounds()
	for y := r.Min.Y; y < r.Max.Y; y += 5 {
		for x := r.Min.X; x < r.Max.X; x += 5 {
			p := image.NewUniform(img.At(x, y)).C
			red, green, blue, _ := p.RGBA()
			sum += float64(red+green+blue) / 3 / 0xffff
			n++
		}
	}
	return sum / n
}

// keep writes a screenshot where SSLGATE_SHOTS says, to be looked at.
func keep(t *testing.T, name string, raw []byte) {
	t.Helper()
	if dir := os.Getenv("SSLGATE_SHOTS"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o644); err != nil {
			t.Error(err)
		}
	}
}
