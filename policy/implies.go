package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/fielderr"
)

// This file finds what one rule demands of clients and another does not: the
// client that the one refuses comes in by the other, if it can choose.

// beyond names the field of o by which it may refuse a client that r lets in,
// "" where it is plain that it refuses none. Of conditions nothing is plain but
// that they are the same text; of what depends on the hello not even that, for
// the two rules see different ones. Both are taken as if they were enforced.
func (r *rule) beyond(o *rule) string {
	switch {
	case r.action == Deny:
		return ""
	case o.action == Deny:
		return "action"
	case r.plan.Source != o.plan.Source:
		return "destination.source" // the destination may ask who it is by the address
	case !o.coversSources(r):
		return "from"
	case !o.window.covers(r.window):
		return "time"
	case o.action != Terminate:
		return "" // it asks clients for nothing
	case r.action != Terminate:
		return "action"
	}
	if field := r.beyondCertificate(o); field != "" {
		return field
	}
	switch {
	case o.when != nil && (r.when == nil || r.when.text != o.when.text || r.auth != o.auth || o.when.byHello()):
		return "client.when"
	case !r.plan.Client.Profile.Within(&o.plan.Client.Profile):
		return "profile"
	case o.auth != handshake.ClientAuthNone && r.onRevoked == keepRevoked && o.onRevoked != keepRevoked:
		return "client.on_revoked"
	}
	return ""
}

// beyondCertificate compares what the certificate must be. Where an absent one
// will do, and no condition can tell, every client can come without.
func (r *rule) beyondCertificate(o *rule) string {
	required := o.auth != handshake.ClientAuthOptional && o.auth != handshake.ClientAuthNone
	switch {
	case o.auth == handshake.ClientAuthNone, !required && o.when == nil:
		return ""
	case required && (r.auth == handshake.ClientAuthOptional || r.auth == handshake.ClientAuthNone):
		return "client.certificate"
	}
	for _, a := range r.authorities {
		if !slices.ContainsFunc(o.authorities, func(b authority) bool { return a.Name == b.Name }) {
			return "client.authorities"
		}
	}
	if len(o.allow) == 0 || r.allowText == o.allowText {
		return ""
	}
	if len(r.allow) == 0 || len(r.allow)*len(o.allow) > maxCompared {
		return "client.allow"
	}
	for i := range r.allow {
		if !slices.ContainsFunc(o.allow, func(b alternative) bool { return r.allow[i].implies(&b) }) {
			return "client.allow"
		}
	}
	return ""
}

// byHello says whether the condition speaks of what the client's hello says.
func (w *condition) byHello() bool {
	return slices.ContainsFunc(w.names, func(name string) bool { return name == "sni" || name == "alpn" || name == "tls.alpn" })
}

// implies says whether it is plain that what meets a meets b.
func (a *alternative) implies(b *alternative) bool {
	for i := range b.demands {
		if !slices.ContainsFunc(a.demands, func(d demand) bool { return d.implies(&b.demands[i]) }) {
			return false
		}
	}
	return true
}

func (d *demand) implies(o *demand) bool {
	switch {
	case d.field != o.field:
		return false
	case d.canonical == o.canonical:
		return true
	case d.least != 0 || o.least != 0:
		return d.least >= o.least
	case d.most != 0 || o.most != 0:
		return d.most <= o.most
	}
	return len(d.entries) > 0 && !slices.ContainsFunc(d.entries, func(s string) bool {
		_, found := slices.BinarySearch(o.entries, s)
		return !found
	})
}

// sameService reads the list of every rule, once all names are known.
func (c *compiler) sameService(spec []RuleSpec) {
	names := make([]string, 0, len(spec))
	for i := range spec {
		names = append(names, spec[i].Name)
	}
	for i, r := range c.set.rules {
		list := spec[i].SameService
		if list == nil {
			continue
		}
		at := newScope(&c.list, fmt.Sprintf("rules[%d]", i))
		r.accepted = map[string]bool{}
		switch {
		case len(list) == 0:
			at.errorf("same_service", "the list is empty; it names rules whose demands this one's clients may get around, or is left out")
		case r.action == Deny:
			at.errorf("same_service", "with action deny nobody gets anywhere by this rule; it is for rules that let through")
		}
		for k, name := range list {
			field := fmt.Sprintf("same_service[%d]", k)
			switch {
			case name == r.name:
				at.errorf(field, "the rule names itself; it names other rules that lead to the same destination")
			case !c.names[name]:
				at.errorf(field, "there is no rule %q%s", name, fielderr.Suggest(name, names))
			case r.accepted[name]:
				at.warnf(field, "%q stands in the list twice", name)
			}
			r.accepted[name] = true
		}
	}
}

