package service

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// asWritten gives the listeners the addresses of the file: those that are open
// have ports of the kernel's choice.
func (h *house) asWritten(metrics string) {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	c := *h.s.rt.Config
	c.Admin.HTTP, c.Admin.Metrics.Listen = "127.0.0.1:9440", metrics
	rt := *h.s.rt
	rt.Config = &c
	h.s.rt = &rt
}

func (h *house) reload(taken bool, said string) {
	h.t.Helper()
	res, ok, err := h.api.Reload(context.Background())
	if err != nil || ok != taken || !strings.Contains(res.Error, said) {
		h.t.Errorf("reload: %v %v %+v", ok, err, res)
	}
}

// A reload changes who may read admin.metrics and how, but not where.
func TestReloadOfMetrics(t *testing.T) {
	h := scraped(t)
	h.asWritten("0.0.0.0:9441")
	as := func(name string) error {
		cert := testpki.Must(h.ca.Issue(testpki.Leaf{DNS: []string{name}})).TLS()
		code, _, err := fetch(h.reader(t, &cert, nil), "https://"+h.s.scrapes.String()+"/metrics")
		if err == nil && code != http.StatusOK {
			t.Errorf("%s: %d", name, code)
		}
		return err
	}
	text := func(listen, from, profile, name string) {
		h.put("sslgate.yaml", 0o644, []byte(strings.Replace(houseConfig, "token_file: token}", `token_file: token,
  metrics: {listen: "`+listen+`", from: [`+from+`], identity: pay, profile: `+profile+`,
    client: {authorities: [staff], allow: [{san_dns: [`+name+`]}]}}}`, 1)))
	}
	cert := testpki.Must(h.ca.Issue(testpki.Leaf{DNS: []string{"prometheus.example"}})).TLS()
	same := h.reader(t, &cert, nil)
	if _, _, err := fetch(same, "https://"+h.s.scrapes.String()+"/metrics"); err != nil {
		t.Fatal(err)
	}
	text("0.0.0.0:9441", "127.0.0.0/8", "intermediate", "victoria.example")
	h.reload(true, "")
	if err := as("victoria.example"); err != nil {
		t.Error(err)
	}
	if err := as("prometheus.example"); err == nil {
		t.Error("who is allowed no longer still reads")
	}
	if _, _, err := fetch(same, "https://"+h.s.scrapes.String()+"/metrics"); err == nil {
		t.Error("who is allowed no longer reads on, on a connection that was kept")
	}
	text("0.0.0.0:9441", "192.0.2.0/24", "modern", "victoria.example")
	h.reload(true, "")
	if err := as("victoria.example"); err == nil {
		t.Error("an address that is allowed no longer reads on")
	}
	text("0.0.0.0:9442", "127.0.0.0/8", "modern", "victoria.example")
	h.reload(false, "admin.metrics.listen")
	if err := as("victoria.example"); err == nil {
		t.Error("a refused reload was put in place")
	}
}

// follow reads a stream to its end, which is no error; begun is closed when it
// has begun.
func (h *house) follow(path string, begun chan<- struct{}) error {
	req, err := http.NewRequest(http.MethodGet, h.url+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+houseToken)
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	res, err := (&http.Client{Transport: tr, Timeout: testenv.Patience()}).Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return errors.New(res.Status)
	}
	close(begun)
	_, err = io.Copy(io.Discard, res.Body)
	return err
}

// A reload reads the token of the loopback anew; who has the old one is cut
// off, and a token that is none refuses the whole.
func TestReloadOfTheToken(t *testing.T) {
	h := newHouse(t)
	h.asWritten("")
	status := func(token string) int {
		r, _ := h.ask("GET", "/v1/status", "", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) })
		return r.StatusCode
	}
	begun, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- h.follow("/v1/trace", begun) }()
	select {
	case <-begun:
	case err := <-ended:
		t.Fatal(err)
	}

	h.put("token", 0o600, []byte("short\n"))
	h.reload(false, "not usable")
	h.put("token", 0o600, []byte(houseToken+"\n"))
	h.reload(true, "")
	select {
	case err := <-ended:
		t.Errorf("the same token ends a stream: %v", err)
	default:
	}
	const next = "fedcba9876543210-another-token"
	h.put("token", 0o600, []byte(next+"\n"))
	h.reload(true, "")
	if a, b := status(houseToken), status(next); a != http.StatusUnauthorized || b != http.StatusOK {
		t.Errorf("the old token: %d, the new one: %d", a, b)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(testenv.Patience()):
		t.Error("who had the old token reads on")
	}
}

// What a listener is bound to needs a restart, and the answer says what.
func TestSameBase(t *testing.T) {
	for want, change := range map[string]func(*config.Config){
		"":                     func(c *config.Config) { c.Admin.TokenFile, c.Admin.Metrics.From = "t", []string{"::/0"} },
		"admin.socket":         func(c *config.Config) { c.Admin.Socket = "x" },
		"admin.http":           func(c *config.Config) { c.Admin.HTTP = "x" },
		"admin.metrics.listen": func(c *config.Config) { c.Admin.Metrics.Listen = "x" },
		"state":                func(c *config.Config) { c.State = "x" },
	} {
		var a, b config.Config
		change(&b)
		if err := sameBase(&a, &b); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}
