package policy

import (
	"sync/atomic"

	"github.com/sslgate/sslgate/handshake"
)

// Trust is the certificates of some authorities as their sources had them at one moment.
// It never changes. Two that are the same pointer are of the same certificates.
type Trust struct{ list []*handshake.Authority }

// trust gives the Trust of the moment.
type trust struct {
	names   []string // of sources
	sources []handshake.AuthoritySource
	now     atomic.Pointer[Trust]
}

func newTrust(list []authority) *trust {
	t := &trust{}
	for _, a := range list {
		t.names, t.sources = append(t.names, a.Name), append(t.sources, a.source)
	}
	t.now.Store(&Trust{handshakeAuthorities(list)})
	return t
}

// current asks the sources. It allocates only where one of them has changed.
func (t *trust) current() *Trust {
	if t == nil {
		return nil
	}
	for {
		known, same := t.now.Load(), true
		for i := range t.sources {
			same = same && t.of(i) == known.list[i]
		}
		if same {
			return known
		}
		next := &Trust{make([]*handshake.Authority, len(t.sources))}
		for i := range t.sources {
			next.list[i] = t.of(i)
		}
		if t.now.CompareAndSwap(known, next) {
			return next
		}
	}
}

// nobody is used where a source returns an authority of another name. Otherwise the permits
// of that other name would apply.
var nobody = &handshake.Authority{}

func (t *trust) of(i int) *handshake.Authority {
	if a := t.sources[i].Current(); a != nil && a.Name == t.names[i] {
		return a
	}
	return nobody
}

// authorities are those of a list that may be nil.
func (t *Trust) authorities() []*handshake.Authority {
	if t == nil {
		return nil
	}
	return t.list
}

// Trust is that of all authorities that the rules name. A flow that was judged under
// another one is judged anew.
func (s *Set) Trust() *Trust {
	if s == nil {
		return nil
	}
	return s.trust.current()
}

// ClientParams are a copy of Client with the certificates that the authorities have now.
// Client must be set.
func (p *Plan) ClientParams() *handshake.ServerParams {
	params := *p.Client
	if p.rule != nil {
		params.Authorities = p.rule.trusted.current().authorities()
	}
	return &params
}
