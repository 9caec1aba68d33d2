package main

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/escape"
	"github.com/sslgate/sslgate/internal/policytest"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/policy"
)

// explainer prints an explanation; everything it is given is escaped.
type explainer struct{ w io.Writer }

// field prints "  name      text", the text wrapped.
func (p explainer) field(name, text string) {
	const indent = 12
	for i, line := range wrap(escape.Shown(text, 0), columns(p.w)-indent) {
		if i > 0 {
			name = ""
		}
		fmt.Fprintf(p.w, "  %-*s%s\n", indent-2, name, line)
	}
}

// under prints a text below something else, wrapped.
func (p explainer) under(text string) {
	for _, line := range wrap(escape.Shown(text, 0), columns(p.w)-8) {
		fmt.Fprintf(p.w, "        %s\n", line)
	}
}

func explainText(w io.Writer, f policy.Facts, e *policy.Explanation, record *auditLine, digest string) {
	p := explainer{w}
	fmt.Fprintln(w, "flow")
	if record != nil {
		p.field("id", record.ID)
	}
	p.field("from", f.Src.String())
	p.field("to", f.Dst.String())
	p.field("at", f.Now.UTC().Format(time.RFC3339))
	if f.Upgrade.Word() != "" {
		p.field("begins", "with "+f.Upgrade.Begins())
	}
	if f.Hello != nil {
		p.field("hello", f.Hello.Summary())
	}
	fmt.Fprintln(w, "rules tried")
	if len(e.Rules) == 0 {
		fmt.Fprintln(w, "  none")
	}
	for _, t := range e.Rules {
		switch {
		case t.Passed:
			fmt.Fprintf(w, "  (-) %s: fits, and only observed: passed over\n", t.Rule)
		case t.Fits:
			fmt.Fprintf(w, "  [x] %s: fits\n", t.Rule)
		default:
			fmt.Fprintf(w, "  [ ] %s: %s does not fit\n", t.Rule, t.Condition)
			p.under("seen " + t.Seen)
			p.under("wanted " + t.Wanted)
		}
	}
	if len(e.Demands) > 0 {
		fmt.Fprintf(w, "what rule %s asks for\n", e.Demands[0].Rule)
	}
	for _, d := range e.Demands {
		mark := "x"
		if !d.Fits {
			mark = " "
		}
		fmt.Fprintf(w, "  [%s] %s\n", mark, d.Condition)
		p.under("seen " + d.Seen)
		p.under("wanted " + d.Wanted)
	}
	explainVerdict(p, e)
	if record != nil {
		explainRecorded(p, record, digest)
	}
}

func explainVerdict(p explainer, e *policy.Explanation) {
	v := e.Verdict
	fmt.Fprintln(p.w, "verdict")
	if !e.Decided {
		p.field("verdict", "open: it depends on the client hello")
		return
	}
	p.field("verdict", policytest.Verdict(v))
	rule := v.Rule
	if rule == "" {
		rule = "none: the default"
	}
	p.field("rule", rule)
	p.field("reason", string(v.Reason))
	if v.Would.Deny {
		would := "deny, by rule " + v.Would.Rule
		if v.Would.Rule == "" {
			would = "deny, by the default"
		}
		p.field("would", would+": "+string(v.Would.Reason))
	}
	if e.Reason.Sentence != "" {
		p.field("", e.Reason.Sentence)
	}
	detail, alert := v.Detail, v.Alert
	if v.Would.Deny {
		detail, alert = v.Would.Detail, v.Would.Alert
	}
	if detail != "" {
		p.field("detail", detail)
	}
	if alert != handshake.AlertNone {
		p.field("alert", alert.String())
	}
	if e.Reason.Advice != "" {
		p.field("advice", e.Reason.Advice)
	}
	if len(e.Change) > 0 {
		fmt.Fprintln(p.w, "to let it through")
		for _, c := range e.Change {
			for i, line := range wrap(escape.String(c, 0), columns(p.w)-4) {
				fmt.Fprintf(p.w, "  %s %s\n", [2]string{"-", " "}[min(i, 1)], line)
			}
		}
	}
}

