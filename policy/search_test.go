package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/fielderr"
)

// largeKinds are policies of one kind and any size, as people and generators write
// them: what tells their rules apart is in the name.
var largeKinds = map[string]func(i int, r *RuleSpec){
	"names, one demand": func(i int, r *RuleSpec) { r.SNI = []string{fmt.Sprintf("s%d.example", i)} },
	"names, two demands": func(i int, r *RuleSpec) {
		r.SNI = []string{fmt.Sprintf("s%d.example", i)}
		r.Client.Allow = [][]AllowSpec{nil, {{KeyBits: 300}}}[i%2]
	},
	"names, everybody's own demand": func(i int, r *RuleSpec) {
		r.SNI = []string{fmt.Sprintf("s%d.example", i)}
		r.Client.Allow = []AllowSpec{{SANURI: []string{fmt.Sprintf("spiffe://corp/%d", i)}}}
	},
	"names, two protocols": func(i int, r *RuleSpec) {
		r.SNI, r.ALPN = []string{fmt.Sprintf("s%d.example", i)}, []string{[]string{"h2", "http/1.1"}[i%2]}
	},
	"wildcards": func(i int, r *RuleSpec) {
		r.SNI = []string{fmt.Sprintf("*.z%d.example", i), fmt.Sprintf("z%d.example", i)}
	},
	"names, some with a PROXY header": func(i int, r *RuleSpec) {
		r.SNI, r.Destination.ProxyProtocol = []string{fmt.Sprintf("s%d.example", i)}, []string{"", "v2"}[i%2]
	},
	"networks": func(i int, r *RuleSpec) { r.From = []string{fmt.Sprintf("10.%d.%d.0/24", i>>8, i&255)} },
	"networks, each with a name": func(i int, r *RuleSpec) {
		r.From, r.SNI = []string{fmt.Sprintf("10.%d.%d.0/24", i>>8, i&255)}, []string{fmt.Sprintf("s%d.example", i)}
	},
	"destinations": func(i int, r *RuleSpec) { r.To = []string{fmt.Sprintf("10.%d.%d.9:443", i>>8, i&255)} },
	"observed, every other": func(i int, r *RuleSpec) {
		r.SNI, r.Mode = []string{fmt.Sprintf("s%d.example", i)}, []string{"enforce", "observe"}[i%2]
	},
}

func largePolicy(n int, edit func(int, *RuleSpec)) Spec {
	var s Spec
	for i := range n {
		r := RuleSpec{
			Name: fmt.Sprintf("r%d", i), To: []string{"10.30.0.1:443"}, Identity: "pay", ALPN: []string{},
			Client: ClientSpec{Authorities: []string{"staff"}}, Destination: DestinationSpec{TLS: "plain"},
		}
		edit(i, &r)
		s.Rules = append(s.Rules, r)
	}
	return s
}

// What a policy costs to compile grows with its rules, not with their square: twice
// the rules are at most about twice the comparisons. They are counted, not timed.
func TestLargePoliciesCostLittle(t *testing.T) {
	const n = 600
	env := testEnv(t)
	for name, edit := range largeKinds {
		t.Run(name, func(t *testing.T) {
			var cost [2]int
			for k := range cost {
				spec := largePolicy(n<<k, edit)
				c := newCompiler(spec, env)
				if set, found := c.compile(spec); set == nil || slices.ContainsFunc(found, searchEnded) {
					t.Fatalf("%d rules: %v", n<<k, found[0])
				}
				cost[k] = c.compared
			}
			if most := 2*maxAround*n + n; cost[1] > 2*cost[0]+cost[0]/4+n || cost[0] > most {
				t.Errorf("%d rules take %d comparisons, %d take %d", n, cost[0], 2*n, cost[1])
			}
		})
	}
}

func searchEnded(e *fielderr.Error) bool {
	return e.Warning && e.Path == "rules" && strings.HasPrefix(e.Msg, "the search for ")
}

// A search that comes to the end of its budget says so, each for itself, and what
// it found before stays.
func TestSearchesHaveABudget(t *testing.T) {
	env := testEnv(t)
	for name, what := range map[string]string{
		"names, everybody's own demand":   "rules that ask for less than another for the same destination",
		"names, some with a PROXY header": "rules without a PROXY header",
		"one destination after another":   "rules that can never match",
		"one protocol before another":     "rules whose alpn is taken for a selector",
	} {
		t.Run(name, func(t *testing.T) {
			edit := largeKinds[name]
			switch {
			case strings.HasPrefix(name, "one destination"):
				edit = func(i int, r *RuleSpec) {
					r.From, r.To = []string{"10.0.0.0/8"}, []string{"10.30.0.0/16:60000", fmt.Sprintf("10.31.%d.0/24:443", i)}
				}
			case strings.HasPrefix(name, "one protocol"):
				edit = func(i int, r *RuleSpec) { // the times tell them apart, which no index knows
					r.ALPN, r.Time = []string{fmt.Sprintf("p/%d", i)}, &TimeSpec{From: clock(2 * i), To: clock(2*i + 1)}
				}
			}
			spec := largePolicy(150, edit)
			ended := func(limit int) (said []string) {
				c := newCompiler(spec, env)
				c.limit = limit
				_, found := c.compile(spec)
				for _, e := range found {
					if searchEnded(e) {
						said = append(said, e.Msg)
					}
				}
				return said
			}
			if said := ended(maxComparisons); len(said) > 0 {
				t.Errorf("ended: %q", said)
			}
			said := ended(100)
			if !slices.ContainsFunc(said, func(s string) bool {
				return strings.HasPrefix(s, "the search for "+what+" ended after ") && strings.Contains(s, "there may be more")
			}) {
				t.Errorf("not told that the search for %s ended: %q", what, said)
			}
		})
	}
}

func clock(minute int) string { return fmt.Sprintf("%02d:%02d", minute/60, minute%60) }

// BenchmarkCompileLarge is 5,000 rules of each kind.
func BenchmarkCompileLarge(b *testing.B) {
	env := testEnv(b)
	for name, edit := range largeKinds {
		b.Run(name, func(b *testing.B) {
			spec := largePolicy(5000, edit)
			for b.Loop() {
				if set, found := Compile(spec, env); set == nil {
					b.Fatal(found[0])
				}
			}
		})
	}
}
