package author

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/fleet/seal"
)

// epochsName is the directory with every bundle.json that was published. Gateways do not look at it.
const epochsName = "epochs"

// maxEpochs bounds how many are listed.
const maxEpochs = 1 << 20

// EpochName is where the bundle.json of an epoch is kept: whoever puts it in the place of bundle.json
// goes back to it.
func EpochName(epoch int64) string { return path.Join(epochsName, fmt.Sprintf("%d.json", epoch)) }

// Published is the bundle of a directory, verified by the newest root, and the SHA-256 of its
// manifest.
func Published(dir string, root *seal.Root) (*bundle.Manifest, string, error) {
	return readBundle(filepath.Join(dir, bundle.HeadName), root)
}

// readBundle reads a bundle that enough of the policy keys have signed that one of the roots names.
func readBundle(file string, roots ...*seal.Root) (m *bundle.Manifest, sum string, err error) {
	text, err := readFile(file, seal.MaxEnvelope)
	if err != nil {
		return nil, "", err
	}
	for _, root := range roots {
		if m, sum, err = verified(root, text); err == nil {
			return m, sum, nil
		}
	}
	return nil, "", fmt.Errorf("%s: %w", file, err)
}

func verified(root *seal.Root, text []byte) (*bundle.Manifest, string, error) {
	e, err := seal.ParseEnvelope(text)
	if err != nil {
		return nil, "", err
	}
	body, err := root.Open(seal.RolePolicy, seal.TypePolicy, e)
	if err != nil {
		return nil, "", err
	}
	m, err := bundle.Parse(body)
	if err == nil && m.Fleet != root.Fleet {
		err = seal.Refuse(seal.WrongFleet, "of fleet %s, this is %s", m.Fleet, root.Fleet)
	}
	return m, bundle.Sum(body), err
}

// stands is a bundle as the newest root lets it stand: of one that was signed under a root before,
// and that a later one voids, the number that epochs go on from is left. whole says that it is not
// void.
func stands(file string, roots Roots) (o bundle.Older, whole bool, err error) {
	for i, root := range slices.Backward(roots) {
		var m *bundle.Manifest
		var sum string
		if m, sum, err = readBundle(file, root); err != nil {
			if seal.ReasonOf(err) == seal.Unsigned {
				continue
			}
			return o, false, err
		}
		o, whole = bundle.Older{Epoch: m.Epoch, Manifest: sum}, true
		for _, later := range roots[i+1:] {
			if later.VoidAbove > 0 && o.Epoch > later.VoidAbove {
				o, whole = bundle.Older{Epoch: later.VoidAbove}, false
			}
		}
		return o, whole, nil
	}
	return o, false, err
}

// newest is the bundle that the next one follows: of the published one and those that are kept the
// one with the highest epoch that is not void. Keys that are not the newest root's may have signed
// it. The zero Older: there is none.
func newest(dir string, roots Roots) (bundle.Older, error) {
	last, _, err := stands(filepath.Join(dir, bundle.HeadName), roots)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return last, err
	}
	var kept []int64
	for _, name := range (fileset.Disk{}).Names(filepath.Join(dir, epochsName), maxEpochs) {
		if epoch, err := strconv.ParseInt(strings.TrimSuffix(name, ".json"), 10, 64); err == nil && EpochName(epoch) == path.Join(epochsName, name) {
			kept = append(kept, epoch)
		}
	}
	slices.Sort(kept)
	for _, epoch := range slices.Backward(kept) {
		if epoch < last.Epoch {
			break
		}
		o, whole, err := stands(filepath.Join(dir, filepath.FromSlash(EpochName(epoch))), roots)
		if err != nil {
			return last, err
		}
		if o.Epoch > last.Epoch {
			last = o
		}
		if whole {
			break
		}
	}
	return last, nil
}

// older finds the bundles that can be gone back to: gateways take them if the keys of the newest
// root have signed them.
func older(dir string, root *seal.Root, epochs []int64) ([]bundle.Older, error) {
	all := []bundle.Older{}
	for _, epoch := range slices.Compact(slices.Sorted(slices.Values(epochs))) {
		m, sum, err := readBundle(filepath.Join(dir, filepath.FromSlash(EpochName(epoch))), root)
		if err != nil {
			return nil, fmt.Errorf("epoch %d cannot be gone back to: %w", epoch, err)
		}
		if m.Epoch != epoch {
			return nil, fmt.Errorf("epoch %d cannot be gone back to: its file has epoch %d", epoch, m.Epoch)
		}
		all = append(all, bundle.Older{Epoch: epoch, Manifest: sum})
	}
	return all, nil
}
