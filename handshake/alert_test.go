package handshake

import (
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

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
	for a, want := range map[Alert]string{AlertUnknownCA: "unknown_ca(48)", AlertNone: "", 117: "general_error(117)", 200: "alert(200)"} {
		if got := a.String(); got != want {
			t.Errorf("alert %d is %q, want %q", uint8(a), got, want)
		}
	}
}
