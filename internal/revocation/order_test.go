package revocation

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// Which list may replace which, by number, time of issue and the present time.
func TestOrder(t *testing.T) {
	w := newWorld(t)
	const day = 24 * time.Hour
	list := func(l crl) *List {
		lists, err := ParseLists(w.crl(t, w.root, l), w.cas())
		if err != nil {
			t.Fatal(err)
		}
		return lists[0]
	}
	unnumbered := func(from, to time.Duration) *List {
		l := *list(crl{from: from, to: to})
		l.Number = nil
		return &l
	}
	known := list(crl{number: 900, from: -time.Hour, to: day})
	plain := unnumbered(-time.Hour, day)
	future := list(crl{number: 7, from: 4000 * day, to: 4001 * day})
	for name, c := range map[string]struct {
		known, next *List
		after       time.Duration // of now
		removed     bool          // the copy of the known one
		want        error
	}{
		"the same":                             {known, known, 0, false, nil},
		"the next":                             {known, list(crl{number: 901, from: -time.Minute}), 0, false, nil},
		"the next, a clock a little behind":    {known, list(crl{number: 901, from: -time.Hour - time.Minute}), 0, false, nil},
		"a higher number of long before":       {known, list(crl{number: 901, from: -9 * time.Hour}), 0, false, ErrOlder},
		"... and never by time":                {known, list(crl{number: 901, from: -9 * time.Hour}), 2 * day, false, ErrOlder},
		"... unless the operator says so":      {known, list(crl{number: 901, from: -9 * time.Hour}), 0, true, nil},
		"one before":                           {known, list(crl{number: 899, from: -2 * time.Hour}), 0, false, ErrOlder},
		"one before, when it has ended":        {known, list(crl{number: 899, from: -2 * time.Hour, to: 9 * day}), 2 * day, false, ErrOlder},
		"one before, and the copy removed":     {known, list(crl{number: 899, from: -2 * time.Hour}), 0, true, ErrOlder},
		"one before of the same second":        {known, list(crl{number: 899, from: -time.Hour}), 2 * day, true, ErrOlder},
		"numbers begun anew":                   {known, list(crl{number: 1, from: -time.Minute}), 0, false, ErrOlder},
		"numbers begun anew, and it has ended": {known, list(crl{number: 1, from: day, to: 3 * day}), day, false, nil},
		"numbers begun anew, copy removed":     {known, list(crl{number: 1, from: -time.Minute}), 0, true, nil},
		"no numbers any more":                  {known, unnumbered(-time.Minute, day), 0, false, ErrOlder},
		"no numbers any more, copy removed":    {known, unnumbered(-time.Minute, day), 0, true, nil},
		"no numbers any more, it has ended":    {known, unnumbered(-time.Minute, 3*day), day, false, nil},
		"no numbers any more, and older":       {known, unnumbered(-2*time.Hour, day), day, true, ErrOlder},
		"numbers begun":                        {plain, list(crl{number: 1, from: -time.Minute}), 0, false, nil},
		"numbers begun, but older":             {plain, list(crl{number: 1, from: -2 * time.Hour}), 0, true, ErrOlder},
		"no numbers, older":                    {plain, unnumbered(-2*time.Hour, day), 2 * day, true, ErrOlder},
		"the same number, older":               {known, list(crl{number: 900, from: -2 * time.Hour}), 2 * day, true, ErrOlder},
		"the same number, later":               {known, list(crl{number: 900, from: -time.Minute}), 0, false, nil},
		"not valid yet":                        {known, list(crl{number: 901, from: time.Hour}), 0, false, ErrNotYet},
		"not valid yet, copy removed":          {known, list(crl{number: 901, from: time.Hour}), 0, true, ErrNotYet},
		"not valid yet, clocks differ":         {known, list(crl{number: 901, from: skew - time.Minute}), 0, false, nil},
		"not valid yet, later":                 {known, list(crl{number: 901, from: time.Hour}), 2 * time.Hour, false, nil},
		"not valid yet, nothing else":          {known, list(crl{number: 901, from: 3 * day, to: 4 * day}), 2 * day, false, nil},
		"of today, after one of the future":    {future, list(crl{number: 8}), 0, false, nil},
	} {
		o := order{w.now.Add(c.after), func(*List) (string, bool) { return "/copy", c.removed }}
		err := o.check([]*List{c.known}, []*List{c.next}, true)
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// A CA that was set up anew: the operator gets a command and types it, and the new list
// is in force at once, from a file and from a URL. Without the command it is taken later
// by itself. An older list is refused all the while.
func TestNumbersBegunAnew(t *testing.T) {
	w := newWorld(t)
	revoked := []*x509.Certificate{w.client.Cert}
	known := w.crl(t, w.inter, crl{number: 900, revoked: revoked, from: -2 * time.Hour})
	anew := w.crl(t, w.inter, crl{number: 1, from: -time.Minute, to: 90 * 24 * time.Hour})
	before := w.crl(t, w.inter, crl{number: 899, from: -3 * time.Hour})
	for _, url := range []bool{false, true} {
		p := publish(t, known)
		path, state := file(t, t.TempDir(), "a.crl", known), t.TempDir()
		put := func(data []byte) { write(t, path, data); p.set(data, "", nil) }
		a := w.authority(Soft, path)
		if url {
			a = w.authority(Soft, p.URL)
		}
		clk := &clock{now: w.now}
		log, logs := logged()
		k := checker(t, Options{State: state, Log: log, Poll: 2 * time.Millisecond, Now: clk.Now}, a)
		k.Prime(t.Context())
		running(t, k)
		status := func() Status { return k.Check(t.Context(), peerOf(w.client, w.root), clk.Now()).Status }
		// The file is there before the checker knows of it, and only then does it tell of it.
		testenv.Eventually(t, "the copy", func() bool { return len(copiesIn(t, state)) == 1 && copyKnown(k, copiesIn(t, state)[0]) })
		refused := func(text string) bool {
			for _, e := range logs.FilterMessage("revocation list not taken").All() {
				if msg, _ := e.ContextMap()["error"].(string); strings.Contains(msg, text) {
					return true
				}
			}
			return false
		}
		put(anew)
		clk.add(2 * time.Hour) // a URL is asked
		copyPath := copiesIn(t, state)[0]
		testenv.Eventually(t, "what to do", func() bool { return refused("`rm " + copyPath + " && sslgate reload`") })
		if status() != Revoked {
			t.Fatal("numbers begun anew are taken at once")
		}
		put(before)
		if err := os.Remove(copyPath); err != nil {
			t.Fatal(err)
		}
		k.Reload([]Authority{a})
		clk.add(2 * time.Hour)
		testenv.Eventually(t, "no list of before", func() bool { return refused("number 899 after number 900") })
		if status() != Revoked {
			t.Fatal("a list of before is taken")
		}
		put(anew)
		k.Reload([]Authority{a})
		testenv.Eventually(t, "the list with new numbers", func() bool { return status() == Unknown && missingOf(k) == 0 })
		testenv.Eventually(t, "its copy", func() bool { return len(copiesIn(t, state)) == 1 && copiesIn(t, state)[0] != copyPath })
		// It is the known list from now on: no list with an old number is taken.
		put(w.crl(t, w.inter, crl{number: 901, from: -90 * time.Minute, to: 9 * 24 * time.Hour}))
		clk.add(2 * time.Hour)
		testenv.Eventually(t, "a refusal", func() bool { return k.Stats().Authorities["staff"].Lists[0].Error != "" })
		if status() != Unknown {
			t.Error("a list of the old numbers is taken")
		}
	}
}

// Without the command: when the previous list has ended.
func TestNumbersBegunAnewWithTime(t *testing.T) {
	w := newWorld(t)
	path := file(t, t.TempDir(), "a.crl", w.crl(t, w.inter, crl{number: 900, revoked: []*x509.Certificate{w.client.Cert}}))
	clk := &clock{now: w.now}
	k := checker(t, Options{Poll: 2 * time.Millisecond, Now: clk.Now}, w.authority(Soft, path))
	running(t, k)
	write(t, path, w.crl(t, w.inter, crl{number: 1, from: -time.Minute, to: 90 * 24 * time.Hour}))
	testenv.Eventually(t, "a refusal", func() bool { return missingOf(k) == 1 })
	if msg := k.Stats().Authorities["staff"].Lists[0].Error; !strings.Contains(msg, "or after a restart") {
		t.Error(msg)
	}
	clk.add(25 * time.Hour)
	testenv.Eventually(t, "the new list", func() bool {
		return missingOf(k) == 0 && k.Check(t.Context(), peerOf(w.client, w.root), clk.Now()).Status == Unknown
	})
}

// A list that is not valid yet does not replace the one in force; it is taken when its
// time has come.
func TestListForLater(t *testing.T) {
	w := newWorld(t)
	path := file(t, t.TempDir(), "a.crl", w.crl(t, w.inter, crl{number: 1, revoked: []*x509.Certificate{w.client.Cert}}))
	clk := &clock{now: w.now}
	k := checker(t, Options{Poll: 2 * time.Millisecond, Now: clk.Now}, w.authority(Hard, path))
	running(t, k)
	status := func() Status { return k.Check(t.Context(), peerOf(w.client, w.root), clk.Now()).Status }
	write(t, path, w.crl(t, w.inter, crl{number: 2, from: 3 * time.Hour, to: 48 * time.Hour}))
	testenv.Eventually(t, "a refusal", func() bool { return k.Stats().Authorities["staff"].Lists[0].Error != "" })
	if status() != Revoked {
		t.Error("a list for later is in force")
	}
	clk.add(4 * time.Hour)
	testenv.Eventually(t, "it is in force", func() bool { return k.Stats().Authorities["staff"].Lists[0].Number == "2" })
}

// A number has at most 20 octets (RFC 5280, section 5.2.3), because it is written to
// records.
func TestNumberIsBounded(t *testing.T) {
	w := newWorld(t)
	type tbs struct {
		Version    int
		Algorithm  pkix.AlgorithmIdentifier
		Issuer     asn1.RawValue
		This, Next time.Time
		Extensions []pkix.Extension `asn1:"tag:0,explicit"`
	}
	type signed struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	var whole signed
	var list tbs
	if _, err := asn1.Unmarshal(w.crl(t, w.root, crl{number: 1}), &whole); err != nil {
		t.Fatal(err)
	}
	if _, err := asn1.Unmarshal(whole.TBS.FullBytes, &list); err != nil {
		t.Fatal(err)
	}
	n := new(big.Int)
	at := slices.IndexFunc(list.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidNumber) })
	for bits, good := range map[uint]bool{0: true, 159: true, 160: true, 161: false, 4096: false, 60_000 * 8: false} {
		list.Extensions[at].Value = testpki.Must(asn1.Marshal(n.Sub(new(big.Int).Lsh(big.NewInt(1), bits), big.NewInt(1))))
		raw := testpki.Must(asn1.Marshal(list))
		sum := sha256.Sum256(raw)
		whole.TBS = asn1.RawValue{FullBytes: raw}
		whole.Signature.Bytes = testpki.Must(w.root.Key.Sign(rand.Reader, sum[:], crypto.SHA256))
		whole.Signature.BitLength = 8 * len(whole.Signature.Bytes)
		_, err := ParseLists(testpki.Must(asn1.Marshal(whole)), w.cas())
		if (err == nil) != good || err != nil && (!errors.Is(err, ErrNotCRL) || len(err.Error()) > 200) {
			t.Errorf("%d bits: %v", bits, err)
		}
	}
}
