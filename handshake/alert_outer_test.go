package handshake_test

import (
	"crypto/tls"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// A real client reads the alert that was sent in plaintext.
func TestSendAlertToClient(t *testing.T) {
	for alert, text := range map[handshake.Alert]string{
		handshake.AlertUnrecognizedName:      "remote error: tls: unrecognized name",
		handshake.AlertNoApplicationProtocol: "remote error: tls: no application protocol",
		handshake.AlertProtocolVersion:       "remote error: tls: protocol version not supported",
		handshake.AlertInsufficientSecurity:  "remote error: tls: insufficient security level",
		handshake.AlertIllegalParameter:      "remote error: tls: illegal parameter",
		handshake.AlertMissingExtension:      "remote error: tls: missing extension",
		handshake.AlertAccessDenied:          "remote error: tls: access denied",
	} {
		for name, c := range clientConfigs() {
			t.Run(alert.String()+" to "+name, func(t *testing.T) {
				client, server := testenv.TCPPair(t)
				result := make(chan error, 1)
				go func() { result <- tls.Client(client, c).Handshake() }()
				h, conn, err := handshake.Peek(t.Context(), server, 0)
				if err != nil {
					t.Fatal(err)
				}
				if err := handshake.SendAlert(conn, alert, h.RecordVersion); err != nil {
					t.Fatal(err)
				}
				if err := <-result; err == nil || err.Error() != text {
					t.Errorf("the client saw %v, want %s", err, text)
				}
			})
		}
	}
}

func TestSendAlertBytes(t *testing.T) {
	for _, c := range []struct {
		alert  handshake.Alert
		record uint16
		want   string
	}{
		{handshake.AlertNone, 0x0303, ""},
		{handshake.AlertUnrecognizedName, 0x0303, "\x15\x03\x03\x00\x02\x02\x70"},
		{handshake.AlertProtocolVersion, 0x0300, "\x15\x03\x00\x00\x02\x02\x46"},
		{handshake.AlertHandshakeFailure, 0, "\x15\x03\x01\x00\x02\x02\x28"},
		{handshake.AlertHandshakeFailure, 0x0304, "\x15\x03\x01\x00\x02\x02\x28"},
		{handshake.AlertHandshakeFailure, 0x0200, "\x15\x03\x01\x00\x02\x02\x28"},
		{handshake.AlertCloseNotify, 0x0301, "\x15\x03\x01\x00\x02\x01\x00"},
		{handshake.AlertUserCanceled, 0x0301, "\x15\x03\x01\x00\x02\x01\x5a"},
	} {
		conn := &handshaketest.ScriptedConn{}
		if err := handshake.SendAlert(conn, c.alert, c.record); err != nil {
			t.Fatal(err)
		}
		if got := conn.Out.String(); got != c.want {
			t.Errorf("%v: sent % x, want % x", c.alert, got, c.want)
		}
	}
}
