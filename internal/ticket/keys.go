package ticket

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

// MaxLifetime bounds every session: a day is enough to spare a client its
// handshakes. (What a stolen key opens is as old as the key: see tickets.keys.)
const MaxLifetime = 24 * time.Hour

// Keys seal and open session tickets: XChaCha20-Poly1305, whose nonces
// are long enough to be random, under the newest key. A ticket is
//
//	key ID (8 bytes) | nonce (24) | sealed session state | tag (16)
//
// Safe for many goroutines.
type Keys struct {
	rotate time.Duration // 0: never, the keys come from outside

	mu   sync.Mutex
	keys []*sealingKey // newest first; at most maxKeys. A key is where it was made, never copied
}

type sealingKey struct {
	id   [8]byte
	aead cipher.AEAD
	made time.Time
	key  [chacha20poly1305.KeySize]byte // for Export
}

// Format keeps the keys out of whatever prints them by mistake, with any verb.
func (*Keys) Format(to fmt.State, _ rune) { _, _ = io.WriteString(to, "(ticket keys)") }

// ExportedKey is a key as one process hands it to the next. It is a secret.
type ExportedKey struct {
	Key  []byte    `json:"key"` // 32 bytes
	Made time.Time `json:"made"`
}

// Format keeps the key out of whatever prints one by mistake, with any verb.
func (ExportedKey) Format(to fmt.State, _ rune) { _, _ = io.WriteString(to, "(a ticket key)") }

// Export returns the keys, the newest first, for a process that takes over from this one.
func (k *Keys) Export() []ExportedKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []ExportedKey
	for _, t := range k.keys {
		all = append(all, ExportedKey{bytes.Clone(t.key[:]), t.made})
	}
	return all
}

// IDs name the keys, the one that seals first, by what each ticket has in clear: 16 hexadecimal
// digits. Gateways with the same IDs open each other's tickets.
func (k *Keys) IDs() (ids []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, t := range k.keys {
		ids = append(ids, hex.EncodeToString(t.id[:]))
	}
	return ids
}

