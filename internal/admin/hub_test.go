package admin

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/reason"
)

func record(id, rule string, code reason.Code) *audit.Record {
	r := audit.NewRecord(id, time.Now(), netip.MustParseAddrPort("192.0.2.1:4242"), netip.MustParseAddrPort("203.0.113.5:443"))
	r.Rule, r.Reason = rule, code
	return r
}

// A reader that stands still loses records, knows how many, and holds up
// nobody.
func TestSlowReaderLosesAndIsTold(t *testing.T) {
	h := NewHub()
	slow, err := h.Subscribe(Filter{})
	if err != nil {
		t.Fatal(err)
	}
	other, err := h.Subscribe(Filter{Rule: "b"})
	if err != nil {
		t.Fatal(err)
	}
	const n = traceQueue + 100
	for i := range n {
		h.Finished(record(fmt.Sprint(i), "a", reason.NoCertificate))
	}
	if got, lost := len(slow.C), slow.Lost(); got != traceQueue || lost != 100 {
		t.Errorf("%d queued and %d lost of %d", got, lost, n)
	}
	if lost := slow.Lost(); lost != 0 {
		t.Errorf("%d losses are told twice", lost)
	}
	if r := <-slow.C; r.ID != "0" {
		t.Errorf("the first is %s", r.ID)
	}
	if len(other.C) != 0 || other.Lost() != 0 {
		t.Error("records passed a filter that they do not fit")
	}
	h.Unsubscribe(slow)
	for len(slow.C) > 0 {
		<-slow.C
	}
	h.Finished(record("x", "a", reason.NoCertificate))
	if len(slow.C) != 0 {
		t.Error("who has gone is still told")
	}
}

func TestSubscribersAreBounded(t *testing.T) {
	h := NewHub()
	var last *Subscription
	for i := range maxSubscribers {
		s, err := h.Subscribe(Filter{})
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		last = s
	}
	if _, err := h.Subscribe(Filter{}); err == nil {
		t.Error("no bound")
	}
	h.Unsubscribe(last)
	if _, err := h.Subscribe(Filter{}); err != nil {
		t.Error(err)
	}
}

// Whatever rules and reasons come, memory has a bound, and the sums are right.
func TestHubIsBounded(t *testing.T) {
	h := NewHub()
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 2 * maxGroups {
				h.Finished(record(fmt.Sprintf("%d-%d", w, i), fmt.Sprintf("rule-%d", i), reason.NoCertificate))
				h.Finished(record(fmt.Sprintf("%d-%d+", w, i), "pay", reason.OK))
			}
		})
	}
	wg.Wait()
	groups := 0
	h.groups.Range(func(_, _ any) bool { groups++; return true })
	if groups > maxGroups+4+1 { // as many over it as flows that finish at once, and the others
		t.Errorf("%d groups", groups)
	}
	if all := h.Recent(Filter{}, 1<<20); len(all) < 2*ringSize || len(all) > 2*ringSize+1 { // and the last of its one client
		t.Errorf("%d flows are remembered", len(all))
	}
	if n := h.verdicts[0].Load(); n != 8*maxGroups {
		t.Errorf("%d refused", n)
	}
	if hits := h.Hits("pay"); hits.Allowed != 8*maxGroups || hits.Refused != 0 {
		t.Errorf("pay %+v", hits)
	}
}

// As many rules as docs/policy.md speaks of: the hits of each are right, and
// what is not counted apart is said to belong to others.
func TestHitsOfManyRules(t *testing.T) {
	const rules = 10_000
	h := NewHub()
	refusals := []reason.Code{reason.NoCertificate, reason.Expired, reason.UnknownCA}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := w; i < rules; i += 4 {
				name := fmt.Sprintf("rule-%d", i)
				for _, code := range refusals {
					r := record("x", name, code)
					r.Would = &audit.Would{Rule: name, Reason: code}
					h.Finished(r)
				}
				h.Finished(record("x", name, reason.OK))
			}
		})
	}
	wg.Wait()
	for i := range rules {
		if got, want := h.Hits(fmt.Sprintf("rule-%d", i)), (Hits{Allowed: 1, Refused: 3, Would: 3}); got != want {
			t.Fatalf("rule %d of %d: %+v, want %+v", i, rules, got, want)
		}
	}
	var sum, others uint64
	h.groups.Range(func(_, v any) bool {
		g := v.(*group)
		sum += g.count.Load()
		if g.others {
			others++
		}
		return true
	})
	if sum != 3*rules || others != 3 {
		t.Errorf("groups count %d refusals of %d, others have %d reasons of 3", sum, 3*rules, others)
	}
	b := boards{hub: h, backend: fixed{}}
	refused := b.groups()
	for i, g := range refused[:3] { // the most frequent
		if !g.Others || g.Rule != "" || g.Count < 2*maxGroups || g.Example == nil {
			t.Errorf("group %d: %+v", i, g)
		}
	}
	if g := refused[3]; g.Others || g.Count != 1 {
		t.Errorf("group of one rule: %+v", g)
	}
	sum = 0
	woulds := h.Woulds()
	for _, w := range woulds {
		sum += w.Flows
	}
	if sum != 3*rules || !woulds[0].Others || len(woulds) > maxWoulds+4+3 {
		t.Errorf("%d would have been refused, want %d, in %d lines; first %+v", sum, 3*rules, len(woulds), woulds[0])
	}

	// A reload that brings other rules ends the memory of the old ones.
	h.Finished(record("x", "", reason.NoRule))
	h.Keep([]string{"rule-7"})
	if a, b, c := h.Hits("rule-7"), h.Hits("rule-8"), h.Hits(""); a.Flows() != 4 || b.Flows() != 0 || c.Flows() != 1 {
		t.Errorf("after a reload: kept %+v, gone %+v, default %+v", a, b, c)
	}
	left := 0
	h.rules.Range(func(_, _ any) bool { left++; return true })
	if left != 2 {
		t.Errorf("%d rules are remembered", left)
	}
}

