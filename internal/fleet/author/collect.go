package author

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/readfile"
)

// Site is one part of a bundle.
type Site struct {
	Name string
	Dir  string // files beside those of all, or in their place; "" has none
}

// collected is what a bundle will hold, from one reading.
type collected struct {
	common map[string][]byte
	sites  map[string]map[string][]byte
}

// desk is the source that a configuration is checked from before it is signed: files of the bundle
// from the directories of the author, and none of any gateway. It notes what was read.
type desk struct {
	dir, siteDir string
	gateway      []byte // a gateway's own file
	common, site map[string][]byte
}

// gatewayFile is where that is.
const gatewayFile = "/gateway.yaml"

// Read is fileset.Source.Read.
func (d *desk) Read(ctx context.Context, path string, limit int64, room readfile.Room) (fileset.File, error) {
	if path == gatewayFile {
		return fileset.Bytes{path: d.gateway}.Read(ctx, path, limit, room)
	}
	name, ok := strings.CutPrefix(path, fileset.BundleDir+"/")
	if !ok {
		return fileset.File{}, fmt.Errorf("%s: %w", path, config.ErrOfGateway)
	}
	dir, into := d.place(name)
	f, err := fileset.Disk{}.Read(ctx, filepath.Join(dir, filepath.FromSlash(name)), limit, room)
	f.Mode = 0 // as on the gateway
	if err != nil {
		return f, err
	}
	if bytes.Contains(f.Text, []byte("PRIVATE KEY-----")) {
		clear(f.Text)
		return fileset.File{}, fmt.Errorf("%s holds a private key, and a bundle holds none: name it as a file of each gateway, by an absolute path", path)
	}
	into[name] = bytes.Clone(f.Text)
	return f, nil
}

// place is the directory that has a file, and where it is noted.
func (d *desk) place(name string) (string, map[string][]byte) {
	if d.siteDir != "" && (fileset.Disk{}).Exists(filepath.Join(d.siteDir, filepath.FromSlash(name))) {
		return d.siteDir, d.site
	}
	return d.dir, d.common
}

// Stamp is fileset.Source.Stamp.
func (d *desk) Stamp(path string) (string, error) {
	if !d.Exists(path) {
		return "", fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	return path, nil
}

// Exists is fileset.Source.Exists.
func (d *desk) Exists(path string) bool {
	name, ok := strings.CutPrefix(path, fileset.BundleDir+"/")
	if !ok {
		return path == gatewayFile
	}
	dir, _ := d.place(name)
	return fileset.Disk{}.Exists(filepath.Join(dir, filepath.FromSlash(name)))
}

// Names is fileset.Source.Names.
func (d *desk) Names(dir string, limit int) []string {
	name, ok := strings.CutPrefix(dir+"/", fileset.BundleDir+"/")
	if !ok {
		return nil
	}
	return fileset.Disk{}.Names(filepath.Join(d.dir, filepath.FromSlash(name)), limit)
}

// CheckError is what `sslgate check` says of a site's configuration.
type CheckError struct {
	Site     string
	Findings []config.Finding
}

// Error has one line a finding.
func (e *CheckError) Error() string {
	return fmt.Sprintf("site %s: refused by check:\n%s", e.Site, config.Findings(e.Findings).Error())
}

// collect checks the configuration of each site and returns the files that it names.
func collect(ctx context.Context, file string, sites []Site, gateway []byte, eng handshake.Engine) (*collected, error) {
	if filepath.Base(file) != bundle.Main {
		return nil, fmt.Errorf("%s: the configuration of a bundle is called %s", file, bundle.Main)
	}
	all := &collected{map[string][]byte{}, map[string]map[string][]byte{}}
	for _, s := range sites {
		d := &desk{dir: filepath.Dir(file), siteDir: s.Dir, gateway: gateway, common: map[string][]byte{}, site: map[string][]byte{}}
		if err := checkSite(ctx, s.Name, d, eng); err != nil {
			return nil, err
		}
		for name, text := range d.common {
			if before, ok := all.common[name]; ok && !bytes.Equal(before, text) {
				return nil, errors.New(name + " changed while it was read: sign once more")
			}
			all.common[name] = text
		}
		all.sites[s.Name] = d.site
	}
	return all, nil
}

// checkSite is `sslgate check` of a site's configuration, but for the files of each gateway.
func checkSite(ctx context.Context, site string, src fileset.Source, eng handshake.Engine) error {
	checked, err := config.CheckWithin(ctx, nil, src, gatewayFile, eng)
	if err != nil {
		return err
	}
	if wrong := slices.DeleteFunc(checked.Findings, func(f config.Finding) bool {
		return f.Warning || strings.Contains(f.Msg, config.ErrOfGateway.Error())
	}); len(wrong) > 0 {
		return &CheckError{site, wrong}
	}
	return nil
}

// signedDesk is desk for a bundle that is made already.
type signedDesk struct {
	*bundle.Source
	gateway []byte
}

// Read is fileset.Source.Read.
func (d signedDesk) Read(ctx context.Context, path string, limit int64, room readfile.Room) (fileset.File, error) {
	switch {
	case path == gatewayFile:
		return fileset.Bytes{path: d.gateway}.Read(ctx, path, limit, room)
	case !strings.HasPrefix(path, fileset.BundleDir+"/"):
		return fileset.File{}, fmt.Errorf("%s: %w", path, config.ErrOfGateway)
	}
	return d.Source.Read(ctx, path, limit, room)
}
