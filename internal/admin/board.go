package admin

import (
	"cmp"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/escape"
)

// Board is what the web page shows of the present state: counters and samples only, so its
// size does not grow with the load. GET /v1/board streams it.
type Board struct {
	At       time.Time `json:"at"`
	Status   Status    `json:"status"`
	Ready    Readiness `json:"ready"`
	Totals   Hits      `json:"totals"` // flows finished since the start
	Unlisted int64     `json:"unlisted"`
	Steps    []Step    `json:"steps"` // 0 to 9
	Relaying int       `json:"relaying"`
	// Handshakes and Relays are the newest live flows.
	Handshakes []Flow     `json:"handshakes"`
	Relays     []Flow     `json:"relays"`
	Refusals   []Group    `json:"refusals"` // the most frequent, refused and failed
	Recent     []Finished `json:"recent"`   // newest first
}

// Step is one of the nine steps; 0 is before the client hello.
type Step struct {
	Step  int    `json:"step"`
	Name  string `json:"name"`
	Now   int    `json:"now"`   // handshakes that have come this far and no further yet
	Ended uint64 `json:"ended"` // flows not let through that came this far, since the start
}

// Group counts the flows that one rule did not let through for one reason. With others it
// stands for all rules that have no group of their own.
type Group struct {
	Rule    string    `json:"rule"`
	Others  bool      `json:"others,omitempty"`
	Verdict string    `json:"verdict"`
	Reason  string    `json:"reason"`
	Count   uint64    `json:"count"`
	Last    time.Time `json:"last"`
	Example *Finished `json:"example,omitempty"` // a recent one
}

// Finished is a short form of a finished flow. Texts of peers are not escaped.
type Finished struct {
	ID          string    `json:"id"`
	At          time.Time `json:"at"` // its end
	Client      string    `json:"client"`
	Destination string    `json:"destination"`
	SNI         string    `json:"sni,omitempty"`
	Rule        string    `json:"rule,omitempty"`
	Verdict     string    `json:"verdict"`
	Reason      string    `json:"reason"`
	Detail      string    `json:"detail,omitempty"`
	Step        int       `json:"step"`
	Alert       string    `json:"alert,omitempty"` // sent, else received, else wanted
	Subject     string    `json:"subject,omitempty"`
	SANs        []string  `json:"sans,omitempty"`
	Proven      bool      `json:"proven"` // of subject and sans
	BytesUp     int64     `json:"bytes_up"`
	BytesDown   int64     `json:"bytes_down"`
	DurationUs  int64     `json:"duration_us"`
	End         string    `json:"end,omitempty"`
}

// The bounds of a Board. A row takes at most about 2 KiB with every text at its bound, so a
// board takes at most about 300 KiB, and usually some 20 KiB.
const (
	boardFlows    = 24
	boardGroups   = 40
	boardFinished = 24
	boardText     = 160 // bytes of one text of a peer
	boardSANs     = 4
)

// boardEvery is the shortest time between two Boards, which all readers share. It is longer
// if making one takes more than a twentieth of it.
const boardEvery = 250 * time.Millisecond

func shorten(s string) string {
	if len(s) <= boardText {
		return s
	}
	return s[:boardText] + "..." // a cut character becomes U+FFFD in JSON
}

func shortSANs(all []string) []string {
	var out []string
	for _, s := range all[:min(len(all), boardSANs)] {
		out = append(out, shorten(s))
	}
	return out
}

func finished(r *audit.Record) Finished {
	f := Finished{
		ID: r.ID, At: ended(r).UTC(), Client: r.Client.String(), Destination: r.Destination.String(), SNI: shorten(r.SNI),
		Rule: r.Rule, Verdict: r.Verdict(), Reason: string(r.Reason), Detail: shorten(r.Detail), Step: int(r.Step),
		BytesUp: r.BytesUp, BytesDown: r.BytesDown, DurationUs: r.Duration.Microseconds(), End: string(r.End),
	}
	for _, a := range []handshake.Alert{r.AlertSent, r.AlertReceived, r.AlertWanted} {
		if f.Alert = a.String(); f.Alert != "" {
			break
		}
	}
	if p := r.Peer; p != nil && p.Leaf() != nil {
		f.Subject, f.SANs, f.Proven = certname.Shown(p.Leaf().RawSubject, boardText), shortSANs(certname.AltTexts(p.Leaf().Extensions, escape.Text)), p.Proven
	}
	return f
}

// boards makes Boards, one at a time, for all readers.
type boards struct {
	backend Backend
	hub     *Hub

	mu   sync.Mutex
	json []byte
	made time.Time
	took time.Duration
}

// get returns the newest board as JSON. It makes a new one if that is old enough.
func (b *boards) get() ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	start := time.Now()
	if b.json != nil && start.Sub(b.made) < max(boardEvery*9/10, 20*b.took) {
		return b.json, nil
	}
	out, err := json.Marshal(b.make())
	if err != nil {
		return nil, err
	}
	b.json, b.made, b.took = out, start, time.Since(start)
	return out, nil
}

func (b *boards) make() Board {
	live := b.backend.Live(boardFlows)
	board := Board{
		At: time.Now().UTC(), Status: b.backend.Status(), Ready: b.backend.Readiness(),
		Totals:   Hits{Refused: b.hub.verdicts[0].Load(), Failed: b.hub.verdicts[1].Load(), Allowed: b.hub.verdicts[2].Load(), Would: b.hub.wouldTotal.Load()},
		Unlisted: b.hub.unrecorded.Load(),
		Relaying: live.Relaying, Handshakes: shortFlows(live.Handshakes), Relays: shortFlows(live.Relays),
		Refusals: b.groups(), Recent: []Finished{},
	}
	for i := range live.Steps {
		board.Steps = append(board.Steps, Step{Step: i, Name: handshake.Step(i).String(), Now: live.Steps[i], Ended: b.hub.reached[i].Load()})
	}
	for _, r := range b.hub.Recent(Filter{}, boardFinished) {
		board.Recent = append(board.Recent, finished(r))
	}
	return board
}

func shortFlows(all []Flow) []Flow {
	out := make([]Flow, 0, len(all))
	for _, f := range all {
		f.SNI, f.Subject, f.SANs = shorten(f.SNI), shorten(f.Subject), shortSANs(f.SANs)
		out = append(out, f)
	}
	return out
}

func (b *boards) groups() []Group {
	type counted struct {
		g *group
		n uint64
	}
	var all []counted
	b.hub.groups.Range(func(_, v any) bool {
		g := v.(*group)
		all = append(all, counted{g, g.count.Load()})
		return true
	})
	slices.SortFunc(all, func(a, b counted) int {
		return cmp.Or(cmp.Compare(b.n, a.n), cmp.Compare(a.g.rule, b.g.rule), cmp.Compare(a.g.code, b.g.code))
	})
	out := []Group{}
	for _, c := range all[:min(len(all), boardGroups)] {
		g := Group{
			Rule: c.g.rule, Others: c.g.others, Verdict: c.g.kind.String(), Reason: string(c.g.code), Count: c.n,
			Last: time.UnixMilli(c.g.last.Load()).UTC(),
		}
		if r := c.g.example.Load(); r != nil {
			f := finished(r)
			g.Example = &f
		}
		out = append(out, g)
	}
	return out
}
