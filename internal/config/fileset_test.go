package config

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/identity"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/readfile"
)

// everyFile is a configuration that names a file at every key that can
// (TestEveryPathIsRead).
const everyFile = `version: 1
capture: {interfaces: [eth1], ports: [443]}
shadow: shadow.yaml
authorities:
  clients: {roots: root.pem, intermediates: inter.pem, crl: [root.crl]}
identities:
  pay: {certificate: ec.pem, key: ec.key, passphrase: ec.pass, ocsp: ec-good.ocsp, also: [{certificate: rsa.pem, key: rsa.key, passphrase: rsa.pass, ocsp: rsa-good.ocsp}]}
  mint: {issuer: mint.pem, key: mint.key, names: ['*.example.org']}
  ordered: {acme: {directory: 'https://ca.example/dir', names: [ordered.example], agree_terms: true, account: us, account_key: account.key, roots: root.pem}}
state: state
tickets: {keys: tickets.keys}
admin: {socket: "off", http: '127.0.0.1:9440', token_file: token}
policy:
  sets: {people: {file: people.txt}}
  rules:
    - {name: r, to: ['10.0.0.0/8:443'], sni: ['pay.example'], alpn: [], client: {certificate: required, authorities: [clients], allow: [{subject_cn: ['@people']}]}, identity: pay, destination: {tls: plain}}
    - {name: o, to: ['10.0.0.0/8:443'], sni: ['ordered.example'], alpn: [], client: {certificate: required, authorities: [clients]}, identity: ordered, destination: {tls: plain}}
    - {name: m, to: ['10.0.0.0/8:443'], alpn: [], client: {certificate: required, authorities: [clients]}, identity: mint, destination: {tls: plain}}
`

// everyFileDir is a directory with everyFile in gate.yaml, and what it names.
func everyFileDir(t *testing.T) string {
	t.Helper()
	dir := identityFiles(t)
	put := func(name string, text []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root := testpki.Must(testpki.NewCA(testpki.Options{CN: "Clients' Root"}))
	put("root.pem", root.PEM())
	put("inter.pem", testpki.Must(root.Intermediate(testpki.Options{CN: "Clients' CA"})).PEM())
	put("root.crl", pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: testpki.Must(x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(24 * time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(0x2a), RevocationTime: time.Now().Add(-time.Hour)}},
	}, root.Cert, root.Key))}))
	put("ec.pass", []byte("of no use\n"))
	put("rsa.pass", []byte("nor this\n"))
	put("token", []byte(strings.Repeat("t", 32)+"\n"))
	put("account.key", []byte("c2VjcmV0\n"))
	put("people.txt", []byte("alice\nbob\n"))
	put("gate.yaml", []byte(everyFile))
	// The shadow names the same files, and decides differently.
	put("shadow.yaml", []byte(strings.NewReplacer("shadow: shadow.yaml\n", "", "'10.0.0.0/8:443'", "'10.0.0.0/9:443'").Replace(everyFile)))
	return dir
}

