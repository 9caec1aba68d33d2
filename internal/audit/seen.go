package audit

import (
	"crypto/x509"

	"go.uber.org/zap/zapcore"

	"github.com/sslgate/sslgate/handshake"
)

// Seen is what was read of a bypassed flow as it went by. Nothing of it was decided by us, and
// no certificate was verified.
type Seen struct {
	State               *handshake.State // nil if the server's hello was not read
	Asked               bool             // the server asked for a certificate
	Client, Destination *x509.Certificate
	Alert               handshake.Alert // that ended the handshake in the clear
	ByClient            bool            // who sent it
}

// MarshalLogObject writes the fields that docs/audit.md lists.
func (s *Seen) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	if s.State != nil {
		if err := (leg{s.State}).MarshalLogObject(enc); err != nil {
			return err
		}
	}
	if s.Asked {
		enc.AddBool("certificate_requested", true)
	}
	if s.Client != nil {
		if err := enc.AddObject("client", shown{s.Client}); err != nil {
			return err
		}
	}
	if s.Destination != nil {
		if err := enc.AddObject("destination", shown{s.Destination}); err != nil {
			return err
		}
	}
	if s.Alert != handshake.AlertNone {
		enc.AddString("alert", s.Alert.String())
		enc.AddBool("alert_by_client", s.ByClient)
	}
	return nil
}

// shown is a certificate that was shown to somebody else.
type shown struct{ c *x509.Certificate }

func (s shown) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddBool("proven", false) // to nobody here
	return addCertificate(enc, s.c)
}

// ParsedSeen is what was read of a bypassed flow.
type ParsedSeen struct {
	Version       string      `json:"version,omitempty"` // "" where no hello of the server was read
	Suite         string      `json:"suite,omitempty"`
	Group         string      `json:"group,omitempty"`
	ALPN          string      `json:"alpn,omitempty"`
	ServerName    string      `json:"server_name,omitempty"`
	HelloRetry    bool        `json:"hello_retry,omitempty"`
	Resumed       bool        `json:"resumed,omitempty"`
	Asked         bool        `json:"certificate_requested,omitempty"`
	Client        *ParsedPeer `json:"client,omitempty"`
	Destination   *ParsedPeer `json:"destination,omitempty"`
	Alert         string      `json:"alert,omitempty"`
	AlertByClient *bool       `json:"alert_by_client,omitempty"` // nil without an alert
}
