package admin

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/diagram"
)

// apiVersion is the number in every path. It changes when a field or path is removed or
// changes its meaning.
const apiVersion = 1

//go:embed openapi.json
var openAPI []byte

// route is one request that can be made. openapi.json is made from the list.
type route struct {
	method, path, summary string
	query                 []param
	body                  any    // of the request; nil: none
	answers               []says // the first is the usual one
	open                  bool   // needs no token on the loopback
	socketOnly            bool
	handle                http.HandlerFunc
}

type param struct{ name, kind, doc string }

// says is one answer: a JSON value of the type of body, or another content.
type says struct {
	code    int
	doc     string
	body    any
	content string // "" is application/json
}

// The query parameters that pick flows.
func filterParams(finished bool) []param {
	p := []param{
		{"rule", "string", "name of the rule"},
		{"client", "string", "address, or network in CIDR form, of the client"},
		{"reason", "string", "reason code; of finished flows also how they ended"},
		{"step", "integer", "the step that was reached, 1 to 9"},
	}
	if finished {
		p = append(p, param{"verdict", "string", "allowed, refused or failed"})
	}
	return p
}

const ndjson = "application/x-ndjson"

func (s *Server) list() []route {
	b := s.opt.Backend
	limit := param{"limit", "integer", "no more than so many"}
	bad := says{http.StatusBadRequest, "a parameter is wrong", Failure{}, ""}
	gone := says{http.StatusNotFound, "no flow has this id", Failure{}, ""}
	busy := says{http.StatusServiceUnavailable, "too many readers", Failure{}, ""}
	ok := func(doc string, v any) says { return says{http.StatusOK, doc, v, ""} }
	return []route{
		{method: "GET", path: "/v1/health", summary: "Is the process alive?", open: true,
			answers: []says{ok("alive", Health{})},
			handle:  func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, Health{Alive: true}) }},
		{method: "GET", path: "/v1/ready", summary: "Are flows taken, and if not, why?", open: true,
			query:   []param{{"kinds", "string", "which kinds of reasons count, with commas between them: stop, own, identity, shared, load; all where there is none"}},
			answers: []says{ok("flows are taken", Readiness{}), {http.StatusServiceUnavailable, "not ready", Readiness{}, ""}, bad},
			handle:  s.ready},
		{method: "GET", path: "/v1/version", summary: "Which version runs", open: true,
			answers: []says{ok("version of the program and of this interface", Version{})},
			handle: func(w http.ResponseWriter, _ *http.Request) {
				answer(w, http.StatusOK, Version{Version: b.Status().Version, API: apiVersion})
			}},
		{method: "GET", path: "/v1/openapi.json", summary: "This description", open: true,
			answers: []says{{http.StatusOK, "OpenAPI 3.1", map[string]any{}, ""}},
			handle: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write(openAPI)
			}},
		{method: "GET", path: "/v1/status", summary: "How the gateway stands",
			answers: []says{ok("status", Status{})},
			handle:  func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, b.Status()) }},
		{method: "GET", path: "/v1/config", summary: "The configuration as loaded, with defaults; names of files, never keys",
			answers: []says{ok("configuration", map[string]any{})},
			handle:  func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, b.Config()) }},
		{method: "GET", path: "/v1/policy", summary: "Digest and rules, with the flows each has decided",
			query:   []param{{"limit", "integer", "no more rules than so many, those with the most flows"}},
			answers: []says{ok("policy", Policy{}), bad}, handle: s.policy},
		{method: "GET", path: "/v1/certificates", summary: "Certificates of identities and authorities, the first to end first",
			answers: []says{ok("certificates", []Certificate{})},
			handle:  func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, b.Certificates()) }},
		{method: "GET", path: "/v1/revocation", summary: "CRLs in use, the first to end first",
			answers: []says{ok("lists", []RevocationList{})},
			handle:  func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, b.Revocation()) }},
		{method: "GET", path: "/v1/flows", summary: "Live flows", query: append(filterParams(false), limit),
			answers: []says{ok("flows, the oldest first; the header Sslgate-Total says how many fit, beyond the limit too", []Flow{}), bad}, handle: s.flows},
		{method: "GET", path: "/v1/flows/{id}", summary: "One flow with its picture, live or just finished",
			answers: []says{ok("flow", FlowDetail{}), gone}, handle: s.flow},
		{method: "POST", path: "/v1/flows/{id}/end", summary: "End a live flow with a reset to both sides",
			answers: []says{ok("it ends", Ended{}), gone},
			handle: func(w http.ResponseWriter, r *http.Request) {
				if err := b.EndFlow(r.PathValue("id")); err != nil {
					fail(w, http.StatusNotFound, err.Error())
					return
				}
				answer(w, http.StatusOK, Ended{r.PathValue("id")})
			}},
		{method: "GET", path: "/v1/recent", summary: "The flows that finished last, as far as they are remembered", query: append(filterParams(true), limit),
			answers: []says{ok("flows, newest first; the header Sslgate-Refused-Since says from which moment on all that were not let through are remembered, where not all are", []Finished{}), bad}, handle: s.recent},
		{method: "GET", path: "/v1/trace", summary: "Every flow as it finishes, one JSON value a line", query: filterParams(true),
			answers: []says{{http.StatusOK, "lines until the reader goes", TraceLine{}, ndjson}, bad, busy}, handle: s.trace},
		{method: "GET", path: "/v1/board", summary: "What the web page shows, at most four times a second",
			query:   []param{{"once", "boolean", "one board instead of a stream"}},
			answers: []says{{http.StatusOK, "one board a line", Board{}, ndjson}, {http.StatusOK, "with once, one board", Board{}, ""}, busy}, handle: s.board},
		{method: "POST", path: "/v1/reload", summary: "Read the configuration anew: all of it is put in place, or nothing",
			answers: []says{ok("taken", ReloadResult{}), {http.StatusConflict, "the old one stays", ReloadResult{}, ""}},
			handle: func(w http.ResponseWriter, _ *http.Request) {
				res, err := b.Reload(s.ending)
				code := http.StatusOK
				if err != nil {
					code = http.StatusConflict
				}
				answer(w, code, res)
			}},
		{method: "POST", path: "/v1/drain", summary: "Take no new flows, let the live ones end, then stop, as on SIGTERM",
			answers: []says{{http.StatusAccepted, "it drains", Drain{}, ""}},
			handle: func(w http.ResponseWriter, _ *http.Request) {
				answer(w, http.StatusAccepted, Drain{Draining: true, Deadline: b.Drain().UTC()})
			}},
		{method: "POST", path: "/v1/handover", summary: "Hand over to another process of sslgate, which `sslgate upgrade` has started", socketOnly: true, body: Offer{},
			answers: []says{
				{http.StatusSwitchingProtocols, "lines from now on: first the terms, then an answer to each order", Terms{}, ndjson},
				{http.StatusUpgradeRequired, "not without `Upgrade: sslgate-handover`", Failure{}, ""}, bad,
				{http.StatusConflict, "it does not hand over", Failure{}, ""},
			},
			handle: s.handOver},
		{method: "GET", path: "/v1/log-level", summary: "What is logged",
			answers: []says{ok("level", LogLevel{})},
			handle:  func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, LogLevel{b.LogLevel()}) }},
		{method: "PUT", path: "/v1/log-level", summary: "Change what is logged, until the next start", body: LogLevel{},
			answers: []says{ok("level", LogLevel{}), bad}, handle: s.setLogLevel},
		{method: "GET", path: "/metrics", summary: "Metrics for Prometheus", open: true,
			answers: []says{{http.StatusOK, "text, or protobuf where asked for", nil, "text/plain"}},
			handle:  s.opt.Metrics.ServeHTTP},
		{method: "GET", path: "/debug/pprof/{profile...}", summary: "Profiles of the process, for `go tool pprof`", socketOnly: true,
			answers: []says{{http.StatusOK, "a profile", nil, "application/octet-stream"}}, handle: profile},
	}
}

