package policy

import (
	"fmt"
	"testing"
)

// bigSpec is 10,000 rules and 100,000 members of sets, of the sorts people
// have: a rule a service by address and name, rules by client network, sets.
func bigSpec() Spec {
	s := Spec{Sets: map[string]SetSpec{}}
	var clients, names []string
	for i := range 50_000 {
		clients = append(clients, fmt.Sprintf("10.%d.%d.%d", 100+i>>16, i>>8&255, i&255))
		names = append(names, fmt.Sprintf("h%d.tenants.example", i))
	}
	s.Sets["clients"], s.Sets["names"] = SetSpec{Members: clients}, SetSpec{Members: names}
	for i := range 10_000 {
		r := RuleSpec{Name: fmt.Sprintf("r%d", i), Identity: "pay", Client: ClientSpec{Certificate: "none"}, Destination: DestinationSpec{TLS: "plain"}}
		switch i % 4 {
		case 0: // its own address
			r.To = []string{fmt.Sprintf("10.20.%d.%d:443", i>>8, i&255)}
		case 1: // one front address, by name
			r.To, r.SNI = []string{"10.30.0.1:443"}, []string{fmt.Sprintf("s%d.example", i)}
		case 2: // any destination, by client network
			r.To, r.From = []string{"10.40.0.0/16:*"}, []string{fmt.Sprintf("192.%d.%d.0/24", i>>8, i&255)}
		default:
			r.To, r.SNI = []string{fmt.Sprintf("10.50.%d.0/24:443", i&255)}, []string{fmt.Sprintf("*.z%d.example", i)}
		}
		s.Rules = append(s.Rules, r)
	}
	last := RuleSpec{Name: "sets", From: []string{"@clients"}, To: []string{"10.60.0.0/16:443"}, SNI: []string{"@names"}, Action: "deny"}
	s.Rules = append(s.Rules, last)
	return s
}

// bigCases are flows that end at the first, a late, and no rule.
func bigCases() map[string]Facts {
	return map[string]Facts{
		"own address":    flow("10.1.1.1", "10.20.39.4:443", hello("x.example")),
		"by name, late":  flow("10.1.1.1", "10.30.0.1:443", hello("s9997.example")),
		"by network":     flow("192.39.6.1", "10.40.9.9:8443", hello("")),
		"wildcard, late": flow("10.1.1.1", "10.50.15.9:443", hello("a.z9999.example")),
		"sets":           flow("10.100.195.79", "10.60.1.1:443", hello("h49999.tenants.example")),
		"unknown name":   flow("10.1.1.1", "10.30.0.1:443", hello("nobody.example")),
		"nothing":        flow("172.16.0.1", "172.16.0.2:443", hello("x.example")),
	}
}

func bigSet(tb testing.TB) *Set {
	tb.Helper()
	set, findings := Compile(bigSpec(), testEnv(tb))
	if set == nil {
		tb.Fatalf("%d findings, the first: %v", len(findings), findings[0])
	}
	return set
}

// The big policy decides as if every rule were asked in turn, and without
// garbage where it lets through.
func TestBigPolicy(t *testing.T) {
	set := bigSet(t)
	linear := *set
	linear.index = nil
	for name, f := range bigCases() {
		if a, b := set.OnHello(f), linear.OnHello(f); !sameAnswer(a, b) {
			t.Errorf("%s: with the index %+v, without %+v", name, a, b)
		}
		if n := testing.AllocsPerRun(100, func() { set.OnSYN(f) }); n != 0 {
			t.Errorf("%s: SYN makes %v allocations", name, n)
		}
		if v := set.OnHello(f); v.Action != Deny {
			if n := testing.AllocsPerRun(100, func() { set.OnHello(f) }); n != 0 {
				t.Errorf("%s: hello makes %v allocations", name, n)
			}
		}
	}
	if v := set.OnHello(bigCases()["sets"]); v.Rule != "sets" {
		t.Errorf("the sets: %+v", v)
	}
}

func BenchmarkBigPolicy(b *testing.B) {
	set := bigSet(b)
	for name, f := range bigCases() {
		b.Run("SYN/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				set.OnSYN(f)
			}
		})
		b.Run("hello/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				set.OnHello(f)
			}
		})
	}
}

func BenchmarkCompileBigPolicy(b *testing.B) {
	spec, env := bigSpec(), testEnv(b)
	for b.Loop() {
		if set, findings := Compile(spec, env); set == nil {
			b.Fatal(findings[0])
		}
	}
}
