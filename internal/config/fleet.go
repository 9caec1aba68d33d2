package config

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/sslgate/sslgate/internal/fileset"
)

// ErrOfGateway says of a file that it is each gateway's own, and is not read where a bundle is made.
var ErrOfGateway = errors.New("is a file of each gateway, not read here")

// BundleFile is the configuration in a fleet's bundle.
const BundleFile = fileset.BundleDir + "/sslgate.yaml"

// ownSections are the keys of a gateway's own file where it is in a fleet.
func ownSections() []string {
	return []string{"tun", "capture", "fail", "dial", "state", "audit", "log", "admin", "upgrade", "fleet"}
}

// The words of fleet.stale.
const (
	StaleKeep   = "keep"
	StaleRefuse = "refuse"
)

func isOwn(path string) bool { return slices.Contains(ownSections(), section(path)) }

// InFleet says whether a file is that of a gateway in a fleet, and returns it with its paths
// absolute; nil for any other. The findings are what is wrong with such a file.
func InFleet(path string) (*Config, []Finding) {
	in := newLoading(context.Background(), nil, fileset.Disk{})
	read, err := in.read(path, maxFile, 1)
	if err != nil || !bytes.Contains(read.Text, []byte("fleet")) { // without parsing what may be large
		return nil, nil
	}
	defer in.files.Done(path)
	f := parseIn(in, path, read.Text, nil)
	if f.Config.Fleet == nil {
		return nil, nil
	}
	if Failed(f.findings) {
		return nil, f.findings
	}
	return f.own(), f.findings
}

// LoadFrom is Load of files wherever they are. For a gateway in a fleet it is the configuration of
// the bundle, with the gateway's own keys.
func LoadFrom(src fileset.Source, path string) (*File, error) {
	in := newLoading(context.Background(), nil, src)
	f := in.bundled(loadIn(in, path))
	if Failed(f.findings) {
		return nil, Findings(f.findings)
	}
	return f, nil
}

// own is the Config of a gateway's own file, every path absolute.
func (f *File) own() *Config {
	c := f.Config
	abs := func(p *string, words ...string) {
		if *p == "" || slices.Contains(words, *p) {
			return
		}
		if full, err := filepath.Abs(f.abs(*p)); err == nil {
			*p = full
		}
	}
	abs(&c.State)
	abs(&c.Audit.File, "-")
	abs(&c.Audit.Syslog)
	abs(&c.Admin.Socket, AdminOff)
	abs(&c.Admin.TokenFile)
	fl := *c.Fleet
	for _, p := range []*string{&fl.Root, &fl.Certificate, &fl.Key, &fl.CA, &fl.State} {
		abs(p)
	}
	c.Fleet = &fl
	return &c
}

// checkOwn is checkValues for a gateway's own file.
func (f *File) checkOwn() {
	c := &f.Config
	f.checkFleet(c.Fleet)
	for i, n := 0, reflect.TypeFor[Config]().NumField(); i < n; i++ {
		key := reflect.TypeFor[Config]().Field(i).Tag.Get("yaml")
		f.check(key == "version" || isOwn(key) || !f.has(key), key, "with fleet it comes from the fleet's bundle: take it out here")
	}
	f.checkTUN(&c.TUN)
	f.checkCapture(&c.Capture)
	f.word("fail", c.Fail, "closed", "open")
	f.check(c.Admin.Socket != "" && len(f.abs(c.Admin.Socket)) <= 96, "admin.socket", "a path of at most 96 bytes, or off")
	f.checkAdminHTTP(&c.Admin)
	f.checkDial(c)
	f.checkUpgrade(c)
	f.checkAudit(&c.Audit)
	f.word("log.level", c.Log.Level, "debug", "info", "warn", "error")
	f.word("log.format", c.Log.Format, "console", "json")
}