// routes serves all routes, for the socket.
func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	for _, r := range s.list() {
		mux.HandleFunc(r.method+" "+r.path, r.handle)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fail(w, http.StatusNotFound, "no such path") })
	return mux
}

// web serves the loopback: the page and the routes that are not for the socket alone, behind a
// guard.
func (s *Server) web(a netip.AddrPort) http.Handler {
	mux := http.NewServeMux()
	open := map[string]bool{}
	for _, r := range s.list() {
		if r.socketOnly {
			continue
		}
		mux.HandleFunc(r.method+" "+r.path, r.handle)
		open[r.path] = r.open
	}
	for _, own := range []string{"/v1/", "/debug/"} {
		mux.HandleFunc(own, func(w http.ResponseWriter, _ *http.Request) { fail(w, http.StatusNotFound, "no such path") })
	}
	if s.opt.Page != nil {
		mux.Handle("/", s.opt.Page)
	}
	return &guard{
		hosts: hostsOf(a), token: &s.token, next: mux,
		open: func(r *http.Request) bool {
			if r.Method != http.MethodGet && r.Method != http.MethodHead {
				return false
			}
			p := r.URL.Path
			return open[p] || !strings.HasPrefix(p, "/v1/") && !strings.HasPrefix(p, "/debug/")
		},
	}
}

