package policytest

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/fielderr"
	"github.com/sslgate/sslgate/internal/ja4"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/upgrade"
	"github.com/sslgate/sslgate/policy"
)

// Spec is a test file as it is written.
type Spec struct {
	// Policy is the configuration that is tested, beside the test file.
	Policy string `yaml:"policy"`
	// Now is the time of every case that has none of its own, RFC 3339. Default the time of the test.
	Now string `yaml:"now"`
	// Tests in order.
	Tests []Case `yaml:"tests"`
}

// Case is one flow and what should become of it.
type Case struct {
	Name        string       `yaml:"name"`
	From        string       `yaml:"from"`      // the client: ADDRESS or ADDRESS:PORT
	To          string       `yaml:"to"`        // the original destination, ADDRESS:PORT
	Local       bool         `yaml:"local"`     // the client is a program of this host
	Plaintext   bool         `yaml:"plaintext"` // the client speaks without TLS
	Upgrade     string       `yaml:"upgrade"`   // what the client asks for TLS by: postgres; default TLS from the first byte
	SNI         string       `yaml:"sni"`
	ALPN        []string     `yaml:"alpn"`
	JA4         string       `yaml:"ja4"` // fingerprint of the hello; default that of the one that is made here
	TLS         []string     `yaml:"tls"` // versions offered
	Suites      []string     `yaml:"suites"`
	Groups      []string     `yaml:"groups"`
	At          string       `yaml:"at"` // RFC 3339
	Certificate *Certificate `yaml:"certificate"`
	Want        Want         `yaml:"want"`
}

// Want is the expected result of a flow. A field that is left out matches anything; the verdict
// is required.
type Want struct {
	Verdict string `yaml:"verdict"` // allow, bypass, originate or deny
	Rule    string `yaml:"rule"`    // its name; "default" where no rule fits
	Reason  string `yaml:"reason"`
	Would   string `yaml:"would"` // the reason of a refusal that is only observed; "none"
}

// The verdicts.
const (
	verdictAllow     = "allow"
	verdictBypass    = "bypass"
	verdictOriginate = "originate"
	verdictDeny      = "deny"
)

// byDefault is the word for no rule, and none the word for no observed refusal.
const (
	byDefault = "default"
	none      = "none"
)

// File is a test file that was read.
type File struct {
	Spec Spec
	file *config.File
	now  time.Time
	// facts of each case, without a certificate.
	facts []policy.Facts
}

// maxCases bounds a test file.
const maxCases = 10_000

// Parse reads a test file. The error is config.Findings, each with its place.
func Parse(name string, text []byte) (*File, error) {
	t := &File{now: time.Now()}
	var err error
	if t.file, err = config.Decode(name, text, &t.Spec); err != nil {
		return nil, err
	}
	var list fielderr.List
	if t.Spec.Now != "" {
		if t.now, err = time.Parse(time.RFC3339, t.Spec.Now); err != nil {
			list.Addf("now", "%q is no time such as 2026-11-23T10:00:00Z", t.Spec.Now)
		}
	}
	switch n := len(t.Spec.Tests); {
	case n == 0:
		list.Addf("tests", "there are no tests")
	case n > maxCases:
		list.Addf("tests", "%d tests; a file has at most %d", n, maxCases)
	}
	for i := range t.Spec.Tests[:min(len(t.Spec.Tests), maxCases)] {
		f, err := t.Spec.Tests[i].facts(t.now)
		list.Add(fmt.Sprintf("tests[%d]", i), err)
		t.facts = append(t.facts, f)
	}
	if list.Err() != nil {
		found := t.file.Locate("", list.Err())
		config.Sort(found)
		return nil, config.Findings(found)
	}
	return t, nil
}

// Finding locates a mistake of a case.
func (t *File) Finding(i int, path, msg string) config.Finding {
	return t.file.Finding(fielderr.Join(fmt.Sprintf("tests[%d]", i), path), msg)
}

// PolicyFile is the path of the configuration it tests, "" where it names none.
func (t *File) PolicyFile() string {
	if t.Spec.Policy == "" {
		return ""
	}
	return t.file.Abs(t.Spec.Policy)
}