// Import takes the keys that another process has exported, in place of those there are.
// After an error nothing has changed.
func (k *Keys) Import(keys []ExportedKey) error {
	if len(keys) > maxKeys {
		return fmt.Errorf("%d ticket keys: at most %d", len(keys), maxKeys)
	}
	all := make([]*sealingKey, 0, len(keys))
	for _, key := range keys {
		if len(key.Key) != chacha20poly1305.KeySize {
			forget(all)
			return fmt.Errorf("ticket key: %d bytes, not %d", len(key.Key), chacha20poly1305.KeySize)
		}
		all = append(all, newKey((*[chacha20poly1305.KeySize]byte)(bytes.Clone(key.Key)), key.Made))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	forget(k.keys)
	k.keys = all
	return nil
}

// forget clears keys that nothing opens any more, so that no dump of memory has them. The copy
// that their AEAD has is out of reach.
func forget(keys []*sealingKey) {
	for _, t := range keys {
		clear(t.key[:])
	}
}

// head is what stands in front of the sealed state, in bytes: key ID and nonce.
const head = 8 + chacha20poly1305.NonceSizeX

// Overhead is what a ticket has besides its state, in bytes.
const Overhead = head + chacha20poly1305.Overhead

// maxKeys bounds the keys held: one an hour for MaxLifetime, and
// the current one.
const maxKeys = 25

// minRotation keeps the keys of MaxLifetime within maxKeys.
const minRotation = time.Hour

// NewKeys makes keys that live in this process alone and change every so
// often, which bounds what a stolen one opens. Less than an hour, and zero,
// mean one hour. Older keys open tickets for MaxLifetime.
func NewKeys(rotate time.Duration) *Keys {
	return &Keys{rotate: max(rotate, minRotation)}
}

// ParseKeys reads keys that several gateways share: one a line, 64
// hexadecimal digits (32 bytes, from a random source); the first seals, all of
// them open, at most 25. Empty lines and those that begin with # are skipped.
// The file is rotated from outside: put the new key second everywhere, then
// first everywhere, then drop the oldest.
func ParseKeys(text []byte) (*Keys, error) {
	k := &Keys{}
	if err := k.parse(text); err != nil {
		forget(k.keys)
		return nil, err
	}
	return k, nil
}

func (k *Keys) parse(text []byte) error {
	n := 0
	for line := range bytes.Lines(text) {
		n++
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		var key [chacha20poly1305.KeySize]byte
		// The line is a secret: the error does not quote it.
		if len(line) != hex.EncodedLen(len(key)) {
			return fmt.Errorf("line %d: a key has %d hexadecimal digits, this line has %d bytes", n, hex.EncodedLen(len(key)), len(line))
		}
		if _, err := hex.Decode(key[:], line); err != nil {
			return fmt.Errorf("line %d: a key has hexadecimal digits only", n)
		}
		if bytes.Count(key[:], key[:1]) == len(key) {
			return fmt.Errorf("line %d: this is no random key", n)
		}
		t := newKey(&key, time.Time{})
		for _, other := range k.keys {
			if other.id == t.id {
				return fmt.Errorf("line %d: this key is there twice", n)
			}
		}
		if k.keys = append(k.keys, t); len(k.keys) > maxKeys {
			return fmt.Errorf("line %d: at most %d keys", n, maxKeys)
		}
	}
	if len(k.keys) == 0 {
		return errors.New("there is no key in it: one a line, 64 hexadecimal digits, as `openssl rand -hex 32` prints")
	}
	return nil
}

// newKey takes a key, and clears it.
func newKey(key *[chacha20poly1305.KeySize]byte, made time.Time) *sealingKey {
	const label = "sslgate ticket key ID\n"
	var named [len(label) + len(key)]byte
	copy(named[copy(named[:], label):], key[:])
	sum := sha256.Sum256(named[:])
	aead, _ := chacha20poly1305.NewX(key[:]) // fails only for another size
	t := &sealingKey{id: [8]byte(sum[:8]), aead: aead, made: made, key: *key}
	clear(named[:])
	clear(key[:])
	return t
}

// clockSlack is how far a key may seem to come from the future: handshakes that begin at
// one time are not asked in that order, and a clock is set back by a little.
const clockSlack = time.Minute

// ahead says whether a key was made while the clock was ahead: such a key would seal, and
// open, until its time has come again.
func (t *sealingKey) ahead(now time.Time) bool { return t.made.Sub(now) > clockSlack }

// current is the key that seals; it makes one where it is time.
func (k *Keys) current(now time.Time) *sealingKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.rotate == 0 || len(k.keys) > 0 && now.Sub(k.keys[0].made) < k.rotate && !k.keys[0].ahead(now) {
		return k.keys[0]
	}
	var key [chacha20poly1305.KeySize]byte
	_, _ = rand.Read(key[:]) // never fails
	t := newKey(&key, now)
	keys := []*sealingKey{t}
	for i, old := range k.keys {
		if now.Sub(old.made) < k.rotate+MaxLifetime && !old.ahead(now) && len(keys) < maxKeys {
			keys = append(keys, old)
		} else {
			forget(k.keys[i : i+1])
		}
	}
	k.keys = keys
	return t
}

// Seal makes a ticket under the newest key.
func (k *Keys) Seal(state, binding []byte, now time.Time) ([]byte, error) {
	t := k.current(now)
	var nonce [chacha20poly1305.NonceSizeX]byte
	_, _ = rand.Read(nonce[:]) // never fails
	out := make([]byte, 0, len(t.id)+len(nonce)+len(state)+t.aead.Overhead())
	out = append(append(out, t.id[:]...), nonce[:]...)
	return t.aead.Seal(out, nonce[:], state, binding), nil
}

// Open returns nil for everything that Seal has not made under one of the keys
// and the same binding.
func (k *Keys) Open(ticket, binding []byte, now time.Time) []byte {
	if len(ticket) < Overhead || len(ticket) > MaxState+Overhead {
		return nil
	}
	k.mu.Lock()
	keys := k.keys // replaced, never changed
	k.mu.Unlock()
	for _, t := range keys {
		if t.id != [8]byte(ticket) || k.rotate > 0 && now.Sub(t.made) > k.rotate+MaxLifetime {
			continue
		}
		state, err := t.aead.Open(nil, ticket[8:head], ticket[head:], binding)
		if err != nil {
			return nil
		}
		return state
	}
	return nil
}
