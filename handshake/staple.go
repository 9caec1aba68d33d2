package handshake

import (
	"sync/atomic"
	"time"
)

// Staple is the OCSP response (RFC 6960) that is shown with a certificate
// (RFC 6066, section 8; RFC 8446, section 4.4.2.1), as it stands at the
// moment: it may be changed while handshakes go on. The zero value shows none.
type Staple struct {
	p atomic.Pointer[stapled]
}

type stapled struct {
	der   []byte
	until time.Time
}

// Set puts another response in place, DER, shown until the given time: a
// client takes one past its nextUpdate for none, or for a failure.
func (s *Staple) Set(der []byte, until time.Time) {
	s.p.Store(&stapled{der, until})
}

// At is what is shown at a time; nil is nothing.
func (s *Staple) At(now time.Time) []byte {
	if s == nil {
		return nil
	}
	v := s.p.Load()
	if v == nil || !now.Before(v.until) {
		return nil
	}
	return v.der
}
