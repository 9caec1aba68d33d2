package sender

import "time"

// model is what a flow knows of its path, after BBR (draft-cardwell-iccrg-bbr-congestion-
// control-00): the rate of the bottleneck is the greatest at which data was delivered, the
// travel time the least that was seen. As much is sent as both allow. A loss alone does
// not make it less: on many paths losses are no sign of a full queue.
type model struct {
	mode  mode
	rates [2]rate // the greatest of this window of rounds and of the one before
	full  int64   // the rate that startup compares with, in bytes a second
	flat  int     // rounds without growth

	round     uint64 // round trips so far
	roundEnd  uint64 // the round ends when what was sent with this much delivered is acknowledged
	newRound  bool
	phase     int // of gains
	phaseFrom time.Duration

	least     time.Duration // round trip; 0: not known
	leastAt   time.Duration
	probeEnd  time.Duration // of probing the round trip
	window    int           // bytes that may be under way
	lossRound int           // bytes lost in this round
	sentRound int           // bytes delivered in this round
	lossy     bool          // the last round lost much
}

// rate is the greatest of some rounds, in bytes a second.
type rate struct {
	most int64
	from uint64 // the first of the rounds
	at   time.Duration
}

type mode uint8

const (
	startup mode = iota
	drain
	cruise
	probeRTT
)

const (
	rateRounds   = 10 // that a rate counts for, at least
	rateLife     = time.Second
	startupGain  = 277
	drainGain    = 36
	windowGain   = 200
	flatRounds   = 3
	leastLife    = 10 * time.Second
	probeTime    = 200 * time.Millisecond
	firstWindow  = 10 // segments (RFC 6928)
	leastWindow  = 4  // segments
	aggregate    = 3 * wholePacket
	lossyPercent = 20
	// roomPercent of what the path holds is the room that a flow can use: what is under
	// way, and as much again behind a hole until that is sent again. Netstack wakes who
	// writes once half of it is empty, and in startup the rate doubles in a round trip.
	roomPercent = 800
	// lossySegments are lost in a round that ends startup, at least: in the first rounds,
	// of ten segments, two losses say nothing of a full queue.
	lossySegments = 8
	// wholePacket is about the largest packet that netstack makes, in bytes.
	wholePacket = 64 << 10
)

// gains are the pacing gains of cruise in percent: one round in eight asks for more, and
// the next gives the queue of it back.
var gains = [...]int64{125, 75, 100, 100, 100, 100, 100, 100}

// sample is what one acknowledgement says about the path.
type sample struct {
	now       time.Duration
	delivered uint64        // bytes of the flow so far
	prior     uint64        // the same when what is acknowledged now was sent; the newest
	interval  time.Duration // in which delivered-prior were delivered; 0: not known
	rtt       time.Duration // 0: not known
	acked     int           // bytes
	lost      int           // bytes found to be lost
	limited   bool          // the application sent less than the path carries
	flight    int           // bytes under way
	mss       int
}

// rate is the rate of the bottleneck in bytes a second; 0: not known.
func (m *model) rate() int64 { return max(m.rates[0].most, m.rates[1].most) }

// take learns from an acknowledgement.
func (m *model) take(s sample) {
	m.takeRTT(s)
	m.newRound = false
	if s.acked > 0 && s.prior >= m.roundEnd {
		m.roundEnd, m.newRound = s.delivered, true
		m.round++
		m.lossy = m.lossRound*100 > lossyPercent*(m.sentRound+m.lossRound) && m.lossRound >= lossySegments*s.mss
		m.lossRound, m.sentRound = 0, 0
	}
	m.lossRound += s.lost
	m.sentRound += s.acked
	m.takeRate(s)
	m.step(s)
	m.grow(s)
}

