package report

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// harness shows the page in frames of some widths and says how far each would have to be
// scrolled sideways, the whole or a part of it.
const harness = `<!doctype html><style>iframe { height: 600px; border: 0 }</style>%s<script>
onload = () => {
  document.body.textContent = JSON.stringify([...document.querySelectorAll("iframe")].map(f => {
    const d = f.contentDocument, cut = e => e.scrollWidth - e.clientWidth;
    return {width: f.clientWidth, page: cut(d.documentElement), most: Math.max(...[...d.querySelectorAll("body *")].map(cut)), rows: d.querySelectorAll("tbody tr").length};
  }));
};
</script>`

// dumped is the page of a URL as chromium has it after its scripts, and what chromium complains of.
func dumped(t *testing.T, chromium, url string) (page []byte, err error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "chromium")
	if err != nil {
		t.Fatal(err)
	}
	defer testenv.Eventually(t, "chromium's files are gone", func() bool { return os.RemoveAll(dir) == nil }) // its children write until they end
	ctx, cancel := context.WithTimeout(t.Context(), testenv.Patience())
	defer cancel()
	cmd := exec.CommandContext(ctx, chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--user-data-dir="+dir, "--dump-dom", url)
	// Its children are of its process group, and have its output too.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	end := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel, cmd.WaitDelay = end, testenv.Scaled(5*time.Second)
	page, err = cmd.Output()
	if errors.Is(err, exec.ErrWaitDelay) { // it has ended, and a child has not
		_ = end()
	}
	return page, err
}

// The page is read without scrolling sideways, on a telephone too, whatever long names it has.
func TestPageFits(t *testing.T) {
	chromium := testenv.Tool(t, "chromium")
	v, r := read(t, file(t, "audit.jsonl", day(t)))
	long := strings.Repeat("x", 120)
	for i := range 20 {
		line := fmt.Sprintf(`{"msg":"flow","time":"2026-11-01T09:00:00Z","client":"[2001:db8:1234:5678:9abc:def0:1234:%x]:1","destination":"[2001:db8:1234:5678:9abc:def0:1234:5678]:443","sni":"%s.example","reason":"verified","action":"terminate","verdict":"allowed","client_leg":{"version":"TLS 1.2","suite":"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384","group":"SecP384r1MLKEM1024"},"peer":{"proven":true,"subject":"CN=%s%d,O=Corp","serial":"%d","issuer":"CN=%s","sans":["dns:%s.example"],"key":"ECDSA P-256","not_after":"2026-12-01T00:00:00Z"}}`, i, long, long, i, i, long, long)
		if err := v.Add([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	var page bytes.Buffer
	if err := v.HTML(&page, v.Read([]string{"f"}, r), start); err != nil {
		t.Fatal(err)
	}
	widths := []int{320, 400, 700, 1280}
	frames := ""
	for _, w := range widths {
		frames += fmt.Sprintf(`<iframe src="/page" style="width: %dpx"></iframe>`, w)
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if r.URL.Path == "/page" {
			_, _ = w.Write(page.Bytes())
			return
		}
		_, _ = fmt.Fprintf(w, harness, frames)
	}))
	defer web.Close()
	var got []struct{ Width, Page, Most, Rows int }
	const tries = 3 // the first start after a boot reads all of chromium from the disk
	for try := 1; ; try++ {
		out, err := dumped(t, chromium, web.URL)
		m := regexp.MustCompile(`\[\{.*\}\]`).Find(out)
		if bad := json.Unmarshal([]byte(html.UnescapeString(string(m))), &got); bad == nil && len(got) == len(widths) {
			break
		} else if t.Logf("try %d: %v, %v\n%s", try, err, bad, out); try == tries {
			t.Fatal("chromium does not show the page")
		}
	}
	for i, g := range got {
		if g.Width != widths[i] || g.Page > 0 || g.Most > 0 || g.Rows < 40 {
			t.Errorf("at %d px: %+v", widths[i], g)
		}
	}
}