// facts makes the facts of a case; the paths in the error are below the case.
func (c *Case) facts(now time.Time) (policy.Facts, error) {
	var list fielderr.List
	f := policy.Facts{Now: now, Local: c.Local}
	if c.Name == "" {
		list.Addf("name", "the test has no name")
	}
	var err error
	if f.Src, err = ParseSource(c.From); err != nil {
		list.Addf("from", "%v", err)
	}
	if f.Dst, err = netip.ParseAddrPort(c.To); err != nil {
		list.Addf("to", "%q is no destination such as 10.20.0.9:443 or [fd00::1]:443", c.To)
	}
	if c.At != "" {
		if f.Now, err = time.Parse(time.RFC3339, c.At); err != nil {
			list.Addf("at", "%q is no time such as 2026-11-23T10:00:00Z", c.At)
		}
	}
	if f.Upgrade, err = ParseUpgrade(c.Upgrade); err != nil {
		list.Addf("upgrade", "%v", err)
	}
	if c.Plaintext {
		if c.Upgrade != "" {
			list.Addf("upgrade", "a client that speaks without TLS asks for none")
		}
		if c.SNI != "" || c.ALPN != nil || c.TLS != nil || c.Suites != nil || c.Groups != nil || c.JA4 != "" || c.Certificate != nil {
			list.Addf("plaintext", "a client that speaks without TLS shows no name, protocols, versions, suites, groups, fingerprint or certificate")
		}
	} else if f.Hello, err = (Hello{SNI: c.SNI, ALPN: c.ALPN, Versions: c.TLS, Suites: c.Suites, Groups: c.Groups}).ClientHello(); err != nil {
		list.Addf("", "such a client hello cannot be: %v", err)
	}
	if f.JA4 = c.JA4; c.JA4 != "" {
		list.Add("ja4", CheckJA4(c.JA4))
	}
	if p := c.Certificate; p != nil && p.File != "" && (p.Authority != "" || p.Untrusted) {
		list.Addf("certificate.file", "the certificate stands in a file; what is in it cannot be changed here")
	}
	c.Want.check(&list)
	return f, list.Err()
}

func (w *Want) check(list *fielderr.List) {
	verdicts := []string{verdictAllow, verdictBypass, verdictOriginate, verdictDeny}
	switch {
	case w.Verdict == "":
		list.Addf("want", `the test wants no "verdict": allow, bypass, originate or deny`)
	case !slices.Contains(verdicts, w.Verdict):
		list.Addf("want.verdict", "%q is no verdict: allow, bypass, originate or deny%s", w.Verdict, fielderr.Suggest(w.Verdict, verdicts))
	}
	for _, f := range []struct{ path, code string }{{"want.reason", w.Reason}, {"want.would", w.Would}} {
		if f.code == "" || f.path == "want.would" && f.code == none {
			continue
		}
		if _, ok := reason.Lookup(reason.Code(f.code)); !ok {
			var codes []string
			for _, e := range reason.All() {
				codes = append(codes, string(e.Code))
			}
			list.Addf(f.path, "%q is no reason%s; `sslgate reason` lists them", f.code, fielderr.Suggest(f.code, codes))
		}
	}
}

// ParseSource parses ADDRESS or ADDRESS:PORT. The port matters only to conditions on it.
func ParseSource(s string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, 40000), nil
	}
	if a, err := netip.ParseAddrPort(s); err == nil {
		return a, nil
	}
	return netip.AddrPort{}, fmt.Errorf("%q is no address of a client, 10.1.0.7 or fd00::7", s)
}

// ParseUpgrade parses what a client asks for TLS by, "" for TLS from the first byte.
func ParseUpgrade(s string) (upgrade.Protocol, error) {
	p, ok := upgrade.Parse(s)
	if !ok {
		return p, fmt.Errorf("%q is no way to ask for TLS: write %q, or leave it out for TLS from the first byte", s, upgrade.Postgres)
	}
	return p, nil
}

// CheckJA4 says what is wrong with the fingerprint of one client.
func CheckJA4(s string) error {
	_, err := ja4.Parse(s)
	switch {
	case err != nil:
		return fmt.Errorf("%q: %w", s, err)
	case strings.Contains(s, "*"):
		return fmt.Errorf(`%q: a client has one fingerprint, so "*" cannot be in it`, s)
	}
	return nil
}

// Result is what became of one case.
type Result struct {
	Case  *Case
	Line  int      // where it stands in the file
	Wrong []string // "reason   want no_rule, got verified"; none if it passed
	Why   *policy.Explanation
}

// Report is the outcome of a test file.
type Report struct {
	Results []Result
	Failed  int
	// Rules of the policy in order, and those that decided at least one case.
	Rules   []string
	Covered map[string]bool
}

