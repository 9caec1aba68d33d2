package acmeclient

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sslgate/sslgate/internal/escape"
	"github.com/sslgate/sslgate/internal/readfile"
	"github.com/sslgate/sslgate/internal/writefile"
)

// Memory is what is remembered of an order over a restart: how long the CA is left alone.
type Memory struct {
	// Of is the Order.Sum of what was ordered.
	Of string `json:"of"`
	// Due is when it is ordered again after it has failed; the zero value where it has not.
	Due time.Time `json:"due"`
	// Wait is the wait before Due, and Limited the last one because the CA limits how often it is
	// asked: the next ones are longer.
	Wait    time.Duration `json:"wait"`
	Limited time.Duration `json:"limited"`
	// Ordered is when the CA has issued the last certificate.
	Ordered time.Time `json:"ordered"`
	// Said is why the last order has failed.
	Said string `json:"said,omitempty"`
}

const (
	memoryName = "memory.json"
	maxMemory  = 16 << 10 // bytes
	// MaxRest bounds how long a CA is left alone after one failure.
	MaxRest = 30 * time.Hour
)

// ErrElsewhere says that another process orders the same certificate at the moment.
var ErrElsewhere = errors.New("another process orders the certificate at the moment")

// Sum says what is ordered: of whom, by which account, for which names.
func (o *Order) Sum() string {
	names := slices.Clone(o.Names)
	slices.Sort(names)
	sum := sha256.Sum256([]byte(strings.Join(append([]string{o.Directory, o.External.ID, o.DNS}, names...), "\n")))
	return hex.EncodeToString(sum[:16])
}

// dir has what belongs to the order: its memory and its lock.
func (o *Order) dir() string { return strings.TrimSuffix(o.File, ".pem") + ".order" }

// Lock takes the order for this process alone until release is called or the process ends. It
// never waits: the error is ErrElsewhere where another process has it. Where the file system has
// no locks it is taken all the same, and whoever is told to order by nobody else does so.
func (o *Order) Lock() (release func(), err error) {
	lock, err := readfile.Lock(o.dir())
	switch {
	case errors.Is(err, readfile.ErrLocked):
		return nil, ErrElsewhere
	case errors.Is(err, readfile.ErrNoLocks):
		return func() {}, nil
	case err != nil:
		return nil, err
	}
	return func() { _ = lock.Close() }, nil // read only: nothing to lose
}

// Recall is what was remembered of this order; the zero value where there is nothing, or what
// there is belongs to another order. What cannot be read, or cannot be true at that time, is an
// error: then nobody knows how long the CA wants to be left alone.
func (o *Order) Recall(now time.Time) (Memory, error) {
	path := filepath.Join(o.dir(), memoryName)
	text, err := read(path, maxMemory)
	if errors.Is(err, fs.ErrNotExist) {
		return Memory{}, nil
	}
	var m Memory
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	late := now.Add(MaxRest)
	if err == nil && (m.Of == "" || m.Due.After(late) || m.Ordered.After(late) || m.Wait < 0 || m.Wait > MaxRest || m.Limited < 0 || m.Limited > MaxRest) {
		err = errors.New("it says what cannot be")
	}
	if err != nil {
		return Memory{}, fmt.Errorf("%s, with when the CA may be asked again, cannot be used: %w", path, err)
	}
	if m.Of != o.Sum() {
		return Memory{}, nil
	}
	m.Said = escape.Shown(m.Said, 2*maxShown)
	return m, nil
}

// Remember writes m where Recall finds it. The caller has the lock.
func (o *Order) Remember(m Memory) error {
	m.Of = o.Sum()
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return writefile.Replace(filepath.Join(o.dir(), memoryName), append(text, '\n'), 0o600)
}
