package handshake

import "fmt"

// Step is one of the nine steps of the classic handshake, the vocabulary of
// the whole program. docs/handshake.md maps each to its messages in TLS 1.2
// and TLS 1.3. The zero value means "before the client hello".
type Step uint8

// The nine steps.
const (
	StepNone              Step = iota
	StepClientHello            // 1: versions, CipherSuites in the client's order, random, compression
	StepServerHello            // 2: chosen CipherSuite, session ID, random, certificate, certificate request
	StepServerVerified         // 3: the client verifies the server's certificate and the chosen CipherSuite
	StepKeyExchange            // 4: key material
	StepClientCertificate      // 5: the client's certificate and proof of its key, or the "no certificate" warning
	StepClientVerified         // 6: the server verifies it
	StepClientFinished         // 7
	StepServerFinished         // 8
	StepApplicationData        // 9: symmetric encryption for the session
)

var stepNames = [...]string{
	"before client hello", "client hello", "server hello", "server verified", "key exchange",
	"client certificate", "client verified", "client finished", "server finished", "application data",
}

// String names the step in words: "client hello".
func (s Step) String() string {
	if int(s) < len(stepNames) {
		return stepNames[s]
	}
	return fmt.Sprintf("step %d", uint8(s))
}

// Side says who did something, or whose fault it was. On the client's leg the
// peer is the client; on the destination's leg the peer is the destination.
type Side uint8

// The sides. The zero value is us: an unexplained failure is our own.
const (
	SideUs Side = iota
	SidePeer
)

// String is "us" or "peer".
func (s Side) String() string {
	if s == SidePeer {
		return "peer"
	}
	return "us"
}
