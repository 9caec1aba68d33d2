package stack

import (
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// Netstack has the settings that were measured ("The bulk path" in
// docs/performance.md): its own defaults change from version to version.
func TestSettings(t *testing.T) {
	cfg, err := Config{Device: &taker{}, Handler: struct{ Handler }{}, Ports: []uint16{443}}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	ns, err := newNetstack(cfg, newLink(cfg.Device, new(counters)))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Destroy()
	get := func(o tcpip.GettableTransportProtocolOption) {
		t.Helper()
		if terr := ns.TransportProtocolOption(tcp.ProtocolNumber, o); terr != nil {
			t.Fatalf("%T: %s", o, terr)
		}
	}
	var recovery tcpip.TCPRecovery
	var congestion tcpip.CongestionControlOption
	var minRTO tcpip.TCPMinRTOOption
	var sack tcpip.TCPSACKEnabled
	var delay tcpip.TCPDelayEnabled
	var timeWait tcpip.TCPTimeWaitTimeoutOption
	var rcv tcpip.TCPReceiveBufferSizeRangeOption
	var snd tcpip.TCPSendBufferSizeRangeOption
	for _, o := range []tcpip.GettableTransportProtocolOption{&recovery, &congestion, &minRTO, &sack, &delay, &timeWait, &rcv, &snd} {
		get(o)
	}
	if recovery&tcpip.TCPRACKLossDetection != 0 || congestion != "reno" || time.Duration(minRTO) != 10*time.Millisecond || !bool(sack) || bool(delay) || time.Duration(timeWait) != 5*time.Second {
		t.Errorf("RACK %v, %s, minimum RTO %v, SACK %v, Nagle %v, TIME-WAIT %v", recovery, congestion, time.Duration(minRTO), sack, delay, time.Duration(timeWait))
	}
	if rcv.Default != 1<<20 || rcv.Max != 4<<20 || snd.Default != 1<<20 || snd.Max != 4<<20 {
		t.Errorf("buffers %+v, %+v", rcv, snd)
	}
}
