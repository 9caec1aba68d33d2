package web

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func get(method, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w
}

func TestFiles(t *testing.T) {
	for _, c := range []struct {
		method, path, kind string
		code               int
	}{
		{http.MethodGet, "/", "text/html; charset=utf-8", http.StatusOK},
		{http.MethodHead, "/", "text/html; charset=utf-8", http.StatusOK},
		{http.MethodGet, "/index.html", "text/html; charset=utf-8", http.StatusOK},
		{http.MethodGet, "/page.js", "text/javascript; charset=utf-8", http.StatusOK},
		{http.MethodGet, "/page.css", "text/css; charset=utf-8", http.StatusOK},
		{http.MethodGet, "/icon.svg", "image/svg+xml", http.StatusOK},
		{http.MethodGet, "/nothing.js", "", http.StatusNotFound},
		{http.MethodGet, "/../web.go", "", http.StatusNotFound},
		{http.MethodGet, "/page", "", http.StatusNotFound},
		{http.MethodPost, "/", "", http.StatusMethodNotAllowed},
	} {
		w := get(c.method, c.path)
		if w.Code != c.code {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, w.Code, c.code)
		}
		if c.code != http.StatusOK {
			continue
		}
		h := w.Header()
		if h.Get("Content-Type") != c.kind || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", c.path, h)
		}
		csp := h.Get("Content-Security-Policy")
		if !strings.HasPrefix(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || !strings.Contains(csp, "frame-ancestors 'none'") {
			t.Errorf("%s: policy %q", c.path, csp)
		}
	}
}

// Nothing comes from elsewhere, nothing is inline, and no text is ever set as
// markup.
func TestPageIsPlain(t *testing.T) {
	page := get(http.MethodGet, "/").Body.String()
	script := get(http.MethodGet, "/page.js").Body.String()
	style := get(http.MethodGet, "/page.css").Body.String()
	for what, text := range map[string]string{"page": page, "script": script, "style": style} {
		if m := regexp.MustCompile(`(https?:)?//[a-z]|@import|url\(`).FindString(strings.ReplaceAll(text, "// ", "")); m != "" {
			t.Errorf("the %s names something elsewhere: %q", what, m)
		}
	}
	for _, bad := range []string{"style=", "onclick", "onload", "<style", "javascript:"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	if regexp.MustCompile(`<script[^>]*>[^<]`).MatchString(page) {
		t.Error("an inline script")
	}
	for _, bad := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", ".cookie", "localStorage"} {
		if strings.Contains(script, bad) {
			t.Errorf("the script uses %s", bad)
		}
	}
}
