package config

import (
	"net/netip"
	"strings"

	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/fielderr"
	"github.com/sslgate/sslgate/policy"
)

// checkAdminHTTP: every user of the host can connect to the loopback, and
// flows name people, so there is no listener without a token.
func (f *File) checkAdminHTTP(a *Admin) {
	if a.HTTP != "" {
		ap, err := netip.ParseAddrPort(a.HTTP)
		f.check(err == nil && ap.Addr().IsLoopback() && !ap.Addr().Is4In6() && ap.Addr().Zone() == "" && ap.Port() != 0, "admin.http",
			"%s is no loopback address with a port, such as 127.0.0.1:9440 or [::1]:9440: off the host it would be open to all (admin.metrics serves /metrics there, with mutual TLS)", quote(a.HTTP))
		f.check(a.TokenFile != "", "admin.http", "needs admin.token_file, a file with one word of at least 16 bytes: `openssl rand -hex 32` makes one")
		return
	}
	f.check(a.TokenFile == "", "admin.token_file", "is for admin.http, which is not set")
}

// checkMetrics: what is off the loopback is open to nobody without a
// certificate.
func (f *File) checkMetrics(m *Metrics) {
	if m.Listen == "" {
		f.check(!f.has("admin.metrics"), "admin.metrics", "needs listen, an address with a port such as 0.0.0.0:9441")
		return
	}
	ap, err := netip.ParseAddrPort(m.Listen)
	f.check(err == nil && !ap.Addr().Is4In6() && ap.Addr().Zone() == "" && ap.Port() != 0, "admin.metrics.listen",
		"%s is no address with a port, such as 0.0.0.0:9441 or [::]:9441", quote(m.Listen))
	f.check(m.Listen != f.Config.Admin.HTTP, "admin.metrics.listen", "is the address of admin.http")
	f.check(m.Identity != "", "admin.metrics", "needs identity, the entry of identities whose certificate is shown")
	f.check(m.Client.Certificate == "" || m.Client.Certificate == "required", "admin.metrics.client.certificate",
		"is always required here, not %s: /metrics names rules, authorities and identities", quote(m.Client.Certificate))
	f.check(m.Client.OnRevoked == "", "admin.metrics.client.on_revoked", "is for flows; each scrape is judged anew")
}

// metricsRule is the name of the rule that admin.metrics makes.
const metricsRule = "admin.metrics"

// metrics compiles the terms of admin.metrics to a policy of one rule; nil
// where there is no such listener, or a mistake in it.
func (b *builder) metrics(env policy.Environment) *policy.Set {
	m := &b.file.Config.Admin.Metrics
	if m.Listen == "" {
		return nil
	}
	rule := policy.RuleSpec{
		Name: metricsRule, From: m.From, To: []string{"*:*"}, ALPN: []string{}, Identity: m.Identity, Profile: m.Profile,
		Client: m.Client, Destination: policy.DestinationSpec{TLS: "plain"},
	}
	set, errs := policy.Compile(policy.Spec{Rules: []policy.RuleSpec{rule}, Sets: b.file.Config.Policy.Sets}, env)
	var own []*fielderr.Error
	for _, e := range errs {
		path, ok := strings.CutPrefix(e.Path, "rules[0].")
		if !ok {
			continue // of sets: said where the rules are compiled
		}
		moved := *e
		moved.Path = path
		own = append(own, &moved)
	}
	b.located(own, "admin.metrics")
	return set
}

// minRotate keeps a small size from renaming files all the time.
const minRotate Size = 64 << 10

// checkAudit looks at the section audit without its file or sockets.
func (f *File) checkAudit(a *Audit) {
	_, err := audit.ParseOnFull(a.OnFull)
	f.check(err == nil, "audit.on_full", "wants %s, not %s", oneOf([]string{"refuse", "block", "drop"}), quote(a.OnFull))
	f.check(a.Queue >= 1 && a.Queue <= audit.MaxQueue, "audit.queue", "%d is out of range: 1 to %d", a.Queue, audit.MaxQueue)
	f.check(a.Rotate.Keep >= 1 && a.Rotate.Keep <= audit.MaxKeep, "audit.rotate.keep", "%d is out of range: 1 to %d", a.Rotate.Keep, audit.MaxKeep)
	f.check(a.Rotate.Size == 0 || a.Rotate.Size >= minRotate, "audit.rotate.size", "%s is less than %s", a.Rotate.Size, minRotate)
	f.check(a.File != "", "audit.file", `is empty: "-" is standard output`)
	f.check(!a.Journal || a.Syslog == "", "audit.syslog", "the records go to the journal already: choose one")
	f.check(!f.has("audit.file") || !a.Journal && a.Syslog == "", "audit.file", "the records go to the journal or syslog already: choose one")
	// The default is there for whatever the records go to.
	f.check(a.Rotate.Size == 0 || !f.has("audit.rotate.size") || a.File != "-" && !a.Journal && a.Syslog == "", "audit.rotate.size", "only a file can be rotated: name it in audit.file")
}
