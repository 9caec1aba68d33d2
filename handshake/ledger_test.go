package handshake

import (
	"strings"
	"sync"
	"testing"
	"time"
)

func TestLedgerBounds(t *testing.T) {
	l := NewLedger(time.Now())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				l.Note(Entry{Message: "X", Facts: strings.Repeat("é", 1000)})
				_, _, _ = l.Entries(), l.Reached(), l.Lost()
			}
		})
	}
	wg.Wait()
	l.NoteAlert(StepClientHello, SidePeer, AlertUnknownCA)
	if n := len(l.Entries()); n != MaxEntries || l.Lost() != 201-MaxEntries {
		t.Errorf("%d entries, %d lost", n, l.Lost())
	}
	if l.AlertReceived() != AlertUnknownCA || l.AlertSent() != AlertNone {
		t.Errorf("alerts: %s, %s", l.AlertReceived(), l.AlertSent())
	}
	if f := l.Entries()[0].Facts; len(f) > MaxFacts || !strings.HasSuffix(f, "...") {
		t.Errorf("facts of %d bytes", len(f))
	}
}

func TestReached(t *testing.T) {
	l := NewLedger(time.Now())
	if l.Reached() != StepNone {
		t.Error("an empty ledger reached something")
	}
	l.Complete(StepServerFinished, StepClientHello)
	if l.Reached() != StepClientHello {
		t.Errorf("reached %s with step 8 early", l.Reached())
	}
	l.Complete(StepServerHello, StepServerVerified, StepKeyExchange, StepClientCertificate, StepClientFinished)
	l.Decide(StepClientVerified, "")
	if l.Reached() != StepServerFinished {
		t.Errorf("reached %s", l.Reached())
	}
}