// sinceHeader carries the time since which all refusals are remembered.
const sinceHeader = "Sslgate-Refused-Since"

// totalHeader carries the number of live flows that pass the filter, whatever the limit.
const totalHeader = "Sslgate-Total"

func (s *Server) flows(w http.ResponseWriter, r *http.Request) {
	f, n, err := picked(r, 0)
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	flows, all := s.opt.Backend.Flows(f, n)
	if flows == nil {
		flows = []Flow{}
	}
	w.Header().Set(totalHeader, strconv.Itoa(all))
	answer(w, http.StatusOK, flows)
}

func (s *Server) policy(w http.ResponseWriter, r *http.Request) {
	n, err := atMost(r.URL.Query(), 0)
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	answer(w, http.StatusOK, s.opt.Backend.Policy(n))
}

// picked reads the filter and the limit.
func picked(r *http.Request, limit int) (Filter, int, error) {
	q := r.URL.Query()
	f, err := ParseFilter(q)
	if err != nil {
		return f, 0, err
	}
	limit, err = atMost(q, limit)
	return f, limit, err
}

func atMost(q url.Values, limit int) (int, error) {
	s := q.Get("limit")
	if s == "" {
		return limit, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return 0, errors.New("limit is a number from 1")
	}
	return n, nil
}

func (s *Server) flow(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if d, ok := s.opt.Backend.Flow(id); ok {
		answer(w, http.StatusOK, d)
		return
	}
	rec := s.opt.Hub.Lookup(id)
	if rec == nil {
		fail(w, http.StatusNotFound, "no live flow has this id, and none that finished lately")
		return
	}
	raw, err := EncodeRecord(rec)
	var parsed *audit.Parsed
	if err == nil {
		parsed, err = audit.Parse(raw)
	}
	if err != nil {
		fail(w, http.StatusInternalServerError, err.Error())
		return
	}
	answer(w, http.StatusOK, FlowDetail{Record: raw, Picture: diagram.Block(parsed)})
}

func (s *Server) recent(w http.ResponseWriter, r *http.Request) {
	f, n, err := picked(r, 3*ringSize)
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	if since := s.opt.Hub.RefusedSince(); !since.IsZero() {
		w.Header().Set(sinceHeader, since.UTC().Format(time.RFC3339Nano))
	}
	out := []Finished{}
	for _, rec := range s.opt.Hub.Recent(f, n) {
		out = append(out, finished(rec))
	}
	answer(w, http.StatusOK, out)
}

func (s *Server) setLogLevel(w http.ResponseWriter, r *http.Request) {
	var want LogLevel
	dec := json.NewDecoder(io.LimitReader(r.Body, 1<<10))
	dec.DisallowUnknownFields()
	err := dec.Decode(&want)
	if err == nil {
		err = s.opt.Backend.SetLogLevel(want.Level)
	}
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	answer(w, http.StatusOK, LogLevel{s.opt.Backend.LogLevel()})
}

func profile(w http.ResponseWriter, r *http.Request) {
	// A CPU profile takes as long as requested, usually half a minute.
	long(w)
	switch r.PathValue("profile") {
	case "cmdline":
		pprof.Cmdline(w, r)
	case "profile":
		pprof.Profile(w, r)
	case "symbol":
		pprof.Symbol(w, r)
	case "trace":
		pprof.Trace(w, r)
	default:
		pprof.Index(w, r) // the list, or the named profile
	}
}

func answer(w http.ResponseWriter, code int, v any) {
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(v); err != nil {
		fail(w, http.StatusInternalServerError, err.Error())
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write(b.Bytes()) // fails only if the caller is gone
}

func fail(w http.ResponseWriter, code int, text string) { answer(w, code, Failure{Error: text}) }
