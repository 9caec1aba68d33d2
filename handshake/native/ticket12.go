package native

import (
	"crypto/tls"
	"slices"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/keys"
	"github.com/sslgate/sslgate/handshake/native/wire"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/ticket"
)

// This file is resumption with a ticket of TLS 1.2 (RFC 5077). A session without
// extended_master_secret gets none: it could be spliced with another one (RFC 7627,
// section 1).

// resumable12 says whether this client gets a ticket.
func (s *server) resumable12() bool {
	return s.takesTickets() && s.hello.SessionTicket && s.hello.ExtendedMasterSecret
}

// takesTickets says whether the plan has any.
func (s *server) takesTickets() bool {
	r := s.plan.Ticket
	return r != nil && r.Keys != nil && !s.plan.Observe
}

// resume12 looks whether the hello has a ticket that opens and may be used. One that may
// not leads to a full handshake.
func (s *server) resume12() error {
	if !s.hello.SessionTicket || !s.takesTickets() {
		return nil
	}
	sealed := wire.SessionTicket(s.hello)
	if len(sealed) == 0 {
		return nil
	}
	r, peer := s.open(sealed, s.plan.TicketBinding(s.hello.ServerName), s.fitsTicket12)
	switch {
	case r == nil:
		return nil
	case !s.hello.ExtendedMasterSecret:
		clear(r.Secret)
		// RFC 7627, section 5.3: every session of ours has it.
		return handshake.Refuse(handshake.StepClientHello, reason.NoExtendedMasterSecret, "the session that the client resumes has it")
	}
	s.resumed, s.peer = r, peer
	s.agreed.Resumed, s.agreed.Suite, s.agreed.Group = true, r.Suite, r.Group
	s.choice.suite12 = keys.Suite12Of(r.Suite)
	s.choice.suite = &s.choice.suite12.Suite
	return nil
}

// fitsTicket12 says whether a session is one that this hello may go on with: its
// CipherSuite is the session's (RFC 5246, section 7.4.1.3).
func (s *server) fitsTicket12(r *ticket.State) bool {
	suite := keys.Suite12Of(r.Suite)
	return r.Version == tls.VersionTLS12 && r.ExtendedMasterSecret && suite != nil && r.Group != 0 &&
		slices.Contains(s.hello.CipherSuites, r.Suite) && len(r.Secret) == keys.MasterSize
}

// makeTicket12 makes the NewSessionTicket that was announced. It is empty where there is
// none after all: the state would be too large, or the session's time is over (RFC 5077,
// section 3.3).
func (s *server) makeTicket12(master *keys.Master12) ([]byte, error) {
	secret := master.Secret()
	defer clear(secret)
	sealed, life, err := s.seal(secret)
	if err != nil {
		return nil, err
	}
	return (&wire.NewSessionTicket12{Lifetime: uint32(life / time.Second), Ticket: sealed}).Marshal()
}
