package admin

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// ReadyKind says what would help against a reason why a gateway is not ready.
type ReadyKind string

// The kinds. Routers that move the clients to another host help against the first two. Whether
// they help an identity depends on where it comes from: each host may renew its own certificates
// and have its own signer, or all may have the same. The other host has what is shared too. And
// load that is moved is load there: all that it takes from here is the live flows.
const (
	ReadyStop     ReadyKind = "stop"     // it was told to stop, or another process of this host has its place
	ReadyOwn      ReadyKind = "own"      // a fault of this host: its interfaces, forwarding, firewall or disk
	ReadyIdentity ReadyKind = "identity" // handshakes of an identity fail: its certificate has ended, its signer does not sign
	ReadyShared   ReadyKind = "shared"   // whoever has the same files has it: a list that is gone
	ReadyLoad     ReadyKind = "load"     // as many flows as limits.flows allows
)

// ReadyKinds are all of them.
func ReadyKinds() []ReadyKind {
	return []ReadyKind{ReadyStop, ReadyOwn, ReadyIdentity, ReadyShared, ReadyLoad}
}

// Cause is a reason why a gateway is not ready.
type Cause struct {
	Kind ReadyKind `json:"kind"`
	Text string    `json:"text"`
}

// Of is the readiness where only causes of these kinds count. The others are warnings then.
func (r Readiness) Of(kinds []ReadyKind) Readiness {
	if !r.Ready && len(r.Causes) == 0 { // of a version that knows no kinds
		return r
	}
	r.Causes = slices.DeleteFunc(slices.Clone(r.Causes), func(c Cause) bool { return !slices.Contains(kinds, c.Kind) })
	r.Ready = len(r.Causes) == 0
	return r
}

// ParseReadyKinds reads kinds with commas between them; all of them where text is empty.
func ParseReadyKinds(text string) ([]ReadyKind, error) {
	if text == "" {
		return ReadyKinds(), nil
	}
	var all []ReadyKind
	for word := range strings.SplitSeq(text, ",") {
		k := ReadyKind(strings.TrimSpace(word))
		if !slices.Contains(ReadyKinds(), k) {
			return nil, fmt.Errorf("%q is no kind of reasons: they are stop, own, identity, shared and load", word)
		}
		all = append(all, k)
	}
	return all, nil
}

// readyPath is GET /v1/ready for these kinds; none means all.
func readyPath(kinds []ReadyKind) string {
	if len(kinds) == 0 {
		return "/v1/ready"
	}
	words := make([]string, len(kinds))
	for i, k := range kinds {
		words[i] = string(k)
	}
	return "/v1/ready?" + url.Values{"kinds": {strings.Join(words, ",")}}.Encode()
}

func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	kinds, err := ParseReadyKinds(strings.Join(r.URL.Query()["kinds"], ","))
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	ready := s.opt.Backend.Readiness().Of(kinds)
	if ready.Reasons == nil {
		ready.Reasons = []string{}
	}
	if ready.Causes == nil {
		ready.Causes = []Cause{}
	}
	code := http.StatusOK
	if !ready.Ready {
		code = http.StatusServiceUnavailable
	}
	answer(w, code, ready)
}
