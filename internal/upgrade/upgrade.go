// Package upgrade has what is said in the clear before TLS, in protocols that begin without
// it and change to it on a request. It is pure: a Talk is given what the peer has said and
// says what to answer. Whoever reads and writes is its caller.
package upgrade

import (
	"fmt"

	"github.com/sslgate/sslgate/internal/reason"
)

// Protocol is one that begins in the clear. The zero value is TLS from the first byte.
type Protocol uint8

// The protocols.
const (
	None Protocol = iota
	Postgres
)

// String is the word of the configuration.
func (p Protocol) String() string {
	if p == Postgres {
		return "postgres"
	}
	return "none"
}

// Word is the word of a record, "" for None.
func (p Protocol) Word() string {
	if p == None {
		return ""
	}
	return p.String()
}

// Parse is the protocol of a word of String or Word; false for any other word.
func Parse(word string) (Protocol, bool) {
	for _, p := range []Protocol{None, Postgres} {
		if word == p.String() || word == p.Word() {
			return p, true
		}
	}
	return None, false
}

// ALPN is the application protocol that stands for it inside TLS, "" for None. A client
// that begins with TLS at once must offer it, and so does a server demand it (PostgreSQL 17,
// "SSL Session Encryption"): else a server of one protocol could be made to answer a client
// of another.
func (p Protocol) ALPN() string {
	if p == Postgres {
		return "postgresql"
	}
	return ""
}

// Begins is how a client of it begins, for a person: "a PostgreSQL SSLRequest".
func (p Protocol) Begins() string {
	if p == Postgres {
		return "a PostgreSQL SSLRequest"
	}
	return "TLS from the first byte"
}

// Then says what comes after a Step.
type Then uint8

// What comes after a step. The zero value waits.
const (
	// More: the peer has not said enough, or goes on.
	More Then = iota
	// TLS begins, once Say is sent. Everything that the peer had said is taken.
	TLS
	// Direct: TLS has begun without a dialogue, and what was not taken is its beginning.
	Direct
	// End: no TLS can come of it. Reason says why, and Say is the last word.
	End
)

// Step is what is to be done with what the peer has said.
type Step struct {
	// Took is how many bytes of what the peer has said are done with. With Heard they are that
	// message, as far as it was heard.
	Took int
	// Say is what is answered; nil for nothing.
	Say  []byte
	Then Then
	// Heard and Said name the messages, for the ledger; "" for none.
	Heard, Said string
	// Asks says that what was heard is a request for TLS.
	Asks bool
	// Reason, with End, and its Detail, which may quote the peer.
	Reason reason.Code
	Detail string
}

// dialogue is one side of a protocol. It has no bounds of its own: Talk has them.
type dialogue interface {
	// begin is what we say before the peer has said anything: a request, or the greeting of
	// a server that speaks first.
	begin() Step
	// next looks at what the peer has said and was not taken yet, at least one byte.
	next(said []byte) Step
	// malformed and injected are the reasons for what is not the protocol, and for what was
	// said before an answer that had to be waited for.
	malformed() reason.Code
	injected() reason.Code
}

const (
	// MaxSaid bounds what a peer may have said and we cannot take yet, in bytes. The requests
	// of PostgreSQL have 8; a line of SMTP 512 (RFC 5321, section 4.5.3.1.4).
	MaxSaid = 512
	// maxSteps bounds the messages of a dialogue.
	maxSteps = 16
)

// Talk is a dialogue under way. One goroutine uses it.
type Talk struct {
	d     dialogue
	steps int
}

// WithClient begins the side of the server; nil for None.
func (p Protocol) WithClient() *Talk {
	if p == Postgres {
		return &Talk{d: &postgresServer{}}
	}
	return nil
}

// WithDestination begins the side of the client; nil for None.
func (p Protocol) WithDestination() *Talk {
	if p == Postgres {
		return &Talk{d: postgresClient{}}
	}
	return nil
}

// Begin is the first step, before the peer has said anything. It takes nothing.
func (t *Talk) Begin() Step { return t.d.begin() }

// Next is the step that follows from what the peer has said and was not taken before. It
// keeps no reference to said.
//
// Whoever waits for our answer has nothing more to say before it. What is there all the
// same may have been put there by somebody else, who wants it to be taken for a part of
// what TLS protects (CVE-2011-0411, CVE-2021-23214, CVE-2021-23222): it ends the dialogue.
func (t *Talk) Next(said []byte) Step {
	if len(said) == 0 {
		return Step{}
	}
	s := t.d.next(said)
	rest := len(said) - s.Took
	t.steps++
	switch {
	case s.Then == End, s.Then == Direct:
		return s
	case rest > 0 && (s.Say != nil || s.Then == TLS):
		return t.Injected(s, rest)
	case s.Then == More && (rest >= MaxSaid || t.steps > maxSteps && s.Took > 0):
		return Step{Then: End, Reason: t.d.malformed(), Detail: fmt.Sprintf("more than %d bytes, or %d messages, before TLS", MaxSaid, maxSteps)}
	}
	return s
}

// Injected is the end for n bytes that were said before the answer to the message of a step.
func (t *Talk) Injected(s Step, n int) Step {
	return Step{Took: s.Took, Then: End, Heard: s.Heard, Asks: s.Asks, Reason: t.d.injected(), Detail: fmt.Sprintf("%d bytes in the clear behind %s, before TLS", n, s.Heard)}
}

// quoted is the beginning of what a peer has said.
func quoted(b []byte) string {
	const most = 16
	if len(b) > most {
		return fmt.Sprintf("%+q...", b[:most])
	}
	return fmt.Sprintf("%+q", b)
}
