package policy

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/sslgate/sslgate/handshake"
)

// Where it is said that one rule refuses nobody whom another lets in, no client
// is found whom it does.
func TestImplicationHolds(t *testing.T) {
	env := testEnv(t)
	claimed := 0
	rapid.Check(t, func(t *rapid.T) {
		all := []string{"{certificate: none}"}
		for _, auth := range []string{"required", "optional"} {
			for _, who := range []string{"[staff]", "[partner]", "[staff, partner]"} {
				for _, more := range []string{
					"", `, allow: [{san_uri: ["spiffe://corp/pay/*"]}]`, `, allow: [{san_uri: ["spiffe://corp/pay/*"], subject_o: [Example]}, {key_bits: 384}]`,
					`, allow: [{key_bits: 256}]`, `, allow: [{key_bits: 4096}, {subject_ou: [Pay, IT]}]`, `, allow: [{subject_ou: [IT]}]`,
					`, when: "cert.present && cert.key_bits >= 256"`, `, allow: [{max_age: 30d}], when: "cert.present && cert.key_bits >= 256"`, `, allow: [{max_age: 1h}]`,
				} {
					all = append(all, "{certificate: "+auth+", authorities: "+who+more+"}")
				}
			}
		}
		rule := func(label string) (*Set, *rule) {
			client := rapid.SampledFrom(all).Draw(t, label)
			profile := rapid.SampledFrom([]string{"modern", "intermediate", "old"}).Draw(t, label+" profile")
			set, found := Compile(readSpecIn(t, `rules: [{name: `+label+`, to: ["*:*"], identity: pay, profile: `+profile+`, client: `+client+`, destination: {tls: plain}}]`), env)
			if set == nil {
				t.Fatal(found)
			}
			return set, set.rules[0]
		}
		weak, a := rule("a")
		strong, b := rule("b")
		if a.beyond(b) != "" {
			return
		}
		claimed++
		f := drawWhole(t)
		if f.Peer != nil {
			f.Now = f.Peer.Leaf().NotBefore.Add(1)
		}
		if f.Hello == nil || f.Hello.Acceptable(a.plan.Client.Profile) != nil {
			return
		}
		f.State = nil
		if d := weak.Redecide(f); !d.Keeps(Terminate) {
			return
		}
		if d := strong.Redecide(f); !d.Keeps(Terminate) {
			without := f
			without.Peer = nil // it may also come without
			if b.auth == handshake.ClientAuthOptional && strong.Redecide(without).Verdict.Action == Terminate {
				return
			}
			t.Fatalf("%+v", d.Verdict)
		}
	})
	if claimed == 0 {
		t.Error("nothing was ever claimed")
	}
}
