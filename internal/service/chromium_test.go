package service

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// browser is a headless Chromium with one page. It is spoken to in the
// DevTools protocol over pipes: JSON messages, each ended by a zero byte, to
// its file descriptor 3 and from its 4.
type browser struct {
	t    *testing.T
	to   *os.File
	page string // session

	mu      sync.Mutex
	id      int
	waiting map[int]chan message
	// Console has what the page complained of: errors and refused contents.
	console []string
}

type message struct {
	ID        int                       `json:"id,omitempty"`
	Method    string                    `json:"method,omitempty"`
	Params    json.RawMessage           `json:"params,omitempty"`
	SessionID string                    `json:"sessionId,omitempty"`
	Result    json.RawMessage           `json:"result,omitempty"`
	Error     *struct{ Message string } `json:"error,omitempty"`
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	path := testenv.Tool(t, "chromium")
	dir, err := os.MkdirTemp("", "chromium")
	if err != nil {
		t.Fatal(err)
	}
	theirIn, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
		"--hide-scrollbars", "--user-data-dir="+dir, "--remote-debugging-pipe", "about:blank")
	cmd.Env = append(os.Environ(), "HOME="+dir)
	cmd.ExtraFiles = []*os.File{theirIn, theirOut}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = theirIn.Close()
	_ = theirOut.Close()
	b := &browser{t: t, to: to, waiting: map[int]chan message{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.read(from)
	}()
	t.Cleanup(func() {
		_, _ = b.call("", "Browser.close", nil)
		_ = to.Close()
		kill := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		kill.Stop()
		_ = from.Close()
		<-done
		for i := 0; os.RemoveAll(dir) != nil && i < 50; i++ { // its children write until they end
			time.Sleep(20 * time.Millisecond)
		}
	})
	b.open()
	return b
}

func (b *browser) open() {
	var target struct{ TargetID, SessionID string }
	b.must("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	b.must("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &target)
	b.page = target.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		b.must(domain+".enable", nil, nil)
	}
}

func (b *browser) read(from *os.File) {
	r := bufio.NewReaderSize(from, 1<<20)
	for {
		raw, err := r.ReadBytes(0)
		if err != nil {
			b.mu.Lock()
			defer b.mu.Unlock()
			for id, c := range b.waiting {
				close(c)
				delete(b.waiting, id)
			}
			return
		}
		var m message
		if json.Unmarshal(raw[:len(raw)-1], &m) != nil {
			continue
		}
		b.mu.Lock()
		switch m.Method {
		case "Runtime.exceptionThrown", "Log.entryAdded":
			b.console = append(b.console, string(m.Params))
		}
		c := b.waiting[m.ID]
		delete(b.waiting, m.ID)
		b.mu.Unlock()
		if c != nil {
			c <- m
		}
	}
}

func (b *browser) call(session, method string, params any) (message, error) {
	raw, err := json.Marshal(params)
	if err != nil {
		return message{}, err
	}
	if params == nil {
		raw = []byte("{}")
	}
	answer := make(chan message, 1)
	b.mu.Lock()
	b.id++
	m := message{ID: b.id, Method: method, Params: raw, SessionID: session}
	b.waiting[b.id] = answer
	b.mu.Unlock()
	out, err := json.Marshal(m)
	if err != nil {
		return message{}, err
	}
	if _, err := b.to.Write(append(out, 0)); err != nil {
		return message{}, err
	}
	select {
	case got, ok := <-answer:
		switch {
		case !ok:
			return got, errors.New("chromium has ended")
		case got.Error != nil:
			return got, errors.New(got.Error.Message)
		}
		return got, nil
	case <-time.After(testenv.Patience()):
		return message{}, fmt.Errorf("%s: no answer from chromium", method)
	}
}

func (b *browser) must(method string, params, into any) {
	b.t.Helper()
	m, err := b.call(b.page, method, params)
	if err == nil && into != nil {
		err = json.Unmarshal(m.Result, into)
	}
	if err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
}

// eval runs an expression in the page and returns its value.
func (b *browser) eval(expression string) any {
	b.t.Helper()
	var r struct {
		Result           struct{ Value any }
		ExceptionDetails json.RawMessage
	}
	b.must("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &r)
	if r.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", expression, r.ExceptionDetails)
	}
	return r.Result.Value
}

// until waits for an expression to be true.
func (b *browser) until(expression string) {
	b.t.Helper()
	for deadline := testenv.Deadline(); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		// A page that is still loading lacks its elements.
		if b.eval("(() => { try { return !!("+expression+") } catch { return false } })()") == true {
			return
		}
	}
	b.t.Fatalf("never true: %s\n%v", expression, b.eval("document.body.innerText"))
}

// key presses one key.
func (b *browser) key(key, code string, number int) {
	b.t.Helper()
	p := map[string]any{"type": "keyDown", "key": key, "code": code, "windowsVirtualKeyCode": number}
	switch key {
	case "Enter":
		p["text"] = "\r"
	default:
		if len(key) == 1 {
			p["text"] = key
		}
	}
	b.must("Input.dispatchKeyEvent", p, nil)
	b.must("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": key, "code": code, "windowsVirtualKeyCode": number}, nil)
}

// look sets colours and width.
func (b *browser) look(scheme string, width, height int) {
	b.t.Helper()
	b.must("Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]string{"name": "prefers-color-scheme", "value": scheme}}}, nil)
	b.must("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false}, nil)
}

// shot returns the page as a PNG.
func (b *browser) shot() []byte {
	b.t.Helper()
	var r struct{ Data string }
	b.must("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true}, &r)
	png, err := base64.StdEncoding.DecodeString(r.Data)
	if err != nil {
		b.t.Fatal(err)
	}
	return png
}
