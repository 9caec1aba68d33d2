package policy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/ext"
	"pgregory.net/rapid"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/fielderr"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// bigALPN is what a client without a certificate can choose most of: 64 KiB.
func bigALPN(n, size int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = strings.Repeat("a", size)
	}
	return list
}

// slowest is how much CPU time one evaluation may take in a test: a few milliseconds
// are seen, ten with the race detector, and a busy machine may need a multiple of them.
// What is not bounded takes seconds.
const slowest = 250 * time.Millisecond

// quickest evaluates a few times and returns the least CPU time: what the
// evaluation costs, and not what else the machine does.
func quickest(c *condition, f Facts, cl *claims) (time.Duration, bool, error) {
	best := time.Hour
	var ok bool
	var err error
	for range 5 {
		best = min(best, testenv.CPU(func() { ok, err = c.holds(f, cl) }))
	}
	return best, ok, err
}

func compileWhen(text string) (*condition, []*fielderr.Error) {
	var list fielderr.List
	cs := conditions{done: map[string]*condition{}}
	c := cs.compile(newScope(&list, "client"), "when", Expression(text))
	return c, fielderr.All(list.Err())
}

// Whatever a peer sends, a condition is decided in time or denies: also where
// it is negated, and where an alternative stands beside it.
func TestConditionsAreNeverSlow(t *testing.T) {
	names := make([]string, 10_000)
	for i := range names {
		names[i] = fmt.Sprintf("h%d.corp", i)
	}
	p := testPKI()
	cert := testpki.Must(p.staff.Issue(testpki.Leaf{CN: "many", DNS: names}))
	few := testpki.Must(p.staff.Issue(testpki.Leaf{CN: strings.Repeat("c", 60), DNS: names[:250]}))
	for _, when := range []string{
		`!alpn.exists(p, p.matches('^([a-z0-9-]{1,63}[.])*corp$'))`,
		`!alpn.exists(p, p.matches('^([a-z0-9]+-?)+[.]corp$'))`,
		`!alpn.exists(p, p.matches('(a|aa|aaa){1,40}b'))`,
		`alpn.join(',').matches('(a|aa|aaa){1,40}b')`,
		`alpn.all(p, alpn.all(q, alpn.all(r, p == q || q == r || p != r)))`,
		`alpn.all(p, alpn.exists(q, q.indexOf(p + 'b') < 0))`,
		`alpn.map(p, p + p).map(p, p + p).map(p, p + p).all(p, p.size() > 3)`,
		`!alpn.exists(p, sni.replace('', p).replace('', p).replace('', p) == 'x')`,
		`alpn.join('').replace('a', 'aaaaaaaaaaaaaaaa').replace('a', 'aaaaaaaaaaaaaaaa').replace('a', 'aaaaaaaaaaaaaaaa').size() > 0`,
		`strings.quote(strings.quote(strings.quote(strings.quote(strings.quote(alpn.join('"')))))).size() > 0`,
		`sets.contains(alpn, alpn) && sets.equivalent(alpn.map(p, p + '1'), alpn.map(p, p + '2'))`,
		`alpn.join('').split('').all(c, alpn.join('').split('').exists(d, c == d))`,
		`alpn.all(p, alpn.join(',').size() > 0 && alpn.join(',').lowerAscii().upperAscii().trim().reverse() != '')`,
		`alpn.exists(p, p in cert.san_dns)`,
		`cert.san_dns.all(d, d.matches('^h[0-9]+[.]corp$'))`,
		`cert.san_dns.exists(d, cert.san_dns.exists(e, d + e == 'x'))`,
		`!cert.san_dns.exists(d, cert.chain_subjects.exists(s, s.contains(d)))`,
		`cert.subject + cert.subject + cert.subject + alpn.join(cert.subject) == ''`,
		`[1, 2, 3, 4, 5, 6, 7, 8, 9, 10].all(a, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].all(b, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].all(c, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].all(d, a + b + c + d > 0))))`,
	} {
		t.Run(when, func(t *testing.T) {
			c, found := compileWhen(when)
			if c == nil {
				t.Fatal(found)
			}
			for _, alpn := range [][]string{bigALPN(250, 255), bigALPN(16_000, 1), bigALPN(100, 100), bigALPN(200, 10), nil} {
				for _, leaf := range []*testpki.Cert{cert, few, nil} {
					f := flow("10.1.1.1", "10.0.0.1:443", hello("pay.internal", alpn...))
					f.Now, f.State = time.Now(), &handshake.State{}
					var cl *claims
					if leaf != nil {
						f.Peer = peerOf("staff", p.staff, leaf.Cert)
						cl = testpki.Must(readClaims(f))
					}
					if took, _, err := quickest(c, f, cl); took > slowest {
						t.Errorf("%d protocols, certificate %v: %s (%v)", len(alpn), leaf != nil, took, err)
					}
				}
			}
		})
	}
}