// Uncovered lists the rules that decided no case.
func (r *Report) Uncovered() []string {
	var out []string
	for _, name := range r.Rules {
		if !r.Covered[name] {
			out = append(out, name)
		}
	}
	return out
}

// Run asks the policy about every case. The error is config.Findings: mistakes that only the
// policy can show, such as an unknown authority.
func (t *File) Run(set *policy.Set, rules []policy.RuleSpec, stand *StandIns, read func(path string) ([]*x509.Certificate, error)) (*Report, error) {
	r := &Report{Covered: map[string]bool{}}
	for _, rule := range rules {
		r.Rules = append(r.Rules, rule.Name)
	}
	var bad config.Findings
	for i := range t.Spec.Tests {
		c := &t.Spec.Tests[i]
		if w := c.Want.Rule; w != "" && w != byDefault && !slices.Contains(r.Rules, w) {
			bad = append(bad, t.Finding(i, "want.rule", fmt.Sprintf("the policy has no rule %q%s", w, fielderr.Suggest(w, r.Rules))))
			continue
		}
		chain, err := t.chain(c, t.facts[i].Now, stand, read)
		if err != nil {
			for _, e := range fielderr.All(err) {
				bad = append(bad, t.Finding(i, fielderr.Join("certificate", e.Path), e.Msg))
			}
			continue
		}
		why := Ask(set, t.facts[i], chain)
		if c.Plaintext && !why.Decided { // it is waited for a hello, and none comes
			code := reason.NotTLS
			if p, _ := set.Dialogue(t.facts[i]); p != upgrade.None {
				code = reason.NotUpgraded
			}
			v := &why.Verdict
			v.Action, v.Rule, v.Reason, v.Detail, v.Alert = policy.Deny, "", code, "", handshake.AlertOf(code)
			why.Decided = true
			why.Reason, _ = reason.Lookup(v.Reason)
		}
		result := Result{Case: c, Why: why, Wrong: c.Want.compare(why.Verdict), Line: t.Finding(i, "name", "").Line}
		if len(result.Wrong) > 0 {
			r.Failed++
		}
		r.Covered[why.Verdict.Rule] = true
		if w := why.Verdict.Would; w.Deny {
			r.Covered[w.Rule] = true
		}
		r.Results = append(r.Results, result)
	}
	if len(bad) > 0 {
		return nil, bad
	}
	return r, nil
}

func (t *File) chain(c *Case, now time.Time, stand *StandIns, read func(path string) ([]*x509.Certificate, error)) ([]*x509.Certificate, error) {
	switch {
	case c.Certificate == nil:
		return nil, nil
	case c.Certificate.File != "":
		if read == nil {
			return nil, errors.New("no files are read here")
		}
		return read(t.file.Abs(c.Certificate.File))
	}
	cert, err := stand.Issue(c.Certificate, now)
	if err != nil {
		return nil, err
	}
	return []*x509.Certificate{cert}, nil
}

// Ask explains what a policy does with a flow whose client shows a chain (leaf first) or no
// certificate.
func Ask(set *policy.Set, f policy.Facts, chain []*x509.Certificate) *policy.Explanation {
	if f.Hello != nil {
		if v := set.OnHello(f); v.Action == policy.Terminate {
			f.State = Agreed(f.Hello, v.Plan.Client.Profile, v.Plan.Client.ALPN)
		}
		f = set.Shown(f, chain)
	}
	return set.Explain(f)
}

// Verdict returns the word in test files for a verdict.
func Verdict(v policy.Verdict) string {
	switch v.Action {
	case policy.Terminate:
		return verdictAllow
	case policy.Bypass:
		return verdictBypass
	case policy.Originate:
		return verdictOriginate
	default:
		return verdictDeny
	}
}

func (w *Want) compare(v policy.Verdict) []string {
	var wrong []string
	differ := func(what, want, got string) {
		if want != "" && want != got {
			wrong = append(wrong, fmt.Sprintf("%-8s want %s, got %s", what, want, got))
		}
	}
	rule := v.Rule
	if rule == "" {
		rule = byDefault
	}
	would := none
	if v.Would.Deny {
		would = string(v.Would.Reason)
	}
	differ("verdict", w.Verdict, Verdict(v))
	differ("rule", w.Rule, rule)
	differ("reason", w.Reason, string(v.Reason))
	differ("would", w.Would, would)
	if v.Detail != "" && len(wrong) > 0 {
		wrong = append(wrong, "detail   "+strings.TrimSpace(v.Detail))
	}
	return wrong
}
