package peerlimit

import (
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// clock is a time that the test moves.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func table(l Limits) (*Table, *clock) {
	c := &clock{time.Unix(1e9, 0)}
	t := NewTable(c.now)
	t.SetLimits(l)
	return t, c
}

// One identity has so many flows at a time and no more, whatever others have.
func TestFlows(t *testing.T) {
	tab, _ := table(Limits{Flows: 2})
	a, b := Key{1}, Key{2}
	first := testpki.Must(tab.Admit(a))
	second := testpki.Must(tab.Admit(a))
	if h, err := tab.Admit(a); h != nil || !errors.Is(err, ErrFlows) {
		t.Error(h, err)
	}
	other := testpki.Must(tab.Admit(b))
	if s := tab.Stats(); s != (Stats{Known: 2, Flows: 2, Refused: 1}) {
		t.Errorf("%+v", s)
	}
	first.Release()
	first.Release()
	third := testpki.Must(tab.Admit(a))
	if _, err := tab.Admit(a); !errors.Is(err, ErrFlows) {
		t.Error("a second release gave a flow more")
	}
	for _, h := range []*Hold{second, third, other, nil} {
		h.Release()
	}
	if s := tab.Stats(); s.Known != 0 || s.Flows != 0 {
		t.Errorf("%+v", s)
	}
}

// So many handshakes come in a second, and as many at once after a second without any.
func TestHandshakes(t *testing.T) {
	tab, c := table(Limits{Handshakes: 10})
	taken := func(tries int) (n int) {
		for range tries {
			h, err := tab.Admit(Key{1})
			if err == nil {
				n++
				h.Release()
			} else if !errors.Is(err, ErrHandshakes) {
				t.Fatal(err)
			}
		}
		return n
	}
	if n := taken(30); n != 10 {
		t.Errorf("%d at once", n)
	}
	sum := 0
	for range 100 {
		c.at = c.at.Add(50 * time.Millisecond)
		sum += taken(30)
	}
	if sum < 49 || sum > 50 {
		t.Errorf("%d in five seconds", sum)
	}
	c.at = c.at.Add(time.Hour)
	if n := taken(30); n != 10 {
		t.Errorf("%d after an hour", n)
	}
}

// The flows of an identity together move so many bytes in a second.
func TestBytes(t *testing.T) {
	tab, c := table(Limits{Bytes: 1000})
	one, two := testpki.Must(tab.Admit(Key{1})), testpki.Must(tab.Admit(Key{1}))
	moved, begin := 0, c.at
	for i := range 200 {
		h := one
		if i%2 == 1 {
			h = two
		}
		moved += 50
		c.at = c.at.Add(h.Moved(50))
	}
	if took := c.at.Sub(begin).Seconds(); took < 9.8 || took > 10 {
		t.Errorf("%d bytes took %v s", moved, took)
	}
	if testpki.Must(tab.Admit(Key{2})).Moved(50) != 0 || (*Hold)(nil).Moved(1<<30) != 0 {
		t.Error("another identity waits")
	}
	tab.SetLimits(Limits{})
	if one.Moved(1<<30) != 0 {
		t.Error("without a limit it waits")
	}
}

// What holds nothing is forgotten: the table does not grow with all who ever came.
func TestForgets(t *testing.T) {
	tab, c := table(Limits{Flows: 1, Handshakes: 5, Bytes: 1000})
	held := testpki.Must(tab.Admit(Key{}))
	for i := range 100_000 {
		h := testpki.Must(tab.Admit(Key{1, byte(i), byte(i >> 8), byte(i >> 16)}))
		h.Moved(10)
		h.Release()
		c.at = c.at.Add(2 * time.Millisecond)
	}
	if n := len(tab.known); n > 4*sweepFirst {
		t.Errorf("%d identities are known", n)
	}
	if _, err := tab.Admit(Key{}); !errors.Is(err, ErrFlows) {
		t.Error("one that has a flow was forgotten")
	}
	held.Release()
}

// A renewed certificate is the same identity; another name, or the same of another authority,
// is another one.
func TestKeyOf(t *testing.T) {
	ca := testpki.Must(testpki.NewCA(testpki.Options{}))
	key := func(authority string, l testpki.Leaf) Key {
		return KeyOf(&handshake.Peer{Authority: authority, Shown: []*x509.Certificate{testpki.Must(ca.Issue(l)).Cert}})
	}
	base := key("staff", testpki.Leaf{CN: "a", DNS: []string{"a.example", "b.example"}})
	if key("staff", testpki.Leaf{CN: "a", DNS: []string{"b.example", "a.example"}, NotAfter: time.Now().Add(time.Hour), Key: testpki.P384}) != base {
		t.Error("a renewed certificate is another identity")
	}
	seen := map[Key]string{base: "base"}
	for what, k := range map[string]Key{
		"authority": key("partners", testpki.Leaf{CN: "a", DNS: []string{"a.example", "b.example"}}),
		"CN":        key("staff", testpki.Leaf{CN: "b", DNS: []string{"a.example", "b.example"}}),
		"name":      key("staff", testpki.Leaf{CN: "a", DNS: []string{"a.example"}}),
		"one name":  key("staff", testpki.Leaf{CN: "a", DNS: []string{"a.exampleb.example"}}),
		"URI":       key("staff", testpki.Leaf{CN: "a", URIs: []string{"spiffe://a/b"}}),
	} {
		if other, ok := seen[k]; ok {
			t.Errorf("%s and %s are one identity", what, other)
		}
		seen[k] = what
	}
}
