package seal

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
)

// Types of what is signed: one a role, so that nobody's signature counts for another role.
const (
	TypeRoot   = "application/vnd.sslgate.fleet.root.v1+json"
	TypePolicy = "application/vnd.sslgate.fleet.policy.v1+json"
	TypeRevoke = "application/vnd.sslgate.fleet.revoke.v1+json"
)

// Bounds of an envelope.
const (
	// MaxPayload is 1 MiB: a manifest of some nine thousand files.
	MaxPayload = 1 << 20
	// MaxSignatures is how many an envelope may have.
	MaxSignatures = 32
	// MaxEnvelope has room for both: a signature of ML-DSA-65 has 3309 bytes.
	MaxEnvelope = MaxPayload/3*4 + MaxSignatures*5000 + 4096
)

// Envelope is signed bytes. Its JSON is that of DSSE.
type Envelope struct {
	PayloadType string      `json:"payloadType"`
	Payload     string      `json:"payload"` // base64
	Signatures  []Signature `json:"signatures"`

	body []byte
}

// Signature of one key.
type Signature struct {
	KeyID string `json:"keyid"`
	Sig   string `json:"sig"` // base64
}

// NewEnvelope is an envelope that nobody has signed yet.
func NewEnvelope(payloadType string, body []byte) *Envelope {
	return &Envelope{PayloadType: payloadType, Payload: base64.StdEncoding.EncodeToString(body), Signatures: []Signature{}, body: bytes.Clone(body)}
}

// ParseEnvelope reads one. It takes one form only, but for white space: whoever reads it with
// another JSON reader sees the same.
func ParseEnvelope(text []byte) (*Envelope, error) {
	if len(text) > MaxEnvelope {
		return nil, Refuse(TooLarge, "an envelope of %d bytes, at most %d", len(text), MaxEnvelope)
	}
	e := &Envelope{}
	if err := exactly(text, e); err != nil {
		return nil, Refuse(Unreadable, "the envelope: %w", err)
	}
	if len(e.Signatures) > MaxSignatures {
		return nil, Refuse(TooLarge, "an envelope with %d signatures, at most %d", len(e.Signatures), MaxSignatures)
	}
	var err error
	if e.body, err = decode64(e.Payload); err != nil {
		return nil, Refuse(Unreadable, "the payload: %w", err)
	}
	if len(e.body) > MaxPayload {
		return nil, Refuse(TooLarge, "a payload of %d bytes, at most %d", len(e.body), MaxPayload)
	}
	for i, s := range e.Signatures {
		if _, err := decode64(s.Sig); err != nil {
			return nil, Refuse(Unreadable, "signature %d: %w", i+1, err)
		}
	}
	return e, nil
}

// Text is the envelope as it is written to a file.
func (e *Envelope) Text() ([]byte, error) {
	text, err := json.MarshalIndent(e, "", "  ")
	return append(text, '\n'), err
}

// Unverified is what was signed, or was not: nothing to act on.
func (e *Envelope) Unverified() []byte { return e.body }

// message is what a key signs: the pre-authentication encoding of DSSE.
func (e *Envelope) message() []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(e.PayloadType), e.PayloadType, len(e.body), e.body)
}

// Sign adds the signature of a key; one that it had made before is replaced.
func (e *Envelope) Sign(key crypto.Signer) error {
	pub, err := Public(key)
	if err != nil {
		return err
	}
	sig, err := key.Sign(rand.Reader, e.message(), crypto.Hash(0))
	if err != nil {
		return err
	}
	e.Signatures = slices.DeleteFunc(e.Signatures, func(s Signature) bool { return s.KeyID == pub.ID() })
	e.Signatures = append(e.Signatures, Signature{KeyID: pub.ID(), Sig: base64.StdEncoding.EncodeToString(sig)})
	return nil
}

// signers returns which of keys have signed, each once however often it has. A signature of a
// key that is not known, or that is wrong, counts for nothing.
func (e *Envelope) signers(keys map[string]*PublicKey) []string {
	var good []string
	message := e.message()
	tried := map[string]int{}
	for _, s := range e.Signatures {
		key := keys[s.KeyID]
		if key == nil || slices.Contains(good, s.KeyID) || tried[s.KeyID] > 1 {
			continue
		}
		tried[s.KeyID]++ // a stranger may put a wrong one before the right one, but not make us work
		if sig, err := decode64(s.Sig); err == nil && key.verify(message, sig) {
			good = append(good, s.KeyID)
		}
	}
	return good
}

// exactly reads JSON into v and refuses what v would not be written as: unknown and repeated
// names, names in another case or order, other spellings of a text, something behind the end.
// Only white space is free.
func exactly(text []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	var is bytes.Buffer
	if err := json.Compact(&is, text); err != nil {
		return err
	}
	should, err := Canonical(v)
	if err != nil {
		return err
	}
	if !bytes.Equal(is.Bytes(), should) {
		return fmt.Errorf("not in the one form that is read: it differs at byte %d of its shortest form", differ(is.Bytes(), should))
	}
	return nil
}

// Canonical is the one form of what is signed: JSON without white space, the names of a structure
// in the order of its type and those of a map sorted.
func Canonical(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// ParseCanonical reads what Canonical has written, and nothing else.
func ParseCanonical(text []byte, v any) error {
	if err := exactly(text, v); err != nil {
		return err
	}
	should, err := Canonical(v)
	if err == nil && !bytes.Equal(text, should) {
		err = fmt.Errorf("not in its shortest form: it differs at byte %d", differ(text, should))
	}
	return err
}

func differ(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}
