package handshake

import (
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// A real client reads the alert that was sent in plaintext.
func TestSendAlertToClient(t *testing.T) {
	for alert, text := range map[Alert]string{
		AlertUnrecognizedName:      "remote error: tls: unrecognized name",
		AlertNoApplicationProtocol: "remote error: tls: no application protocol",
		AlertProtocolVersion:       "remote error: tls: protocol version not supported",
		AlertInsufficientSecurity:  "remote error: tls: insufficient security level",
		AlertIllegalParameter:      "remote error: tls: illegal parameter",
		AlertMissingExtension:      "remote error: tls: missing extension",
		AlertAccessDenied:          "remote error: tls: access denied",
	} {
		for name, c := range clientConfigs() {
			t.Run(alert.String()+" to "+name, func(t *testing.T) {
				client, server := testenv.TCPPair(t)
				result := make(chan error, 1)
				go func() { result <- tls.Client(client, c).Handshake() }()
				h, conn, err := Peek(t.Context(), server, 0)
				if err != nil {
					t.Fatal(err)
				}
				if err := SendAlert(conn, alert, h.RecordVersion); err != nil {
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
		alert  Alert
		record uint16
		want   string
	}{
		{AlertNone, 0x0303, ""},
		{AlertUnrecognizedName, 0x0303, "\x15\x03\x03\x00\x02\x02\x70"},
		{AlertProtocolVersion, 0x0300, "\x15\x03\x00\x00\x02\x02\x46"},
		{AlertHandshakeFailure, 0, "\x15\x03\x01\x00\x02\x02\x28"},
		{AlertHandshakeFailure, 0x0304, "\x15\x03\x01\x00\x02\x02\x28"},
		{AlertHandshakeFailure, 0x0200, "\x15\x03\x01\x00\x02\x02\x28"},
		{AlertCloseNotify, 0x0301, "\x15\x03\x01\x00\x02\x01\x00"},
		{AlertUserCanceled, 0x0301, "\x15\x03\x01\x00\x02\x01\x5a"},
	} {
		conn := &scriptedConn{}
		if err := SendAlert(conn, c.alert, c.record); err != nil {
			t.Fatal(err)
		}
		if got := conn.out.String(); got != c.want {
			t.Errorf("%v: sent % x, want % x", c.alert, got, c.want)
		}
	}
}

// A client that does not read holds nobody up, and a closed conn is told.
func TestSendAlertEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		start := time.Now()
		if err := SendAlert(server, AlertAccessDenied, 0); err == nil {
			t.Error("no error where nobody reads")
		} else if took := time.Since(start); took != AlertTimeout {
			t.Errorf("took %v", took)
		}
		_, _ = client.Close(), server.Close()
		if err := SendAlert(server, AlertAccessDenied, 0); err == nil || !strings.HasPrefix(err.Error(), "send alert: ") {
			t.Errorf("on a closed conn: %v", err)
		}
		if err := SendAlert(server, AlertNone, 0); err != nil {
			t.Errorf("AlertNone touches the conn: %v", err)
		}
	})
}

func TestAlertString(t *testing.T) {
	for a, want := range map[Alert]string{AlertUnknownCA: "unknown_ca(48)", AlertNone: "", 200: "alert(200)"} {
		if got := a.String(); got != want {
			t.Errorf("alert %d is %q, want %q", uint8(a), got, want)
		}
	}
}
