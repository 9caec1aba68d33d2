package stdtls

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"hash"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/sslgate/sslgate/handshake"
)

// epoch is which keys protect a direction (RFC 8446, section 4.4 and 7.1).
type epoch uint8

const (
	epochPlain     epoch = iota
	epochHandshake       // after ServerHello
	epochApp             // after this direction's Finished
)

// Write takes one line of the key log, "LABEL client_random secret" in hex, as
// crypto/tls's Config.KeyLogWriter gives it for this one connection. The
// secret stays in the tap until it detaches and goes nowhere else. Every
// connection of the process shares the lock that crypto/tls holds here, so
// nothing is opened yet.
func (t *tap) Write(line []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := bytes.Fields(line)
	if t.stopped || len(f) != 3 {
		return len(line), nil
	}
	dir, i := 0, 0
	switch string(f[0]) {
	case "CLIENT_HANDSHAKE_TRAFFIC_SECRET":
		dir, i = toServer, 0
	case "SERVER_HANDSHAKE_TRAFFIC_SECRET":
		dir, i = toClient, 0
	case "CLIENT_TRAFFIC_SECRET_0":
		dir, i = toServer, 1
	case "SERVER_TRAFFIC_SECRET_0":
		dir, i = toClient, 1
	default:
		return len(line), nil // TLS 1.2: nothing but the Finished is encrypted
	}
	secret := make([]byte, hex.DecodedLen(len(f[2])))
	if _, err := hex.Decode(secret, f[2]); err == nil {
		t.secrets[dir][i] = secret
	}
	return len(line), nil
}

// opener opens the records of one direction and epoch.
type opener struct {
	aead cipher.AEAD
	iv   []byte
	seq  uint64
}

// newOpener derives the traffic keys (RFC 8446, section 7.3) of a TLS 1.3
// CipherSuite; nil for a suite it does not know.
func newOpener(suite uint16, secret []byte) *opener {
	h, keyLen := suiteHash(suite)
	if h == nil {
		return nil
	}
	key, err := expandLabel(h, secret, "key", keyLen)
	if err != nil {
		return nil
	}
	o := &opener{}
	if o.iv, err = expandLabel(h, secret, "iv", 12); err != nil {
		return nil
	}
	if suite == tls.TLS_CHACHA20_POLY1305_SHA256 {
		o.aead, err = chacha20poly1305.New(key)
	} else {
		var block cipher.Block
		if block, err = aes.NewCipher(key); err == nil {
			o.aead, err = cipher.NewGCM(block)
		}
	}
	if err != nil {
		return nil
	}
	return o
}

// suiteHash is the hash function of a TLS 1.3 CipherSuite and the length of its
// keys in bytes (RFC 8446, appendix B.4); nil for a suite it does not know.
func suiteHash(suite uint16) (h func() hash.Hash, keyLen int) {
	switch suite {
	case tls.TLS_AES_128_GCM_SHA256:
		return sha256.New, 16
	case tls.TLS_AES_256_GCM_SHA384:
		return sha512.New384, 32
	case tls.TLS_CHACHA20_POLY1305_SHA256:
		return sha256.New, chacha20poly1305.KeySize
	}
	return nil, 0
}

// expandLabel is HKDF-Expand-Label with an empty context (RFC 8446, section 7.1).
func expandLabel(h func() hash.Hash, secret []byte, label string, n int) ([]byte, error) {
	label = "tls13 " + label
	info := binary.BigEndian.AppendUint16(nil, uint16(n))
	info = append(info, byte(len(label)))
	info = append(info, label...)
	info = append(info, 0)
	return hkdf.Expand(h, secret, string(info), n)
}

// nonce is the per-record nonce of the next record (RFC 8446, section 5.3).
func (o *opener) nonce() []byte {
	n := bytes.Clone(o.iv)
	for i := range 8 {
		n[4+i] ^= byte(o.seq >> (56 - 8*i))
	}
	o.seq++
	return n
}

// open decrypts a TLSCiphertext and strips the padding of the
// TLSInnerPlaintext (RFC 8446, section 5.4); the content type is its last
// byte that is not zero.
func (o *opener) open(body []byte) (content []byte, typ uint8, ok bool) {
	header := []byte{handshake.RecordAppData, 3, 3, byte(len(body) >> 8), byte(len(body))}
	inner, err := o.aead.Open(nil, o.nonce(), body, header)
	if err != nil {
		return nil, 0, false
	}
	inner = bytes.TrimRight(inner, "\x00")
	if len(inner) == 0 {
		return nil, 0, false
	}
	return inner[:len(inner)-1], inner[len(inner)-1], true
}

// open13 opens one encrypted record; false means that its secret is not there
// yet.
func (t *tap) open13(dir int, r record) bool {
	d := &t.dirs[dir]
	if d.opener == nil {
		if d.epoch == epochPlain {
			d.epoch = epochHandshake
		}
		secret := t.secrets[dir][d.epoch-1]
		if secret == nil {
			return false
		}
		if d.opener = newOpener(t.seen.suite, secret); d.opener == nil {
			t.stop("no keys for this CipherSuite")
			return true
		}
	}
	content, typ, ok := d.opener.open(r.body)
	if !ok {
		t.stop("a record does not decrypt")
		return true
	}
	switch typ {
	case handshake.RecordHandshake:
		t.handshake(dir, content, r.at)
	case handshake.RecordAlert:
		if len(content) == 2 {
			t.alert(dir, content, r.at)
		}
	}
	return true
}

// nextEpoch is called when a Finished has gone by in a direction.
func (t *tap) nextEpoch(dir int) {
	d := &t.dirs[dir]
	d.opener, d.epoch = nil, epochApp
}