// A variable that is too large is worked out once, however often a loop asks for it.
func TestTooLargeIsAskedForOnce(t *testing.T) {
	a := &activation{facts: flow("10.1.1.1", "10.0.0.1:443", hello("pay.internal", bigALPN(16_000, 1)...))}
	if _, ok := a.ResolveName("alpn"); ok || a.failed == nil {
		t.Fatalf("a list of 16,000 entries is given: %v", a.failed)
	}
	if allocs := testing.AllocsPerRun(10, func() { _, _ = a.ResolveName("alpn") }); allocs != 0 {
		t.Errorf("the second question costs %v allocations", allocs)
	}
	c, found := compileWhen(`alpn.exists(p, p in cert.san_dns)`)
	if c == nil {
		t.Fatal(found)
	}
	p := testPKI()
	names := make([]string, 10_000)
	for i := range names {
		names[i] = fmt.Sprintf("h%d.corp", i)
	}
	cert := testpki.Must(p.staff.Issue(testpki.Leaf{CN: "many", DNS: names}))
	allocs := func(protocols int) float64 {
		f := flow("10.1.1.1", "10.0.0.1:443", hello("pay.internal", bigALPN(protocols, 10)...))
		f.Now, f.State, f.Peer = time.Now(), &handshake.State{}, peerOf("staff", p.staff, cert.Cert)
		cl := testpki.Must(readClaims(f))
		return testing.AllocsPerRun(10, func() { _, _ = c.holds(f, cl) })
	}
	// An iteration allocates a little; the texts of an error alone would be ten times that.
	if one, many := allocs(1), allocs(201); many-one > 200*12 {
		t.Errorf("%v allocations with one protocol, %v with 201", one, many)
	}
}

// A bound that is met denies, and says so, whichever way it is asked.
func TestBoundsDeny(t *testing.T) {
	for _, when := range []string{
		`alpn.exists(p, p == 'h2')`, `!alpn.exists(p, p == 'h2')`, `true || alpn.size() > 0`, `alpn.size() > 0 ? true : true`,
	} {
		set := compile(t, fmt.Sprintf(`rules: [{name: a, to: ["*:*"], identity: pay, client: {certificate: none, when: %q}, destination: {tls: plain}}]`, when))
		f := flow("10.1.1.1", "10.2.2.2:443", hello("pay.internal", bigALPN(250, 255)...))
		f.State = &handshake.State{}
		v := set.OnPeer(set.OnHello(f).Plan, f)
		// What is never asked for does not count: "true ||" is true.
		if never := strings.HasPrefix(when, "true ||"); !never && (v.Action != Deny || v.Reason != reason.ConditionError || !strings.Contains(v.Detail, "alpn")) {
			t.Errorf("%s: %+v", when, v)
		}
	}
	c, found := compileWhen(`!alpn.exists(p, p.matches('(a|b|c)*d'))`)
	if c == nil {
		t.Fatal(found)
	}
	f := flow("10.1.1.1", "10.2.2.2:443", hello("pay.internal", "h2", strings.Repeat("a", 255)))
	if ok, err := c.holds(f, nil); !ok || err != nil {
		t.Errorf("an honest client: %v %v", ok, err)
	}
}