// inMemory takes a directory into memory, and removes it.
func inMemory(t *testing.T, dir string) fileset.Bytes {
	t.Helper()
	files := fileset.Bytes{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if files[path], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	return files
}

func from(t *testing.T, src fileset.Source, file string) Checked {
	t.Helper()
	c, err := CheckWithin(t.Context(), nil, src, file, stdtls.New())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// digestsOf is what of a Runtime tells it from another.
func digestsOf(rt *Runtime) map[string]any {
	all := map[string]any{
		"configuration": View(*rt.Config), "policy": rt.Set.ID(), "shadow": rt.Shadow.ID(), "files": rt.Files, "snapshot": rt.Snapshot,
		"token": *rt.Token, "tickets": rt.Tickets, "networks": rt.TUNAddresses, "sets": rt.Environment.Sets,
	}
	for name, id := range rt.Environment.Identities {
		for i, c := range id.Certificates() {
			f, _ := id.Source.(*identity.File)
			if !id.Source.OnDemand() && !f.Awaited() { // what is made on demand, or stands in for what will be, has a new key each time
				all[fmt.Sprintf("identity %s %d", name, i)] = c
			}
		}
		all["identity "+name] = id.Source.Is()
	}
	for name, a := range rt.Environment.Authorities {
		all["authority "+name] = []any{a.Current().Roots, a.Current().Intermediates}
	}
	for _, a := range rt.Revocation {
		for _, s := range a.Sources {
			all["lists of "+a.Name+" from "+s.Location] = s.Lists
		}
	}
	for _, s := range rt.Staples() {
		all["staple of "+s.File] = s.Shown.At(time.Now())
	}
	return all
}

// A configuration and all its files become the same from memory as from the disk,
// without any file there.
func TestMemoryIsAsGoodAsTheDisk(t *testing.T) {
	dir := everyFileDir(t)
	file := filepath.Join(dir, "gate.yaml")
	disk := from(t, fileset.Disk{}, file)
	memory := from(t, inMemory(t, dir), file)
	if disk.Runtime == nil || memory.Runtime == nil {
		t.Fatalf("disk:\n%s\nmemory:\n%s", messages(disk.Findings), messages(memory.Findings))
	}
	if !reflect.DeepEqual(disk.Findings, memory.Findings) || !slices.Equal(disk.Named, memory.Named) {
		t.Errorf("disk: %q\n%s\nmemory: %q\n%s", disk.Named, messages(disk.Findings), memory.Named, messages(memory.Findings))
	}
	want, got := digestsOf(disk.Runtime), digestsOf(memory.Runtime)
	for what, w := range want {
		if !reflect.DeepEqual(got[what], w) {
			t.Errorf("%s: %+v from the disk, %+v from memory", what, w, got[what])
		}
	}
	if len(got) != len(want) || len(want) < 15 || disk.Runtime.Snapshot == "" {
		t.Errorf("%d and %d things to compare", len(want), len(got))
	}
	// What is read again while the gateway runs is where it was read first.
	for _, st := range memory.Runtime.Staples() {
		if changed, err := st.Read(time.Now()); changed || err != nil {
			t.Errorf("%s: %v, %v", st.File, changed, err)
		}
	}
	if n := len(memory.Runtime.Staples()); n != 2 {
		t.Errorf("%d staples", n)
	}
}

// Mistakes have the same words, whatever the source.
func TestMistakesInMemory(t *testing.T) {
	for name, spoil := range map[string]func(files fileset.Bytes, at func(string) string){
		"one file is missing":  func(f fileset.Bytes, at func(string) string) { delete(f, at("root.pem")) },
		"a list is missing":    func(f fileset.Bytes, at func(string) string) { delete(f, at("root.crl")) },
		"a set is missing":     func(f fileset.Bytes, at func(string) string) { delete(f, at("people.txt")) },
		"the token is missing": func(f fileset.Bytes, at func(string) string) { delete(f, at("token")) },
		"the shadow is missing": func(f fileset.Bytes, at func(string) string) {
			delete(f, at("shadow.yaml"))
			f[at("shadow.yml")] = nil
		},
		"all files are missing": func(f fileset.Bytes, at func(string) string) {
			for path := range f {
				if path != at("gate.yaml") {
					delete(f, path)
				}
			}
		},
		"a key in DER": func(f fileset.Bytes, at func(string) string) { f[at("ec.key")] = []byte{0x30, 0x82, 1, 1, 2} },
		"a name is taken": func(f fileset.Bytes, at func(string) string) {
			f[at("ec.key")], f[at("ec.key.new")] = []byte{0x30, 0x82, 1, 1, 2}, nil
		},
		"a short token":       func(f fileset.Bytes, at func(string) string) { f[at("token")] = []byte("short") },
		"a huge token":        func(f fileset.Bytes, at func(string) string) { f[at("token")] = make([]byte, 5000) },
		"a huge certificate":  func(f fileset.Bytes, at func(string) string) { f[at("ec.pem")] = make([]byte, maxPEM+1) },
		"a huge response":     func(f fileset.Bytes, at func(string) string) { f[at("ec-good.ocsp")] = make([]byte, 70<<10) },
		"no text as a set":    func(f fileset.Bytes, at func(string) string) { f[at("people.txt")] = []byte{0xff} },
		"no configuration":    func(f fileset.Bytes, at func(string) string) { delete(f, at("gate.yaml")) },
		"another file's text": func(f fileset.Bytes, at func(string) string) { f[at("rsa.key")] = f[at("ec.key")] },
	} {
		t.Run(name, func(t *testing.T) {
			dir := everyFileDir(t)
			files := inMemory(t, dir)
			spoil(files, func(name string) string { return filepath.Join(dir, name) })
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			for path, text := range files {
				if err := os.WriteFile(path, text, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			file := filepath.Join(dir, "gate.yaml")
			disk := from(t, fileset.Disk{}, file)
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			memory := from(t, files, file)
			if disk.Runtime != nil || memory.Runtime != nil || len(disk.Findings) == 0 {
				t.Fatal("nothing is wrong")
			}
			if !reflect.DeepEqual(disk.Findings, memory.Findings) {
				t.Errorf("disk:\n%s\nmemory:\n%s", messages(disk.Findings), messages(memory.Findings))
			}
		})
	}
}

// Every text of the configuration that is a path is read from the snapshot, and is
// expected by it; everyFile has all of them. Whoever adds a key for a file, and makes it
// relative to the configuration, is found here.
func TestEveryPathIsRead(t *testing.T) {
	// These name what is made or written, not read.
	made := []string{"state", "audit.file", "audit.syslog", "admin.socket", "identities.*.acme.dns"}
	f := &File{Name: "/dir/gate.yaml"}
	n := 0
	texts(t, "", reflect.ValueOf(&f.Config).Elem(), true, func(_ string, v reflect.Value) {
		n++
		v.SetString(fmt.Sprintf("text-%d", n))
	})
	c := f.resolved()
	known := slices.Concat(uses(c), lists(c), []string{c.Shadow})
	paths := map[string]bool{}
	texts(t, "", reflect.ValueOf(c).Elem(), false, func(key string, v reflect.Value) {
		if !filepath.IsAbs(v.String()) || slices.Contains(made, key) {
			return
		}
		paths[key] = true
		if !slices.Contains(known, v.String()) {
			t.Errorf("%s is a path that uses and lists do not have", key)
		}
	})
	if n < 100 || len(paths) != len(known) || len(paths) < 14 {
		t.Errorf("%d texts, %d paths: %v", n, len(paths), paths)
	}

	dir := everyFileDir(t)
	text, err := os.ReadFile(filepath.Join(dir, "gate.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	every, err := Parse(filepath.Join(dir, "gate.yaml"), text)
	if err != nil {
		t.Fatal(err)
	}
	texts(t, "", reflect.ValueOf(&every.Config).Elem(), false, func(key string, v reflect.Value) {
		if v.String() != "" {
			delete(paths, key)
		}
	})
	if len(paths) > 0 {
		t.Errorf("everyFile does not name a file at %v", paths)
	}
}

// texts calls f with each text below v and its key. With fill, what is empty has one
// entry.
func texts(t *testing.T, key string, v reflect.Value, fill bool, f func(key string, v reflect.Value)) {
	t.Helper()
	switch v.Kind() {
	case reflect.String:
		f(key, v)
	case reflect.Pointer:
		if v.IsNil() && fill {
			v.Set(reflect.New(v.Type().Elem()))
		}
		if !v.IsNil() {
			texts(t, key, v.Elem(), fill, f)
		}
	case reflect.Slice:
		if fill {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		}
		for i := range v.Len() {
			texts(t, key, v.Index(i), fill, f)
		}
	case reflect.Map:
		if fill {
			v.Set(reflect.MakeMap(v.Type()))
			v.SetMapIndex(reflect.ValueOf("k").Convert(v.Type().Key()), reflect.New(v.Type().Elem()).Elem())
		}
		for _, k := range v.MapKeys() {
			entry := reflect.New(v.Type().Elem()).Elem()
			entry.Set(v.MapIndex(k))
			texts(t, key+".*", entry, fill, f)
			v.SetMapIndex(k, entry)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i)
			name, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
			if name == "" {
				name = strings.ToLower(field.Name)
			}
			if field.IsExported() {
				texts(t, strings.TrimPrefix(key+"."+name, "."), v.Field(i), fill, f)
			}
		}
	default:
	}
}

// renewing is a source in which a tool puts another version in the place of every
// file each time one of them has been read.
type renewing struct {
	fileset.Bytes
	next  func(path string) []byte // of the versions after the first
	reads map[string]int
}

func (r *renewing) Read(ctx context.Context, path string, limit int64, room readfile.Room) (fileset.File, error) {
	r.reads[path]++
	if text := r.next(path); r.reads[path] > 1 && text != nil {
		return fileset.Bytes{path: text}.Read(ctx, path, limit, room)
	}
	return r.Bytes.Read(ctx, path, limit, room)
}

// While a tool renames files, one load sees one version of each: the key and the
// certificate of one file, the file that two identities name, what the shadow names
// too.
func TestOneViewWhileFilesChange(t *testing.T) {
	dir := everyFileDir(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	files := inMemory(t, dir)
	both := func(name string) []byte { return slices.Concat(files[at(name+".pem")], files[at(name+".key")]) }
	files[at("both.pem")] = both("ec")
	head := "version: 1\ncapture: {interfaces: [eth1], ports: [443]}\nauthorities: {clients: {roots: root.pem}}\n"
	rules := "policy:\n  rules:\n    - {name: r, to: ['10.0.0.0/8:443'], alpn: [], client: {certificate: required, authorities: [clients]}, identity: a, destination: {tls: plain}}\n"
	for name, c := range map[string]struct {
		text string
		more fileset.Bytes
		next map[string][]byte
	}{
		"certificate and key in one file": {
			text: head + "identities: {a: {certificate: both.pem, key: both.pem}}\n" + rules,
			next: map[string][]byte{at("both.pem"): both("us")},
		},
		"two identities": {
			text: head + "identities: {a: {certificate: ec.pem, key: ec.key}, b: {certificate: ec.pem, key: ec.key}}\n" + rules,
			next: map[string][]byte{at("ec.pem"): files[at("us.pem")]},
		},
		"the shadow": {
			text: "shadow: gate2.yaml\n" + head + "identities: {a: {certificate: ec.pem, key: ec.key}}\n" + rules,
			more: fileset.Bytes{at("gate2.yaml"): []byte(head + "identities: {a: {certificate: ec.pem, key: ec.key}}\n" + rules)},
			next: map[string][]byte{at("ec.key"): files[at("us.key")], at("ec.pem"): files[at("rsa.pem")], at("root.pem"): []byte("no certificate")},
		},
		"two sets and a list": {
			text: strings.Replace(head, "root.pem", "root.pem, crl: [root.crl, ./root.crl]", 1) + "identities: {a: {certificate: ec.pem, key: ec.key}}\n" +
				strings.Replace(rules, "policy:\n", "policy:\n  sets: {one: {file: people.txt}, two: {file: people.txt}}\n", 1),
			next: map[string][]byte{at("people.txt"): []byte("carol\n"), at("root.crl"): []byte("no list")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			src := &renewing{Bytes: fileset.Bytes{}, next: func(path string) []byte { return c.next[path] }, reads: map[string]int{}}
			for path, text := range files {
				src.Bytes[path] = text
			}
			for path, text := range c.more {
				src.Bytes[path] = text
			}
			src.Bytes[at("gate.yaml")] = []byte(c.text)
			still := from(t, src.Bytes, at("gate.yaml"))
			torn := from(t, src, at("gate.yaml"))
			if still.Runtime == nil || torn.Runtime == nil {
				t.Fatalf("still:\n%s\nwhile they change:\n%s", messages(still.Findings), messages(torn.Findings))
			}
			if still.Runtime.Set.ID() != torn.Runtime.Set.ID() || still.Runtime.Shadow.ID() != torn.Runtime.Shadow.ID() || still.Runtime.Snapshot != torn.Runtime.Snapshot ||
				!reflect.DeepEqual(still.Runtime.Environment.Sets, torn.Runtime.Environment.Sets) {
				t.Error("two versions were mixed")
			}
			for path := range c.next {
				if src.reads[path] != 1 {
					t.Errorf("%s was read %d times", path, src.reads[path])
				}
			}
			// The next load sees the next version.
			if again := from(t, src, at("gate.yaml")); again.Runtime != nil && again.Runtime.Snapshot == torn.Runtime.Snapshot {
				t.Error("the change is not seen by the next load")
			}
		})
	}
}

// Whatever file of a configuration changes by a byte, its digest does.
func TestSnapshotHasEveryFile(t *testing.T) {
	dir := everyFileDir(t)
	files := inMemory(t, dir)
	file := filepath.Join(dir, "gate.yaml")
	rt := from(t, files, file).Runtime
	if rt == nil {
		t.Fatal("no Runtime")
	}
	seen := map[string]string{rt.Snapshot: "nothing"}
	paths := slices.Concat(rt.Files, lists(rt.Config))
	slices.Sort(paths)
	for _, path := range slices.Compact(paths) {
		before := files[path]
		files[path] = append(bytes.Clone(before), '\n')
		if bytes.HasPrefix(before, []byte{0x30}) { // of DER nothing more may follow
			files[path] = before
			continue
		}
		now := from(t, files, file)
		files[path] = before
		if now.Runtime == nil {
			t.Errorf("%s: %s", path, messages(now.Findings))
			continue
		}
		if same, ok := seen[now.Runtime.Snapshot]; ok {
			t.Errorf("%s: a change is as good as that of %s", path, same)
		}
		seen[now.Runtime.Snapshot] = path
	}
	if len(seen) < 14 {
		t.Errorf("%d digests", len(seen))
	}
}

// The bound of all files together is a mistake at the key that goes beyond it.
func TestSnapshotHasABound(t *testing.T) {
	dir := everyFileDir(t)
	files := inMemory(t, dir)
	file := filepath.Join(dir, "gate.yaml")
	files[filepath.Join(dir, "people.txt")] = []byte(strings.Repeat("somebody\n", 10_000))
	size := int64(0)
	for _, path := range from(t, files, file).Named {
		size += int64(len(files[path]))
	}
	for less, fails := range map[int64]bool{0: false, 1: true, 80_000: true} {
		in := newLoading(t.Context(), nil, files)
		in.files = fileset.New(files, size-less)
		rt, found := build(loadIn(in, file), stdtls.New(), time.Now())
		got := messages(found)
		if (rt == nil) != fails || fails && !strings.Contains(got, fmt.Sprintf("have more than %d bytes together", size-less)) || fails && !strings.Contains(got, "the largest is ") {
			t.Errorf("%d bytes less: Runtime %v\n%s", less, rt != nil, got)
		}
	}
}