func TestMostHit(t *testing.T) {
	hits := []Hits{{}, {Allowed: 5}, {}, {Refused: 9}, {Failed: 1}}
	for limit, want := range map[int]string{0: "[0 1 2 3 4]", 1: "[3]", 2: "[1 3]", 4: "[0 1 3 4]", 9: "[0 1 2 3 4]"} {
		if got := fmt.Sprint(MostHit(hits, limit)); got != want {
			t.Errorf("limit %d: %s, want %s", limit, got, want)
		}
	}
}

// What a board says grows neither with the load nor with what peers send.
func TestBoardIsBounded(t *testing.T) {
	h := NewHub()
	evil := strings.Repeat("\u202e<script>\x00", 1000)
	for i := range 5000 {
		r := record(fmt.Sprint(i), fmt.Sprintf("rule-%d", i), reason.NoCertificate)
		r.SNI, r.Detail = evil, evil
		h.Finished(r)
	}
	flows := make([]Flow, boardFlows)
	for i := range flows {
		flows[i] = Flow{SNI: evil, Subject: evil, SANs: []string{evil, evil, evil, evil, evil, evil}}
	}
	b := boards{hub: h, backend: fixed{live: Live{Handshakes: flows, Relays: flows}}}
	out, err := b.get()
	if err != nil || !json.Valid(out) {
		t.Fatal(err)
	}
	if len(out) > 300<<10 {
		t.Errorf("a board of %d bytes", len(out))
	}
	again, _ := b.get()
	if &again[0] != &out[0] {
		t.Error("each reader costs a board of its own")
	}
}

// Telling of a flow costs little, whoever listens.
func BenchmarkFinished(b *testing.B) {
	h := NewHub()
	for range 4 {
		if _, err := h.Subscribe(Filter{Rule: "other"}); err != nil {
			b.Fatal(err)
		}
	}
	r := record("x", "pay", reason.OK)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			h.Finished(r)
		}
	})
}

// fixed is a backend with nothing behind it but a sample of flows.
type fixed struct {
	Backend
	live Live
}

func (f fixed) Live(int) Live      { return f.live }
func (fixed) Status() Status       { return Status{} }
func (fixed) Readiness() Readiness { return Readiness{} }

// Who is refused without end does not make the refusals of others forgotten.
func TestRefusalsOfOthersStay(t *testing.T) {
	h := NewHub()
	from := func(id, client string) *audit.Record {
		r := record(id, "pay", reason.NoCertificate)
		r.Client = netip.MustParseAddrPort(client)
		h.Finished(r)
		return r
	}
	if !h.RefusedSince().IsZero() {
		t.Error("something was forgotten already")
	}
	// Two that fall on the same slot would push each other out: three, and one at least stays.
	quiet := []*audit.Record{from("q-1", "192.0.2.1:1"), from("q-2", "[2001:db8::1]:1"), from("q-3", "198.51.100.9:1")}
	var second *audit.Record
	for i := range 10 * ringSize {
		r := from(fmt.Sprintf("f-%d", i), fmt.Sprintf("203.0.113.7:%d", 1000+i))
		if i == 9*ringSize {
			second = r
		}
	}
	got := 0
	for _, r := range quiet {
		found := h.Recent(Filter{Client: netip.PrefixFrom(r.Client.Addr(), r.Client.Addr().BitLen())}, 10)
		if len(found) == 1 && found[0] == r && h.Lookup(r.ID) == r {
			got++
		}
	}
	if got == 0 {
		t.Error("none is remembered")
	}
	if all := h.Recent(Filter{}, 1<<20); len(all) != ringSize+got {
		t.Errorf("%d are remembered, of which %d of others", len(all), got)
	}
	if since := h.RefusedSince(); !since.Equal(ended(second)) {
		t.Errorf("since %v, want %v", since, ended(second))
	}
}