func (m *model) takeRTT(s sample) {
	if s.rtt <= 0 {
		return
	}
	if m.least == 0 || s.rtt <= m.least {
		m.least, m.leastAt = s.rtt, s.now
		return
	}
	if s.now-m.leastAt <= leastLife {
		return
	}
	switch {
	case m.mode == probeRTT || m.mode == startup:
	case m.pacing():
		m.mode, m.probeEnd = probeRTT, s.now+max(probeTime, m.least)
		m.least = s.rtt
		m.leastAt = s.now
	default: // a short path needs no pause for this
		m.least, m.leastAt = s.rtt, s.now
	}
}

func (m *model) takeRate(s sample) {
	if s.interval <= 0 || s.interval < m.least || s.delivered <= s.prior {
		return
	}
	r := int64(float64(s.delivered-s.prior) / s.interval.Seconds())
	if s.limited && r <= m.rate() {
		return
	}
	if m.round-m.rates[0].from >= rateRounds/2 && s.now-m.rates[0].at >= rateLife/2 {
		m.rates[1], m.rates[0] = m.rates[0], rate{from: m.round, at: s.now}
	}
	m.rates[0].most = max(m.rates[0].most, r)
}

// step goes from one mode to the next.
func (m *model) step(s sample) {
	switch m.mode {
	case startup:
		if !m.newRound || s.limited {
			return
		}
		if m.rate() >= m.full*5/4 && !m.lossy {
			m.full, m.flat = m.rate(), 0
			return
		}
		if m.flat++; m.flat >= flatRounds || m.lossy {
			m.mode = drain
		}
	case drain:
		if s.flight <= m.product(100) {
			m.cruise(s.now)
		}
	case cruise:
		if m.newRound && !s.limited && m.full > 0 && m.rate() >= m.full*5/4 && !m.lossy {
			// Startup ended too early, or the path carries more than before: it takes eight
			// rounds to find a quarter more by gains alone.
			m.mode, m.full, m.flat = startup, m.rate(), 0
			return
		}
		gain := gains[m.phase]
		past := s.now-m.phaseFrom > m.least
		if past && (gain <= 100 || s.lost > 0 || s.flight >= m.product(gain)) || gain < 100 && s.flight <= m.product(100) {
			m.phase, m.phaseFrom = (m.phase+1)%len(gains), s.now
		}
	case probeRTT:
		if s.now >= m.probeEnd {
			m.leastAt = s.now
			m.cruise(s.now)
		}
	}
}

// cruise begins with a phase that asks for no more.
func (m *model) cruise(now time.Duration) { m.mode, m.phase, m.phaseFrom = cruise, 2, now }

// grow sets how many bytes may be under way.
func (m *model) grow(s sample) {
	m.window += s.acked
	if m.mode == startup && (m.rate() == 0 || m.flat == 0) {
		return
	}
	gain := int64(windowGain)
	switch {
	case m.mode == probeRTT:
		gain = 50
	case m.mode == startup:
		gain = startupGain
	}
	m.window = max(min(m.window, m.product(gain)+aggregate), leastWindow*s.mss)
}

// product is percent of the rate times the round trip, in bytes: what the path holds.
func (m *model) product(percent int64) int {
	return int(float64(m.rate()) * m.least.Seconds() * float64(percent) / 100)
}

// pace is the rate at which to send now, in bytes a second; 0: at once.
func (m *model) pace() int64 {
	if m.least == 0 {
		return 0
	}
	r := m.rate()
	switch m.mode {
	case startup:
		// A flow that has had little to send must not be slow for it.
		return max(r, int64(float64(m.window)/m.least.Seconds())) * startupGain / 100
	case drain:
		return r * drainGain / 100
	case probeRTT:
		return r
	case cruise:
	}
	return r * gains[m.phase] / 100
}

// pacing says whether the path is long enough for pauses between packets: a timer is not
// more exact than some 100 µs.
func (m *model) pacing() bool { return m.least >= time.Millisecond }

// restart is for a flow that has heard nothing for a whole timeout.
func (m *model) restart(mss int) { m.window = leastWindow * mss }
