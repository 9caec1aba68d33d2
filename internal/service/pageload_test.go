package service

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// With 1,000 finished flows a second, and handshakes that move through their
// steps beside them, the page stays alive and shows both, and the gateway sends
// it a bounded number of bounded boards.
func TestPageUnderLoad(t *testing.T) {
	testenv.Slow(t)
	h := newHouse(t)
	b := newBrowser(t)
	b.look("light", 1280, 1400)
	b.must("Page.navigate", map[string]any{"url": h.url + "/#token=" + h.token}, nil)
	b.until(`document.getElementById("state").textContent === "ready"`)
	if got, _ := b.eval(`location.href`).(string); strings.Contains(got, h.token) {
		t.Error("the token stays in the address")
	}
	b.eval(`(() => {
		window.changes = 0; window.late = 0; window.steps = new Set(); window.rows = 0;
		const cell = document.querySelector("#facts div:nth-child(4) dd");
		new MutationObserver(() => window.changes++).observe(cell, { childList: true, characterData: true, subtree: true });
		new MutationObserver(() => {
			document.querySelectorAll("#steps li").forEach((li, i) => { if (li.querySelector(".now").textContent !== "0") window.steps.add(i); });
			window.rows = Math.max(window.rows, document.querySelectorAll("#handshakes button").length);
		}).observe(document.getElementById("steps"), { childList: true, characterData: true, subtree: true });
		let last = performance.now();
		setInterval(() => { const now = performance.now(); window.late = Math.max(window.late, now - last - 20); last = now; }, 20);
	})()`)
	stop := make(chan struct{})
	var slow sync.WaitGroup
	for range 8 {
		slow.Go(func() { h.slowly(stop) })
	}
	const rate, span = 1000, 4 * time.Second
	start := time.Now()
	fed := 0
	for fed < rate*int(span.Seconds()) {
		time.Sleep(5 * time.Millisecond)
		// What a sleep that took long left out is made good.
		for due := int(time.Since(start).Seconds() * rate); fed < due; fed++ {
			h.s.finished(many(fed))
		}
	}
	took := time.Since(start)
	changes, late := b.eval(`window.changes`).(float64), b.eval(`window.late`).(float64)
	nodes := b.eval(`document.querySelectorAll("*").length`).(float64)
	shot := b.shot()
	if took > testenv.Scaled(2*span) {
		t.Errorf("%d flows were fed in %v, want about %v", fed, took, span)
	}
	if changes < 1 || changes > 5*took.Seconds() {
		t.Errorf("%v updates in %v, want some and at most 5 a second", changes, took)
	}
	if late > float64(testenv.Scaled(3*time.Second).Milliseconds()) {
		t.Errorf("the page stood still for %.0f ms", late)
	}
	if nodes > 3000 {
		t.Errorf("%v elements", nodes)
	}
	resp, board := h.ask("GET", "/v1/board?once=true", "", nil)
	if resp.StatusCode != http.StatusOK || len(board) > 300<<10 {
		t.Errorf("%s, a board of %d bytes", resp.Status, len(board))
	}
	b.until(fmt.Sprintf(`document.querySelector("#facts div:nth-child(4) dd").textContent.replaceAll(",", "") >= %d`, fed/2))
	b.until(`window.steps.size >= 3 && window.rows > 0`)
	steps := b.eval(`[...window.steps].sort().join(" ")`)
	close(stop)
	slow.Wait()
	t.Logf("%d flows in %v, handshakes seen at steps %v, %v updates, %v elements, at most %.0f ms late, board %d bytes", fed, took, steps, changes, nodes, late, len(board))
	keep(t, "load.png", shot)
}

// slowly does handshakes in small pieces, one after the other.
func (h *house) slowly(stop <-chan struct{}) {
	cert := testpki.Must(h.ca.Issue(testpki.Leaf{CN: "alice", DNS: []string{"alice.example"}})).TLS()
	for {
		select {
		case <-stop:
			return
		default:
		}
		raw, err := h.client.Dial(h.t.Context(), houseServer)
		if err != nil {
			h.t.Error(err)
			return
		}
		_ = raw.SetDeadline(testenv.Deadline())
		conn := tls.Client(inPieces{raw}, &tls.Config{
			RootCAs: h.ca.Pool(), ServerName: "pay.example",
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil },
		})
		if err := conn.Handshake(); err != nil {
			h.t.Errorf("a slow handshake: %v", err)
		}
		_ = conn.Close()
		_ = raw.Close()
	}
}

// inPieces writes some bytes at a time.
type inPieces struct{ net.Conn }

func (c inPieces) Write(b []byte) (n int, err error) {
	for len(b) > 0 && err == nil {
		var k int
		k, err = c.Conn.Write(b[:min(len(b), 150)])
		n, b = n+k, b[k:]
		time.Sleep(40 * time.Millisecond)
	}
	return n, err
}