func (f *File) checkFleet(c *Fleet) {
	for _, k := range []struct{ key, value, what string }{
		{"root", c.Root, "the file of the fleet's root"},
		{"certificate", c.Certificate, "the PEM file of this gateway's certificate"},
		{"source", c.Source, "file:/DIRECTORY, https://HOST/PATH or etcd://HOST:PORT/PREFIX"},
		{"state", c.State, "the directory for what must not be forgotten"},
	} {
		f.check(k.value != "", "fleet."+k.key, "is missing: %s", k.what)
	}
	if c.Source != "" {
		net := strings.HasPrefix(c.Source, "https://") || strings.HasPrefix(c.Source, "etcd://")
		f.check(net || strings.HasPrefix(c.Source, "file:/"), "fleet.source", "wants file:/DIRECTORY, https://HOST/PATH or etcd://HOST:PORT/PREFIX, not %s", quote(c.Source))
		f.check(!net || c.Key != "", "fleet.key", "is missing: the source asks for the gateway's certificate, and for the proof that it has the key")
		f.check(net || c.CA == "", "fleet.ca", "is of use with an https or etcd source alone: take it out")
	}
	if !f.has("fleet.poll") {
		c.Poll = Duration(5 * time.Second)
	}
	if !f.has("fleet.stale") {
		c.Stale = StaleKeep
	}
	if !f.has("fleet.stale_after") {
		c.StaleAfter = Duration(time.Hour)
	}
	f.word("fleet.stale", c.Stale, StaleKeep, StaleRefuse)
	f.check(!f.has("fleet.stale_after") || c.Stale == StaleRefuse, "fleet.stale_after", "is of use with `stale: refuse` alone: take it out, or write that")
	f.check(c.StaleAfter.Std() >= 10*time.Second && c.StaleAfter.Std() <= 720*time.Hour, "fleet.stale_after", "%s is out of range: 10s to 720h", c.StaleAfter)
	f.check(c.StaleAfter.Std() >= 2*c.Poll.Std() || c.Stale != StaleRefuse, "fleet.stale_after", "%s is less than two looks at the source, one each fleet.poll of %s", c.StaleAfter, c.Poll)
	f.check(c.Poll.Std() >= 100*time.Millisecond && c.Poll.Std() <= time.Hour, "fleet.poll", "%s is out of range: 100ms to 1h", c.Poll)
}

// bundled goes on from a gateway's own file to the fleet's bundle, where the files are read from
// one; it returns any other file as it is.
func (in *loading) bundled(host *File) *File {
	if host.Config.Fleet == nil || in.over() {
		return host
	}
	host.cut = true // by itself it is not enough to build on
	if Failed(host.findings) {
		return host
	}
	if !in.files.Source().Exists(BundleFile) {
		host.findings = append(host.findings, host.Finding("fleet", "there is no bundle of the fleet yet: `sslgate run` gets one from fleet.source"))
		return host
	}
	in.named = append(in.named, host.Name, BundleFile)
	return loadBeside(in, BundleFile, host)
}

// graft takes a gateway's own keys into the configuration of a bundle.
func (f *File) graft(host *File) {
	if host == nil || !f.has("") {
		return
	}
	own := reflect.ValueOf(host.own()).Elem()
	for i, n := 0, own.NumField(); i < n; i++ {
		key := own.Type().Field(i).Tag.Get("yaml")
		if !isOwn(key) {
			continue
		}
		if f.has(key) {
			f.findings = append(f.findings, f.Finding(key, "is each gateway's own, in its own file, and in no bundle: take it out"))
			f.tainted = append(f.tainted, key)
		}
		reflect.ValueOf(&f.Config).Elem().Field(i).Set(own.Field(i))
	}
	for path, at := range host.places {
		if isOwn(path) {
			f.places[path] = at
		}
	}
	for path, text := range host.texts {
		if isOwn(path) {
			f.texts[path] = text
		}
	}
	f.host = host
}

// sourceOf is the text that a path stands in.
func (f *File) sourceOf(path string) *source {
	if f.host != nil && isOwn(path) {
		return f.host.src
	}
	return f.src
}

// StandInHost is a gateway's own file for where there is no gateway: a bundle is checked with it
// before it is signed.
func StandInHost() []byte {
	return []byte(`version: 1
capture: {interfaces: [eth0], ports: all, except_ports: []}
fleet: {root: root.json, certificate: gateway.pem, source: "file:/fleet", state: state}
`)
}

// inBundle says of a file that holds a secret that it may not be in a bundle.
func (b *builder) inBundle(path, file string) bool {
	if !strings.HasPrefix(file, fileset.BundleDir+"/") {
		return false
	}
	b.add(path, file+" would be in the fleet's bundle, which whoever carries it can read: name it as a file of each gateway, by an absolute path")
	return true
}
