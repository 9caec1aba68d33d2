package e2e

import "testing"

// TestLocalOutHiddenMark: a rule of somebody else takes the mark from the packets of sslgate's
// own connections, so they are captured like those of programs. Each ends at once with its
// own reason, is dialled no further, and when the rule is gone everything is as before.
func TestLocalOutHiddenMark(t *testing.T) {
	t.Parallel()
	w := newOutWorld(t)
	w.start(w.outConfig("true", ""))
	nft := func(script string) {
		t.Helper()
		if out, err := w.programHere(0, "nft", script); err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
	}
	nft("add table inet other; add chain inet other out { type filter hook output priority -300; }; add rule inet other out tcp dport 443 meta mark & 0x70 == 0x50 meta mark set 0")
	n := 0
	for _, six := range []bool{false, true} {
		w.says("with the mark hidden", 0, 0, six, port, false)
		n += 2
		own, programs := 0, 0
		for _, r := range w.records(n)[n-2:] {
			switch {
			case r.str("reason") == "own_connection" && r.str("direction") == "local_out" && r.str("verdict") == "refused":
				own++
			case r.str("verdict") == "failed":
				programs++
			default:
				t.Errorf("record %v", r)
			}
		}
		if own != 1 || programs != 1 {
			t.Errorf("%d of sslgate's own, %d of programs", own, programs)
		}
	}
	if syns := w.syns.Count(); syns != 0 {
		t.Errorf("%d SYNs to destinations", syns)
	}
	nft("delete table inet other")
	w.says("without the rule", 0, 0, false, port, true)
}