// A regular expression that is too large, or not written out, is a mistake with
// its place.
func TestRegularExpressionsAreChecked(t *testing.T) {
	for when, want := range map[string]string{
		`sni.matches('([a-z0-9-]{1,63}[.]){1,8}corp$')`:     "instructions",
		`sni.matches('(a|aa|aaa){1,200}b')`:                 "instructions",
		`port == 1 && matches(sni, '((a{1,30}){1,30}){1}')`: "instructions",
		`sni.matches(cert.subject)`:                         "written out",
		`alpn.exists(p, sni.matches(p))`:                    "written out",
		`sni.matches('^' + sni)`:                            "written out",
		`port == 2 && 'a'.matches(port == 3 ? 'a' : 'b')`:   "written out",
		`'%s'.format([sni]) == 'x'`:                         "format is not possible",
		`sni.matches('^[a-z0-9-]{1,63}[.]corp$')`:           "",
		`alpn.exists(p, matches(p, '^h[0-9]$'))`:            "",
	} {
		c, found := compileWhen(when)
		if (c != nil) != (want == "") {
			t.Errorf("%s: %v", when, found)
			continue
		}
		if want != "" && (len(found) != 1 || !strings.Contains(found[0].Msg, want) || found[0].Path != "client.when" || found[0].Offset == 0 && !strings.HasPrefix(when, "'%s'")) {
			t.Errorf("%s: %+v", when, found[0])
		}
	}
}

// The functions that have a bound answer as CEL's own do.
func TestBoundedFunctionsAreCELs(t *testing.T) {
	own, err := environment()
	if err != nil {
		t.Fatal(err)
	}
	cels, err := cel.NewEnv(ext.Strings(ext.StringsVersion(4)), ext.Sets(), cel.Variable("alpn", cel.ListType(cel.StringType)), cel.Variable("sni", cel.StringType))
	if err != nil {
		t.Fatal(err)
	}
	text := rapid.StringOfN(rapid.SampledFrom([]rune(`aab ü"\`)), 0, 12, -1)
	rapid.Check(t, func(t *rapid.T) {
		in := map[string]any{"sni": text.Draw(t, "sni"), "alpn": rapid.SliceOfN(text, 0, 4).Draw(t, "alpn")}
		n := rapid.IntRange(-1, 14).Draw(t, "n")
		a, b := fmt.Sprintf("%q", text.Draw(t, "a")), fmt.Sprintf("%q", text.Draw(t, "b"))
		expr := rapid.SampledFrom([]string{
			"sni.replace(A, B)", "sni.replace(A, B, N)", "alpn.join()", "alpn.join(A)", "sni.indexOf(A)", "sni.indexOf(A, N)",
			"sni.lastIndexOf(A)", "sni.lastIndexOf(A, N)", "strings.quote(sni)", "sets.contains(alpn, [A, B])", "sets.intersects(alpn, [A, B])", "sets.equivalent(alpn, [A, B])",
		}).Draw(t, "expression")
		expr = strings.NewReplacer("A", a, "B", b, "N", fmt.Sprint(n)).Replace(expr)
		eval := func(env *cel.Env) string {
			ast, issues := env.Compile(expr)
			if issues.Err() != nil {
				t.Fatal(issues.Err())
			}
			program, err := env.Program(ast)
			if err != nil {
				t.Fatal(err)
			}
			out, _, err := program.Eval(in)
			if err != nil {
				return "error"
			}
			return fmt.Sprint(out.Value())
		}
		if a, b := eval(own), eval(cels); a != b {
			t.Fatalf("%s of %q: %s, and CEL has %s", expr, in, a, b)
		}
	})
}
