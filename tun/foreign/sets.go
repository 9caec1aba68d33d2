package foreign

import (
	"encoding/binary"
	"errors"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/tun/nftname"
)

// rulesOf returns the rules of a chain; each chain is read once.
func (l *look) rulesOf(t *nftables.Table, chain string) ([]rule, error) {
	key := nftname.Family(t.Family) + " " + t.Name + " " + chain
	if rules, ok := l.known[key]; ok {
		return rules, nil
	}
	rules, err := l.Reader.rules.read(t, chain, l.most-l.read)
	if err != nil {
		l.short = l.short || errors.Is(err, errTooMany)
		return nil, err
	}
	l.read += len(rules)
	l.known[key] = rules
	return rules, nil
}

// setOf reads an anonymous set. Its content is not known if it has intervals or
// concatenations, or cannot be read.
func (l *look) setOf(t *nftables.Table, name string) *setContent {
	key := nftname.Family(t.Family) + " " + t.Name + " " + name
	if s, ok := l.sets[key]; ok {
		return s
	}
	s := &setContent{elements: map[string]*expr.Verdict{}}
	l.sets[key] = s
	set, err := l.conn.GetSetByName(t, name)
	if err != nil || set.Interval || set.Concatenation || !strings.HasPrefix(name, "__") {
		return s // a set that cannot be read is not known
	}
	elems, err := l.conn.GetSetElements(set)
	if err != nil {
		return s
	}
	for _, e := range elems {
		if e.IntervalEnd || len(e.KeyEnd) > 0 || s.length != 0 && s.length != len(e.Key) {
			return s
		}
		s.length = len(e.Key)
		s.elements[string(e.Key)] = verdictOf(&e)
	}
	s.known = true
	return s
}

// verdictOf reads the verdict of an element of a map. The library does not decode it
// (NFTA_VERDICT_CODE and NFTA_VERDICT_CHAIN of linux/netfilter/nf_tables.h).
func verdictOf(e *nftables.SetElement) *expr.Verdict {
	if e.VerdictData != nil {
		return e.VerdictData
	}
	ad, err := netlink.NewAttributeDecoder(e.Val)
	if err != nil || len(e.Val) == 0 {
		return nil
	}
	ad.ByteOrder = binary.BigEndian
	var v *expr.Verdict
	chain := ""
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_VERDICT_CODE:
			v = &expr.Verdict{Kind: expr.VerdictKind(int32(ad.Uint32()))}
		case unix.NFTA_VERDICT_CHAIN:
			chain = ad.String()
		}
	}
	if ad.Err() != nil || v == nil {
		return nil
	}
	v.Chain = chain
	return v
}
