package stack_test
import ("testing";"fmt";"encoding/binary";"time";"sync";"strings";"github.com/sslgate/sslgate/stack")
func TestZZ(t *testing.T) {
	const flows, workers = 2000, 50
	l := newLab(t, 1500, true, stack.Config{Handler: &handler{handle: echo}, TimeWait: 100 * time.Millisecond})
	var mu sync.Mutex
	tr := map[uint16][]string{}
	t0 := time.Now()
	rec := func(in bool) func([]byte) bool { return func(pkt []byte) bool {
		ip := pkt[10:]; h := 20; if ip[0]>>4 == 6 { h = 40 }
		tcp := ip[h:]
		p := binary.BigEndian.Uint16(tcp); d := "C>S"
		if !in { p = binary.BigEndian.Uint16(tcp[2:]); d = "S>C" }
		s := fmt.Sprintf("%8.3f v%d %s fl=%02x seq=%d ack=%d len=%d", time.Since(t0).Seconds()*1000, ip[0]>>4, d, tcp[13], binary.BigEndian.Uint32(tcp[4:]), binary.BigEndian.Uint32(tcp[8:]), len(tcp)-int(tcp[12]>>4)*4)
		mu.Lock(); tr[p] = append(tr[p], s); mu.Unlock()
		return true
	}}
	l.near.SetFilter(rec(false)); l.far.SetFilter(rec(true))
	var wg sync.WaitGroup
	for w := range workers { wg.Go(func() {
		for i := range flows / workers {
			dst := server4
			if i%2 == 1 { dst = server6 }
			c, err := l.tryDial(dst, patience)
			if err != nil { t.Error(err); return }
			if i%10 == 9 { c.Reset(); continue }
			if err := roundTrip(c, 64, uint64(w)); err != nil {
				var p int
				a := c.LocalAddr().String(); fmt.Sscan(a[strings.LastIndex(a, ":")+1:], &p)
				time.Sleep(100*time.Millisecond)
				mu.Lock(); t.Errorf("%v %s\n%s", err, a, strings.Join(tr[uint16(p)], "\n")); mu.Unlock()
			}
			_ = c.Close()
		}
	})}
	wg.Wait()
	t.Logf("dropped %d %d", l.near.Dropped(), l.far.Dropped())
	l.eventually("all flows ended", func() bool { st := l.stack.Stats(); return st.FlowsLive == 0 && st.FlowsLingering == 0 })
}
