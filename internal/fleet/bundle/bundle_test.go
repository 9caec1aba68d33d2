package bundle

import (
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/fleet/seal"
)

func some() *Manifest {
	f := File{SHA256: Sum([]byte("x")), Size: 1}
	return &Manifest{
		Fleet: "acme", Epoch: 7, RollbackTo: []Older{{5, Sum(nil)}, {6, Sum(nil)}}, Files: map[string]File{Main: f, "lists/a.crl": f},
		Sites: map[string]map[string]File{"berlin": {}, "oslo": {"roots.pem": f, Main: {SHA256: Sum(nil)}}},
	}
}

// What a site gets is what all have, and its own in the place of it.
func TestSites(t *testing.T) {
	m := some()
	berlin, err := m.Of("berlin")
	if err != nil || len(berlin) != 2 || berlin[Main].Size != 1 {
		t.Errorf("%v, %v", berlin, err)
	}
	oslo, err := m.Of("oslo")
	if err != nil || len(oslo) != 3 || oslo[Main].Size != 0 {
		t.Errorf("%v, %v", oslo, err)
	}
	if _, err := m.Of("rome"); seal.ReasonOf(err) != seal.WrongSite {
		t.Error(err)
	}
}

func TestBadManifests(t *testing.T) {
	for what, c := range map[string]struct {
		change func(*Manifest)
		why    seal.Reason
	}{
		"no epoch":                {func(m *Manifest) { m.Epoch = 0 }, seal.Unreadable},
		"a huge epoch":            {func(m *Manifest) { m.Epoch = seal.MaxEpoch + 1 }, seal.Unreadable},
		"a bad fleet":             {func(m *Manifest) { m.Fleet = "a/b" }, seal.Unreadable},
		"a bad parent":            {func(m *Manifest) { m.Parent = "x" }, seal.Unreadable},
		"a bad version":           {func(m *Manifest) { m.MinVersion = "new" }, seal.Unreadable},
		"a local time":            {func(m *Manifest) { m.NotAfter = "2027-01-01T00:00:00+01:00" }, seal.Unreadable},
		"forward as a rollback":   {func(m *Manifest) { m.RollbackTo = []Older{{8, Sum(nil)}} }, seal.Unreadable},
		"rollbacks out of order":  {func(m *Manifest) { m.RollbackTo = []Older{{6, Sum(nil)}, {5, Sum(nil)}} }, seal.Unreadable},
		"a rollback twice":        {func(m *Manifest) { m.RollbackTo = []Older{{5, Sum(nil)}, {5, Sum([]byte("x"))}} }, seal.Unreadable},
		"a rollback to any":       {func(m *Manifest) { m.RollbackTo = []Older{{5, ""}} }, seal.Unreadable},
		"many rollbacks":          {func(m *Manifest) { m.RollbackTo = make([]Older, MaxRollback+1) }, seal.TooLarge},
		"no digest":               {func(m *Manifest) { m.Files[Main] = File{} }, seal.Unreadable},
		"a negative size":         {func(m *Manifest) { m.Files[Main] = File{Sum(nil), -1} }, seal.TooLarge},
		"too much together":       {func(m *Manifest) { m.Files[Main] = File{Sum(nil), MaxSize}; m.Files["a"] = m.Files[Main] }, seal.TooLarge},
		"a site without its file": {func(m *Manifest) { delete(m.Files, Main) }, seal.Unreadable},
		"a bad site":              {func(m *Manifest) { m.Sites["../x"] = nil }, seal.Unreadable},
	} {
		m := some()
		c.change(m)
		if _, err := m.Seal(); seal.ReasonOf(err) != c.why || err == nil {
			t.Errorf("%s: %v, not %s", what, err, c.why)
		}
	}
	if _, err := some().Seal(); err != nil {
		t.Error(err)
	}
}

// An sslgate without a version of its own does not pretend to be new.
func TestMinVersion(t *testing.T) {
	m := some()
	m.MinVersion = "1.10.0"
	for have, ok := range map[string]bool{"1.10.0": true, "v1.10.1-rc1": true, "2.0.0": true, "1.9.9": false, "": false, "(devel)": false, "unknown": false} {
		if err := m.fits(Gateway{Version: have, Now: time.Now()}); (err == nil) != ok {
			t.Errorf("%q: %v", have, err)
		}
	}
}

// A manifest that is read is written as it was, and no path of it leads out of its directory.
func FuzzManifest(f *testing.F) {
	body, err := seal.Canonical(some())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Add([]byte(`{"fleet":"a","epoch":1,"parent":"","min_version":"","not_after":"","rollback_to":null,"files":null,"sites":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := Parse(body)
		if err != nil {
			if r := seal.ReasonOf(err); r != seal.Unreadable && r != seal.TooLarge {
				t.Error(err)
			}
			return
		}
		again, err := seal.Canonical(m)
		if err != nil || string(again) != string(body) {
			t.Errorf("%q is written as %q: %v", body, again, err)
		}
		for site := range m.Sites {
			files, err := m.Of(site)
			if err != nil || len(files) > MaxFiles {
				t.Errorf("%d files, %v", len(files), err)
			}
			for name := range files {
				if !fits(name) {
					t.Errorf("%q", name)
				}
			}
		}
	})
}

// A list that is read is written as it was, and has each entry in one form.
func FuzzRevoked(f *testing.F) {
	r := &Revoked{Fleet: "acme", Number: 1, Serials: []string{"0", "4f"}, Keys: []string{Sum(nil)}, Subjects: []string{"CN=a"}}
	body, err := seal.Canonical(r)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body, "00:4F")
	f.Add([]byte(`{"fleet":"a","number":1,"serials":null,"spki":null,"subjects":null}`), "CN=a\\,b")
	f.Fuzz(func(t *testing.T, body []byte, entry string) {
		text, err := seal.NewEnvelope(seal.TypeRevoke, body).Text()
		if err != nil {
			t.Fatal(err)
		}
		r, err := ParseRevoked(text)
		if err != nil {
			return
		}
		again, err := seal.Canonical(r.Revoked)
		if err != nil || string(again) != string(body) {
			t.Errorf("%q is written as %q: %v", body, again, err)
		}
		if r.Add(entry) == nil {
			if err := r.check(); err != nil && seal.ReasonOf(err) != seal.TooLarge {
				t.Errorf("%q: %v", entry, err)
			}
		}
	})
}
