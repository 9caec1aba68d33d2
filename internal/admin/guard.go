package admin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
)

// guard protects the loopback listener. Any user and any web page on the host can send
// requests to it, so:
//
//   - Host must name the listener itself: another name comes from a foreign page whose DNS
//     answer was changed to the loopback (DNS rebinding);
//   - Origin and Sec-Fetch-Site, if a browser sends them, must be our own;
//   - everything but the page's files, health, readiness, version and metrics needs the
//     token, in the header Authorization: a browser never adds that by itself, as it does
//     with a cookie.
type guard struct {
	hosts map[string]bool
	token *atomic.Pointer[validToken]
	next  http.Handler
	open  func(*http.Request) bool // needs no token
}

// validToken is the current token. gone ends when another token replaces it; that also ends
// every answer in progress to a holder of the old one.
type validToken struct {
	sum  Token
	gone context.Context
	end  context.CancelFunc
}

// SetToken replaces the token that ListenHTTP was given. The same token changes nothing.
func (s *Server) SetToken(token *Token) {
	now := &validToken{sum: *token}
	old := s.token.Load()
	if old != nil && old.sum == now.sum {
		return
	}
	now.gone, now.end = context.WithCancel(s.ending)
	s.token.Store(now)
	if old != nil {
		old.end()
	}
}

// Token is a hashed token: the token itself stands in no memory, and a comparison takes
// the same time for any length.
type Token [sha256.Size]byte

func hashToken(token []byte) Token { return sha256.Sum256(token) }

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch origin := r.Header.Get("Origin"); {
	case !g.hosts[strings.ToLower(r.Host)]:
		fail(w, http.StatusMisdirectedRequest, "the header Host names somebody else")
		return
	case origin != "" && !g.hosts[strings.TrimPrefix(strings.ToLower(origin), "http://")]:
		fail(w, http.StatusForbidden, "requests of other web pages are not answered")
		return
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none": // none: the user typed the address
	default:
		fail(w, http.StatusForbidden, "requests of other web pages are not answered")
		return
	}
	if g.open(r) {
		g.next.ServeHTTP(w, r)
		return
	}
	token := g.token.Load()
	if !token.sum.of(r) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="sslgate"`)
		fail(w, http.StatusUnauthorized, "this needs the token of admin.token_file, as Authorization: Bearer TOKEN")
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(token.gone, cancel)()
	g.next.ServeHTTP(w, r.WithContext(ctx))
}

// of says whether a request has the token.
func (t *Token) of(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	sum := hashToken([]byte(token))
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(sum[:], t[:]) == 1
}

// hostsOf lists the names by which a browser on this host may address the listener.
func hostsOf(a netip.AddrPort) map[string]bool {
	hosts := map[string]bool{}
	names := []string{a.Addr().String(), "localhost"}
	for _, n := range names {
		hosts[net.JoinHostPort(n, fmt.Sprint(a.Port()))] = true
		if a.Port() == 80 {
			hosts[n] = true
		}
	}
	return hosts
}

// minToken is the shortest length of a token, in bytes: 16 hexadecimal digits are 64 bits,
// more than anyone can try over HTTP.
const minToken = 16

// ParseToken takes the token from the text of its file, which nobody but its owner
// and group may read: one line. Errors name path. The text is not kept.
func ParseToken(path string, mode fs.FileMode, text []byte) (*Token, error) {
	if mode.Perm()&0o027 != 0 {
		return nil, fmt.Errorf("%s has mode %04o, others may read or change it: chmod 0640 %s", path, mode.Perm(), path)
	}
	word := bytes.TrimSpace(text)
	if len(word) < minToken || bytes.ContainsAny(word, " \t\r\n") {
		return nil, fmt.Errorf("%s must hold one word of at least %d bytes; `openssl rand -hex 32` makes one", path, minToken)
	}
	// RFC 9110, section 5.5, and RFC 6750, section 2.1: other characters cannot stand in the
	// header. No request would match, and nobody would see why.
	if i := bytes.IndexFunc(word, func(r rune) bool { return r <= ' ' || r >= 0x7f }); i >= 0 {
		return nil, fmt.Errorf("%s has a character at byte %d that is no printable ASCII%s: no request can have it; `openssl rand -hex 32` makes one", path, i+1, markOf(text))
	}
	token := hashToken(word)
	return &token, nil
}

// markOf says so if a file begins with a byte order mark, which some editors add.
func markOf(b []byte) string {
	for mark, name := range map[string]string{"\xef\xbb\xbf": "UTF-8", "\xff\xfe": "UTF-16", "\xfe\xff": "UTF-16"} {
		if bytes.HasPrefix(b, []byte(mark)) {
			return " (the byte order mark of " + name + ")"
		}
	}
	return ""
}

var errNotLoopback = errors.New("admin.http listens on loopback addresses only, such as 127.0.0.1:9440")

// ParseLoopback reads the address of the HTTP listener.
func ParseLoopback(s string) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(s)
	if err != nil || !a.Addr().IsLoopback() || a.Addr().Is4In6() || a.Addr().Zone() != "" {
		return netip.AddrPort{}, errNotLoopback
	}
	return a, nil
}
