package admin

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"

	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/fielderr"
	"github.com/sslgate/sslgate/internal/reason"
)

// Filter picks flows. The zero value picks all; every field that is set must match.
type Filter struct {
	Rule    string
	Client  netip.Prefix // the client's address lies in it
	Reason  reason.Code
	Verdict string // of finished flows: allowed, refused or failed
	Step    int    // reached; -1 or 0 is any
}

// ParseFilter reads the query parameters rule, client, reason, verdict and
// step.
func ParseFilter(q url.Values) (Filter, error) {
	f := Filter{Rule: q.Get("rule"), Reason: reason.Code(q.Get("reason")), Verdict: q.Get("verdict")}
	if s := q.Get("client"); s != "" {
		var err error
		if f.Client, err = parseClient(s); err != nil {
			return Filter{}, err
		}
	}
	if f.Reason != "" {
		if _, ok := reason.Lookup(f.Reason); !ok {
			return Filter{}, fmt.Errorf("%q is no reason code%s: `sslgate reason` lists them", f.Reason, suggestReason(f.Reason))
		}
	}
	switch f.Verdict {
	case "", "allowed", "refused", "failed":
	default:
		return Filter{}, fmt.Errorf("verdict is allowed, refused or failed, not %q", f.Verdict)
	}
	if s := q.Get("step"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 9 {
			return Filter{}, fmt.Errorf("step is 1 to 9, not %q", s)
		}
		f.Step = n
	}
	return f, nil
}

// suggestReason returns " (did you mean ...?)" if a reason is similar.
func suggestReason(c reason.Code) string {
	var all []string
	for _, e := range reason.Sorted() {
		all = append(all, string(e.Code))
	}
	return fielderr.Suggest(string(c), all)
}

func parseClient(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		a = a.Unmap().WithZone("")
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("client is an address or a network such as 192.0.2.0/24, not %q", s)
	}
	return p.Masked(), nil
}

// Query is the filter as query parameters.
func (f Filter) Query() url.Values {
	q := url.Values{}
	set := func(k, v string) {
		if v != "" {
			q.Set(k, v)
		}
	}
	set("rule", f.Rule)
	set("reason", string(f.Reason))
	set("verdict", f.Verdict)
	if f.Client.IsValid() {
		q.Set("client", f.Client.String())
	}
	if f.Step > 0 {
		q.Set("step", strconv.Itoa(f.Step))
	}
	return q
}

// Finished says whether a finished flow passes. Reason also matches how the flow ended.
func (f *Filter) Finished(r *audit.Record) bool {
	return (f.Rule == "" || f.Rule == r.Rule) &&
		(!f.Client.IsValid() || f.Client.Contains(r.Client.Addr().Unmap())) &&
		(f.Reason == "" || f.Reason == r.Reason || f.Reason == r.End) &&
		(f.Verdict == "" || f.Verdict == r.Verdict()) &&
		(f.Step <= 0 || f.Step == int(r.Step))
}

// Live says whether a live flow passes; it has no verdict yet.
func (f *Filter) Live(l *Flow) bool {
	if f.Rule != "" && f.Rule != l.Rule || f.Reason != "" && string(f.Reason) != l.Reason || f.Step > 0 && f.Step != l.Step {
		return false
	}
	if !f.Client.IsValid() {
		return true
	}
	a, err := netip.ParseAddrPort(l.Client)
	return err == nil && f.Client.Contains(a.Addr().Unmap())
}
