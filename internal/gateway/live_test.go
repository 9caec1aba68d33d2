package gateway

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/policy"
)

// A live flow has its server name and rule from the hello on, and both of its
// handshakes as far as they have come.
func TestLiveFlowOnItsWay(t *testing.T) {
	spec := mtls()
	spec.Rules[0].Destination = policy.DestinationSpec{TLS: "verify", Authorities: []string{"staff"}}
	atClient, atOrigin := make(chan struct{}), make(chan struct{}) // each side waits twice: it is there, it may go on
	var h *house
	h = newHouse(t, spec, func(c net.Conn) {
		conn := tls.Server(c, &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			atOrigin <- struct{}{}
			<-atOrigin
			return &tls.Config{Certificates: []tls.Certificate{h.server}}, nil
		}})
		_, _ = io.Copy(conn, conn)
	})
	alice := h.alice()
	done := make(chan *tls.Conn, 1)
	go func() {
		conn, err := h.tlsClient(server4, nil, func(c *tls.Config) {
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				atClient <- struct{}{}
				<-atClient
				return alice, nil
			}
		})
		if err != nil {
			t.Error(err)
		}
		done <- conn
	}()
	only := func() (st Status, relaying bool) {
		h.gw.Each(func(l *Live) { st, relaying = l.Status(), l.Relaying() })
		return st, relaying
	}

	<-atClient
	st, relaying := only()
	if st.SNI != "pay.example" || st.Rule != "pay" || st.Action != policy.Terminate || st.Reason != "" || st.Peer != nil || relaying || len(st.DestLedger) != 0 {
		t.Errorf("in the client's handshake: %+v", st)
	}
	atClient <- struct{}{}
	conn := <-done
	if conn == nil {
		t.FailNow()
	}
	defer conn.Close()

	<-atOrigin
	st, relaying = only()
	for end := testenv.Deadline(); len(st.DestLedger) == 0 && time.Now().Before(end); st, relaying = only() {
		time.Sleep(time.Millisecond) // it is noted after it was written
	}
	if len(st.DestLedger) != 1 || st.DestLedger[0].Message != "ClientHello" || st.Peer == nil || st.Reason != "verified" || relaying {
		t.Errorf("in the destination's handshake: %+v", st)
	}
	atOrigin <- struct{}{}
	echo(t, conn)
	st, relaying = only()
	if !relaying || len(st.DestLedger) < 5 || len(st.Ledger) < 5 || st.SNI != "pay.example" || st.Rule != "pay" {
		t.Errorf("while data flows: %+v", st)
	}
	_ = conn.Close()
	if kept, _ := h.record(1)["destination_ledger"].([]any); len(kept) != len(st.DestLedger) {
		t.Errorf("%d entries live, %d in the record", len(st.DestLedger), len(kept))
	}
}
