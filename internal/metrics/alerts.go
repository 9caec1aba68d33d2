package metrics

import (
	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/reason"
)

// legAlert is an alert of a flow.
type legAlert struct {
	leg, direction string
	alert          handshake.Alert
}

// alertsOf are the last alerts that a flow sent and received on its legs.
func alertsOf(r *audit.Record) []legAlert {
	sent, received := lastAlerts(r.Ledger)
	destSent, destReceived := lastAlerts(r.DestLedger)
	// The record has one received alert for both legs, that of the leg which
	// ended the flow. The destination's ledger ends with its handshake.
	switch got := r.AlertReceived; {
	case got == received || got == destReceived:
	case r.End == reason.EndDestinationError:
		destReceived = got
	case received == handshake.AlertNone:
		received = got // a ledger that was full
	}
	if sent == handshake.AlertNone {
		sent = r.AlertSent
	}
	var all []legAlert
	for _, a := range []legAlert{
		{legClient, "sent", sent}, {legClient, "received", received},
		{legDestination, "sent", destSent}, {legDestination, "received", destReceived},
	} {
		if a.alert != handshake.AlertNone {
			all = append(all, a)
		}
	}
	return all
}

func lastAlerts(ledger []handshake.Entry) (sent, received handshake.Alert) {
	sent, received = handshake.AlertNone, handshake.AlertNone
	for _, e := range ledger {
		switch {
		case e.Alert == handshake.AlertNone || e.Message != "Alert":
		case e.From == handshake.SideUs:
			sent = e.Alert
		default:
			received = e.Alert
		}
	}
	return sent, received
}

// alertLabel: the number is the peer's choice, so only listed names count.
func alertLabel(a handshake.Alert) string {
	name := a.String()
	for i, c := range name {
		if c == '(' && name[:i] != "alert" {
			return name[:i]
		}
	}
	return "other"
}
