package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sslgate/sslgate/internal/diagram"
	"github.com/sslgate/sslgate/internal/escape"
)

// reporter prints results: readable blocks and a table, or JSON lines.
type reporter struct {
	w       io.Writer
	json    bool
	results []*Result
}

func newReporter(w io.Writer, asJSON bool) *reporter { return &reporter{w: w, json: asJSON} }

func (p *reporter) scenario(r *Result) error {
	p.results = append(p.results, r)
	if p.json {
		return p.line(r)
	}
	_, err := io.WriteString(p.w, r.block())
	return err
}

// line prints one JSON object.
func (p *reporter) line(v any) error {
	enc := json.NewEncoder(p.w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// end prints the table and the summary.
func (p *reporter) end(took time.Duration) error {
	failed := 0
	for _, r := range p.results {
		if !r.OK {
			failed++
		}
	}
	if p.json {
		return p.line(struct {
			Scenarios int `json:"scenarios"`
			Failed    int `json:"failed"`
		}{len(p.results), failed})
	}
	var b strings.Builder
	row := func(cells ...any) {
		b.WriteString(strings.TrimRight(fmt.Sprintf("%-17s%-30s%-30s%s", cells...), " ") + "\n")
	}
	b.WriteString(rule("summary"))
	row("scenario", "expected", "seen", "")
	for _, r := range p.results {
		mark := "ok"
		if !r.OK {
			mark = "NO"
		}
		row(r.Scenario.Name, r.Scenario.Want.summary(), r.summary(), mark)
		for _, d := range r.Differences {
			b.WriteString("    " + d + "\n")
		}
	}
	fmt.Fprintf(&b, "\nscenarios: %d, not as expected: %d, in %.1f s\n", len(p.results), failed, took.Seconds())
	_, err := io.WriteString(p.w, b.String())
	return err
}

// summary is the required outcome, in 29 columns.
func (w Want) summary() string {
	if w.Text != "" {
		return w.Text
	}
	return string(w.Reason)
}

// summary is the actual outcome, in 29 columns.
func (r *Result) summary() string {
	switch {
	case r.Scenario.Want.Text != "" && r.OK:
		return r.Scenario.Want.Text
	case r.Record == nil:
		return string(r.view.Seen)
	}
	return escape.String(r.Record.Reason, 29)
}

// block is the readable report of a scenario.
func (r *Result) block() string {
	var b strings.Builder
	b.WriteString(rule(r.Scenario.Name))
	b.WriteString(r.Scenario.Title + "\n")
	if r.Record != nil {
		b.WriteString(diagram.Block(r.Record))
	} else {
		fmt.Fprintf(&b, "%s -> %s\n", r.from, r.to)
	}
	if r.second != nil {
		b.WriteString("\nand on the second gateway\n" + diagram.Block(r.second) + "\n")
	}
	line := func(name, text string) { b.WriteString(diagram.Field(name, text)) }
	line("client saw", r.view.Text)
	if r.view.Server != "" {
		line("shown to it", r.view.Server)
	}
	for _, c := range r.checks {
		answer := "yes"
		if !c.OK {
			answer = "NO, " + c.Detail
		}
		line("checked", c.What+": "+answer)
	}
	if !r.OK {
		for _, d := range r.Differences {
			line("NOT AS MEANT", d)
		}
	}
	b.WriteString("\n")
	return b.String()
}

// rule is a line of 80 columns with a heading.
func rule(head string) string {
	return "== " + head + " " + strings.Repeat("=", max(0, 76-len(head))) + "\n"
}

// MarshalJSON is one line of --json.
func (r *Result) MarshalJSON() ([]byte, error) {
	type side struct {
		Verdict string `json:"verdict,omitempty"`
		Rule    string `json:"rule"`
		Reason  string `json:"reason,omitempty"`
		Alert   string `json:"alert_wanted,omitempty"`
		Sent    string `json:"alert_sent,omitempty"`
		Saw     Seen   `json:"client_saw"`
		Text    string `json:"client_saw_text,omitempty"`
		Server  string `json:"client_was_shown,omitempty"`
		Proof   string `json:"certificate,omitempty"`
	}
	w := r.Scenario.Want
	want := side{Saw: w.Saw}
	got := side{Saw: r.view.Seen, Text: r.view.Text, Server: r.view.Server}
	if rec := r.Record; rec != nil {
		want.Verdict, want.Rule, want.Reason, want.Alert, want.Proof = w.Verdict(), w.Rule, string(w.Reason), w.Alert.String(), w.Proven.String()
		got.Verdict, got.Rule, got.Reason, got.Alert, got.Sent, got.Proof = rec.Verdict, rec.Rule, rec.Reason, rec.AlertWanted, rec.AlertSent, proof(rec).String()
	}
	return json.Marshal(struct {
		Scenario    string          `json:"scenario"`
		Title       string          `json:"title"`
		Client      string          `json:"client"`
		Destination string          `json:"destination"`
		Expected    side            `json:"expected"`
		Seen        side            `json:"seen"`
		Checks      []Check         `json:"checks"`
		OK          bool            `json:"ok"`
		Differences []string        `json:"differences,omitempty"`
		Record      json.RawMessage `json:"record,omitempty"`
		Second      json.RawMessage `json:"second_record,omitempty"` // of a second gateway
	}{
		r.Scenario.Name, r.Scenario.Title, r.from.String(), r.to.String(),
		want, got, r.checks, r.OK, r.Differences, r.raw, r.secondRaw,
	})
}
