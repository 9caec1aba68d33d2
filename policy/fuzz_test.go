package policy

import (
	"testing"
	"unicode/utf8"

	"github.com/goccy/go-yaml"

	"github.com/sslgate/sslgate/internal/fielderr"
	"github.com/sslgate/sslgate/policy/pattern"
)

// Whatever a policy says, Compile ends; a Set that comes of it decides every
// flow, says why, and prints to a policy that decides the same.
func FuzzPolicy(f *testing.F) {
	for _, s := range []string{
		walkPolicy, destinationPolicy, "{}", "mode: observe\n", "sets: {a: [10.0.0.0/8], b: {file: x}}\nrules: [{name: r, from: ['@a'], to: ['*:1'], action: deny}]",
		"rules: [{name: r, to: ['*:1'], time: {days: [mon-fri], from: '08:00', to: '07:00'}, action: bypass, mode: observe}]",
		"rules: [{name: r, to: ['*:1'], identity: pay, client: {authorities: [staff], when: 'cert.present', allow: [{valid_left: 1d, eku: [clientAuth], serial: [a], policies: [1.2.3], tls_group: [X25519]}]}, destination: {tls: plain}}]",
	} {
		f.Add(s, "a.example", uint16(443))
	}
	env := testEnv(f)
	f.Fuzz(func(t *testing.T, text, sni string, port uint16) {
		var spec Spec
		if len(text) > 4096 || yaml.UnmarshalWithOptions([]byte(text), &spec, yaml.Strict()) != nil {
			return
		}
		set, findings := Compile(spec, env)
		for _, x := range findings {
			if x.Msg == "" || x.Offset < 0 {
				t.Fatalf("finding %+v", x)
			}
		}
		if set == nil {
			return
		}
		flows := []Facts{flow("10.1.1.1", "10.0.0.1:443", hello(sni)), flow("fd00::1", "[fd00::2]:443", invalidSNI())}
		for _, fl := range flows {
			fl.Now = someDay
			e := set.Explain(fl)
			if v := decide(set, fl); !sameAnswer(v, e.Verdict) || e.Reason.Code == "" {
				t.Fatalf("done %+v, said %+v", v, e.Verdict)
			}
		}
		var again Spec
		if err := yaml.UnmarshalWithOptions([]byte(spec.YAML()), &again, yaml.Strict()); err != nil {
			t.Fatalf("what is printed cannot be read: %v\n%s", err, spec.YAML())
		}
		if second, _ := Compile(again, env); second.ID() != set.ID() {
			t.Fatalf("another policy when printed and read:\n%s", spec.YAML())
		}
	})
}

// A condition compiles or has a mistake inside of its text.
func FuzzWhen(f *testing.F) {
	for _, s := range []string{"true", "cert.present", "cert.foo == 1", "a\n&& b", "'", "sni.matches('(')", "1", "now > timestamp('x')", "[1,2].exists(x, x > 1)", "ü == 1", "cert", "cert.", "{", "sni.startsWith(1)", "ip('x')"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var list fielderr.List
		cs := conditions{done: map[string]*condition{}}
		c := cs.compile(newScope(&list, "client"), "when", Expression(text))
		if c == nil && !list.Failed() && text != "" || c != nil && list.Failed() {
			t.Fatalf("condition %v with %v", c != nil, list.Err())
		}
		for _, e := range fielderr.All(list.Err()) {
			if e.Path != "client.when" || e.Offset < 0 || e.Offset > utf8.RuneCountInString(text) || e.Msg == "" || !pattern.PlainText(e.Msg) && pattern.PlainText(text) {
				t.Fatalf("%q: %+v", text, e)
			}
		}
		if c == nil {
			return
		}
		for _, fl := range []Facts{{}, flow("10.1.1.1", "10.0.0.1:443", hello("a"))} {
			ok, err := c.holds(fl, nil)
			if ok && err != nil {
				t.Fatal("an error, and true")
			}
			c.values(&activation{facts: fl})
		}
	})
}
