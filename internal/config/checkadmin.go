package config

import "net/netip"

// checkAdminHTTP: every user of the host can connect to the loopback, and
// flows name people, so there is no listener without a token.
func (f *File) checkAdminHTTP(a *Admin) {
	if a.HTTP != "" {
		ap, err := netip.ParseAddrPort(a.HTTP)
		f.check(err == nil && ap.Addr().IsLoopback() && !ap.Addr().Is4In6() && ap.Addr().Zone() == "" && ap.Port() != 0, "admin.http",
			"%s is no loopback address with a port, such as 127.0.0.1:9440 or [::1]:9440: off the host it would be open to all", quote(a.HTTP))
		f.check(a.TokenFile != "", "admin.http", "needs admin.token_file, a file with one word of at least 16 bytes: `openssl rand -hex 32` makes one")
		return
	}
	f.check(a.TokenFile == "", "admin.token_file", "is for admin.http, which is not set")
}