func explainRecorded(p explainer, r *auditLine, digest string) {
	fmt.Fprintln(p.w, "recorded")
	p.field("verdict", r.Verdict)
	p.field("rule", r.Rule)
	p.field("reason", r.Reason)
	switch {
	case r.Policy == "" || digest == "":
	case r.Policy == digest:
		p.field("policy", digest+", the same as now")
	default:
		p.field("policy", r.Policy+"; this configuration is "+digest+", so it may have been decided by other rules")
	}
	if r.Detail != "" {
		p.field("detail", r.Detail)
	}
	if r.unread() {
		e, _ := reason.Lookup(reason.Code(r.Reason))
		if e.Advice != "" {
			p.field("advice", e.Advice)
		}
		if rule := plainRule(e.Code, r.Client, r.Destination); rule != "" {
			p.field("a rule", rule)
		}
	}
	if r.Peer != nil {
		p.field("client", strings.Join(append([]string{r.Peer.Subject}, r.Peer.SANs...), ", "))
	}
}

// plainRule is the rule to write for a client that was refused because it does not begin with
// TLS: it may be one that never does. "" for any other refusal. client and destination are
// addresses with ports, as records have them.
func plainRule(code reason.Code, client, destination string) string {
	switch code {
	case reason.HelloTimeout, reason.NotTLS, reason.PlainHTTP:
	default:
		return ""
	}
	src, err := netip.ParseAddrPort(client)
	if err != nil {
		return ""
	}
	dst, err := netip.ParseAddrPort(destination)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("- {name: NAME, from: [%q], to: [%q], action: originate, destination: {tls: verify, authorities: [AUTHORITY], name: SERVER}}"+
		" before the rules that wait for a hello, if this client speaks without TLS and the destination with it; if neither has TLS, the same with action: bypass and no destination",
		src.Addr().Unmap().WithZone(""), netip.AddrPortFrom(dst.Addr().Unmap().WithZone(""), dst.Port()))
}

// explainTrace is one rule or demand in --json. The names are stable.
type explainTrace struct {
	Rule      string `json:"rule"`
	Fits      bool   `json:"fits"`
	Passed    bool   `json:"passed_over,omitempty"`
	Condition string `json:"condition,omitempty"`
	Seen      string `json:"seen,omitempty"`
	Wanted    string `json:"wanted,omitempty"`
}

func explainJSON(w io.Writer, f policy.Facts, e *policy.Explanation, record *auditLine, digest string) error {
	traces := func(list []policy.Trace) []explainTrace {
		out := []explainTrace{}
		for _, t := range list {
			out = append(out, explainTrace{t.Rule, t.Fits, t.Passed, t.Condition, t.Seen, t.Wanted})
		}
		return out
	}
	v := e.Verdict
	out := map[string]any{
		"client": f.Src.String(), "destination": f.Dst.String(), "time": f.Now.UTC().Format(time.RFC3339),
		"moment": e.Moment, "decided": e.Decided, "rules": traces(e.Rules), "demands": traces(e.Demands),
		"verdict": policytest.Verdict(v), "rule": v.Rule, "reason": string(v.Reason),
	}
	if digest != "" {
		out["policy"] = digest
	}
	if v.Detail != "" {
		out["detail"] = v.Detail
	}
	if v.Alert != handshake.AlertNone {
		out["alert"] = v.Alert.String()
	}
	if v.Would.Deny {
		out["would"] = map[string]string{"verdict": "deny", "rule": v.Would.Rule, "reason": string(v.Would.Reason), "detail": v.Would.Detail, "alert": v.Would.Alert.String()}
	}
	if len(e.Change) > 0 {
		out["change"] = e.Change
	}
	if record != nil {
		out["recorded"] = record
	}
	return writeJSON(w, out)
}