// other is a rule that is got around, with the field that it is got around by.
type other struct {
	index int
	name  string
	field string
}

func namesOf(list []other) []string {
	out := make([]string, len(list))
	for i, o := range list {
		out[i] = o.name
	}
	return out
}

// maxNamed bounds the rules that one finding names.
const maxNamed = 3

// placesOf are the paths of the first rules of a list.
func placesOf(list []other) []string {
	var out []string
	for _, o := range list[:min(maxNamed, len(list))] {
		out = append(out, fmt.Sprintf("rules[%d]", o.index))
	}
	return out
}

// fieldsOf lists the fields by which rules are got around, each once.
func fieldsOf(list []other) string {
	var out []string
	for _, o := range list {
		if !slices.Contains(out, o.field) {
			out = append(out, o.field)
		}
	}
	return strings.Join(out, ", ")
}

// acceptHint is what to type where it is meant.
func acceptHint(list []other) string {
	names := namesOf(list[:min(maxNamed, len(list))])
	if len(list) > maxNamed {
		names = append(names, "...")
	}
	return fmt.Sprintf("give them the same demands or addresses of their own, or write same_service: [%s] in this rule if it is meant", strings.Join(names, ", "))
}

// noHeader reports rules that send no PROXY header to where another rule sends
// one. What a client of theirs writes first is taken for the gateway's word
// there: it can be anybody. It does not matter who chooses between the rules.
func (c *compiler) noHeader() {
	if !slices.ContainsFunc(c.set.rules, func(r *rule) bool { return r.plan.ProxyV2 }) {
		return
	}
	s := c.search("rules without a PROXY header")
	defer s.done()
	tell := c.those(func(i int, r *rule) bool { return r.plan.ProxyV2 && c.whole[i].selectors && c.whole[i].demands })
	for i, bare := range c.set.rules {
		if s.over() {
			return
		}
		if !c.whole[i].selectors || !c.whole[i].demands || bare.action == Deny || bare.plan.ProxyV2 {
			continue
		}
		var forged []other
		v := c.meeting(bare)
		v.only(tell)
		for j := range v.all() {
			told := c.set.rules[j]
			if len(forged) >= maxAround || !s.compare(bare.dialledPairs(told)) {
				break
			}
			if bare.accepted[told.name] {
				continue
			}
			if bare.dialsWhat(told) && !c.takesAllShared(min(i, j), max(i, j)) {
				forged = append(forged, other{j, told.name, "destination.proxy_protocol"})
			}
		}
		if len(forged) > 0 {
			c.list.WarnAlso(fmt.Sprintf("rules[%d]", i), placesOf(forged),
				"rule %q sends no PROXY header to a destination that %s sends one: a client of %q can write such a header itself, and say in it that it is somebody else; add proxy_protocol: v2, or %s",
				bare.name, rulesOf(namesOf(forged)), bare.name, acceptHint(forged))
		}
	}
}

// dialledPairs is pairs, for dialsWhat.
func (r *rule) dialledPairs(o *rule) int {
	if r.plan.Port == 0 && o.plan.Port == 0 {
		return r.pairs(o)
	}
	return r.to.len() * o.to.len()
}

// dialsWhat says whether both rules may dial the same address and port, whatever the client
// dials (destination.to_port).
func (r *rule) dialsWhat(o *rule) bool {
	if r.plan.Port == 0 && o.plan.Port == 0 {
		return r.destinationsMeet(o, true) || r.destinationsMeet(o, false)
	}
	for e := range r.to.all() {
		for f := range o.to.all() {
			if r.dialled(e).overlaps(o.dialled(f)) {
				return true
			}
		}
	}
	return false
}

// dialled is what the rule dials for a destination of its list.
func (r *rule) dialled(e endpoint) endpoint {
	if r.plan.Port != 0 {
		e.port = r.plan.Port
	}
	return e
}

// takesAllShared says whether the earlier of two rules takes every flow to what
// both lead to, so that the later one leads nowhere there. Where a rule dials another port
// than the client, other flows lead there.
func (c *compiler) takesAllShared(first, second int) bool {
	a, b := c.set.rules[first], c.set.rules[second]
	return a.plan.Port == 0 && b.plan.Port == 0 && !a.needsHello() && a.window == nil && a.coversSources(b)
}
