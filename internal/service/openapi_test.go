package service

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

type openAPI struct {
	Paths map[string]map[string]struct {
		Responses map[string]struct {
			Content map[string]struct{ Schema schema }
		}
		RequestBody *struct{ Required bool }
		Security    []any
	}
	Components struct{ Schemas map[string]schema }
}

type schema struct {
	Ref        string `json:"$ref"`
	Type       string
	Format     string
	Items      *schema
	Properties map[string]schema
	Required   []string
}

// fits says where a value is not what the schema says. A field that the
// schema does not know is a mistake too.
func (o *openAPI) fits(s schema, v any, where string) error {
	if s.Ref != "" {
		s = o.Components.Schemas[s.Ref[strings.LastIndex(s.Ref, "/")+1:]]
	}
	var ok bool
	switch s.Type {
	case "string":
		var text string
		text, ok = v.(string)
		if ok && s.Format == "date-time" {
			if _, err := time.Parse(time.RFC3339, text); err != nil {
				return fmt.Errorf("%s: %w", where, err)
			}
		}
	case "boolean":
		_, ok = v.(bool)
	case "number":
		_, ok = v.(float64)
	case "integer":
		n, isNumber := v.(float64)
		ok = isNumber && n == float64(int64(n))
	case "array":
		var list []any
		if list, ok = v.([]any); ok {
			for i, e := range list {
				if err := o.fits(*s.Items, e, fmt.Sprintf("%s[%d]", where, i)); err != nil {
					return err
				}
			}
		}
	case "object":
		var m map[string]any
		if m, ok = v.(map[string]any); !ok || s.Properties == nil {
			break
		}
		for _, k := range s.Required {
			if _, has := m[k]; !has {
				return fmt.Errorf("%s lacks %s", where, k)
			}
		}
		for k, e := range m {
			p, known := s.Properties[k]
			if !known {
				return fmt.Errorf("%s.%s is not in the description", where, k)
			}
			if err := o.fits(p, e, where+"."+k); err != nil {
				return err
			}
		}
	default:
		return fmt.Errorf("%s: the description has the type %q", where, s.Type)
	}
	if !ok {
		return fmt.Errorf("%s is a %T, not a %s", where, v, s.Type)
	}
	return nil
}

// Every path of the description is asked, on the socket, while flows live and
// have finished; the answer is one that the description knows, with its fields
// and no others.
func TestServerIsAsDescribed(t *testing.T) {
	h := newHouse(t)
	live := h.good()
	defer live.Close()
	_ = h.good().Close()
	h.bad()
	h.finished(2)
	client := &http.Client{Timeout: testenv.Patience(), Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(h.dir, "a.sock"))
		},
	}}
	do := func(method, path, body string) (reply, []byte) {
		t.Helper()
		req, err := http.NewRequest(method, "http://sslgate"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatalf("%s %s: %v", method, path, err)
		}
		defer resp.Body.Close()
		if resp.Header.Get("Content-Type") == "application/x-ndjson" {
			line := make([]byte, 0, 1<<16)
			for b := make([]byte, 1); !bytes.HasSuffix(line, []byte("\n")); line = append(line, b[0]) {
				if _, err := io.ReadFull(resp.Body, b); err != nil {
					t.Fatal(err)
				}
			}
			return replyOf(resp), line
		}
		out, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return replyOf(resp), out
	}
	_, raw := do("GET", "/v1/openapi.json", "")
	var api openAPI
	if err := json.Unmarshal(raw, &api); err != nil {
		t.Fatal(err)
	}
	if len(api.Paths) < 18 {
		t.Fatalf("%d paths", len(api.Paths))
	}
	recent := h.s.hub.Recent(adminAll, 1)
	flows, _ := h.s.Flows(adminAll, 0)
	ids := []string{flows[0].ID, recent[0].ID, "nobody"}
	for _, path := range slices.Sorted(maps.Keys(api.Paths)) {
		for method, op := range api.Paths[path] {
			if path == "/v1/drain" {
				continue // last
			}
			var asked []string
			switch {
			case strings.Contains(path, "{id}"):
				for _, id := range ids {
					asked = append(asked, strings.ReplaceAll(path, "{id}", id))
				}
			case strings.Contains(path, "{profile}"):
				asked = []string{strings.ReplaceAll(path, "{profile}", "goroutine"), strings.ReplaceAll(path, "{profile}", "")}
			default:
				asked = []string{path, path + "?limit=x", path + "?limit=1", path + "?once=true"}
			}
			body := ""
			if op.RequestBody != nil {
				body = `{"level":"info"}`
			}
			for _, p := range asked {
				resp, out := do(strings.ToUpper(method), p, body)
				if err := api.answers(op.Responses, resp, out); err != nil {
					t.Errorf("%s %s: %v: %.300s", method, p, err, out)
				}
			}
		}
	}
	// What only the loopback answers: a wrong token, another page, another name.
	refused := map[string]func(*http.Request){
		"401": func(r *http.Request) { r.Header.Set("Authorization", "Bearer wrong") },
		"403": func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") },
		"421": func(r *http.Request) { r.Host = "evil.example" },
	}
	for path, ops := range api.Paths {
		for method, op := range ops {
			for code, change := range refused {
				_, known := op.Responses[code]
				open := code == "401" && op.Security != nil
				if only := strings.HasPrefix(path, "/debug/") || path == "/v1/handover"; known == (open || only) {
					t.Errorf("%s %s: %s is described: %v", method, path, code, known)
				}
				if !known {
					continue
				}
				resp, out := h.ask(strings.ToUpper(method), strings.ReplaceAll(path, "{id}", "nobody"), "", change)
				if err := api.answers(op.Responses, resp, out); err != nil || fmt.Sprint(resp.StatusCode) != code {
					t.Errorf("%s %s: %s, want %s: %v: %.300s", method, path, resp.Status, code, err, out)
				}
			}
		}
	}
	resp, out := do("POST", "/v1/drain", "")
	if err := api.answers(api.Paths["/v1/drain"]["post"].Responses, resp, out); err != nil {
		t.Errorf("drain: %v: %s", err, out)
	}
}

func (o *openAPI) answers(known map[string]struct {
	Content map[string]struct{ Schema schema }
}, resp reply, body []byte) error {
	r, ok := known[fmt.Sprint(resp.StatusCode)]
	if !ok {
		return fmt.Errorf("%s is not in the description", resp.Status)
	}
	c, ok := r.Content[resp.Kind]
	if !ok && !strings.HasPrefix(resp.Path, "/debug/") {
		return fmt.Errorf("the content %s is not in the description", resp.Kind)
	}
	if c.Schema.Type == "" && c.Schema.Ref == "" {
		return nil // no JSON
	}
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		return err
	}
	return o.fits(c.Schema, v, "")
}
