package e2e

import (
	"bytes"
	"cmp"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// postgresServer is a PostgreSQL server in the server's namespace, with a data directory of
// its own. It takes connections with TLS and without, at all addresses, port 8443.
type postgresServer struct {
	w   *world
	dir string
	bin string
}

// newPostgres starts it with the certificate "db", and waits until it answers. Everybody is let in as "open", and by a
// password, SCRAM, as "scram".
func newPostgres(w *world) {
	w.t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(found) == 0 {
		testenv.Missing(w.t, "needs a PostgreSQL server: run scripts/test, it installs what the tests need")
	}
	testenv.Tool(w.t, "psql")
	testenv.Tool(w.t, "setpriv")
	as, err := user.Lookup("postgres") // the server refuses to run as root
	if err != nil {
		testenv.Missing(w.t, "needs the user postgres: %v", err)
	}
	if out, err := exec.Command("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "true").CombinedOutput(); err != nil {
		testenv.Missing(w.t, "cannot run a server as the user postgres: %v: %s", err, out)
	}
	dir, err := os.MkdirTemp("/tmp", "sslgate-postgres") // TMPDIR may be closed to other users
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &postgresServer{w: w, dir: dir, bin: filepath.Dir(slices.MaxFunc(found, byVersion))}
	for name, from := range map[string]string{"server.pem": "db.pem", "server.key": "db.key", "ca.pem": "ca.pem"} {
		text, err := os.ReadFile(filepath.Join(w.dir, from))
		if err != nil {
			w.t.Fatal(err)
		}
		p.file(name, text)
	}
	p.own(as)
	if out, err := exec.Command("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "test", "-x", dir).CombinedOutput(); err != nil {
		w.t.Fatalf("the user postgres does not come to %s: %v: %s", dir, err, out)
	}
	p.run("initdb", "-D", filepath.Join(dir, "data"), "-U", "open", "-A", "trust", "--no-sync", "-N", "--no-locale", "-E", "UTF8")
	p.file("data/pg_hba.conf", []byte("host all scram all scram-sha-256\nhost all all all trust\n"))
	p.own(as)
	cmd := p.command(lab.Server, "postgres", "-D", filepath.Join(dir, "data"), "-p", "8443", "-k", "",
		"-c", "listen_addresses=*", "-c", "ssl=on", "-c", "ssl_cert_file="+filepath.Join(dir, "server.pem"), "-c", "ssl_key_file="+filepath.Join(dir, "server.key"),
		"-c", "ssl_ca_file="+filepath.Join(dir, "ca.pem"), "-c", "fsync=off", "-c", "shared_buffers=4MB", "-c", "max_connections=20")
	said := newLogBuffer()
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT) // a fast shutdown; it may have ended
		testenv.Receive(w.t, "the end of the server", cmd.Done())
		if w.t.Failed() {
			w.t.Logf("postgres said:\n%s", said.String())
		}
	})
	if !said.wait("ready to accept connections", cmd.Done()) {
		w.t.Fatalf("postgres did not become ready:\n%s", said.String())
	}
}

// byVersion compares programs in directories of versions: 9.6 is before 17.
func byVersion(a, b string) int {
	version := func(path string) float64 {
		n, _ := strconv.ParseFloat(filepath.Base(filepath.Dir(filepath.Dir(path))), 64) // 0 for another name
		return n
	}
	return cmp.Compare(version(a), version(b))
}

func (p *postgresServer) file(name string, text []byte) {
	p.w.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), text, 0o600); err != nil {
		p.w.t.Fatal(err)
	}
}

// own gives everything to the user of the server.
func (p *postgresServer) own(as *user.User) {
	p.w.t.Helper()
	uid, _ := strconv.Atoi(as.Uid) // Linux has numbers
	gid, _ := strconv.Atoi(as.Gid)
	err := filepath.WalkDir(p.dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, gid)
	})
	if err != nil {
		p.w.t.Fatal(err)
	}
}

func (p *postgresServer) command(ns lab.NS, name string, args ...string) *lab.Cmd {
	cmd := p.w.lab.Command(ns, "setpriv", append([]string{"--reuid=postgres", "--regid=postgres", "--clear-groups", filepath.Join(p.bin, name)}, args...)...)
	cmd.Dir, cmd.Env = p.dir, append(os.Environ(), "LC_ALL=C")
	return cmd
}

func (p *postgresServer) run(name string, args ...string) {
	p.w.t.Helper()
	if out, err := p.command(lab.Server, name, args...).CombinedOutput(); err != nil {
		p.w.t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// psql asks one question in the client's namespace, with parameters of libpq.
func (w *world) psql(query string, params ...string) (string, error) {
	w.t.Helper()
	conn := append([]string{"port=8443", "dbname=postgres", "sslrootcert=ca.pem"}, params...)
	return w.client("", "env", "LC_ALL=C", "HOME="+w.dir, "psql", "-XAt", "-c", query, strings.Join(conn, " "))
}

// psql and a PostgreSQL server, with TLS 1.2 and 1.3: a client certificate is asked for in
// the protocol's own way, the server gets a session in the clear or with TLS, as the rule
// says, and who asks for no TLS is told so. In front of the server with TLS a sniffer sees
// nothing of any session.
func TestPostgres(t *testing.T) {
	t.Parallel()
	testenv.Slow(t)
	const marker = "words_of_a_session"
	w := newWorld(t, lab.Options{Servers: 2})
	w.issue("db", testpki.Leaf{CN: "db", DNS: []string{"db.example"}})
	w.issue("front", testpki.Leaf{CN: "front", DNS: []string{"db.example"}})
	w.issue("gateway", testpki.Leaf{CN: "gateway"})
	newPostgres(w)
	plain, secure, same := lab.ServerAddr(0, false).String(), lab.ServerAddr(1, false).String(), lab.ServerAddr(2, false).String()
	w.config(`
    - name: plain
      to: ["`+plain+`:8443"]
      upgrade: postgres
      identity: db
      client: {authorities: [staff]}
      destination: {tls: plain}
    - name: secure
      to: ["`+secure+`:8443"]
      upgrade: postgres
      identity: front
      client: {authorities: [staff]}
      destination: {tls: verify, upgrade: postgres, authorities: [staff], name: db.example, identity: gateway}
    - name: same
      to: ["`+same+`:8443"]
      upgrade: postgres
      identity: db
      client: {authorities: [staff]}
      destination: {tls: verify, upgrade: postgres, authorities: [staff], name: db.example}
`, "")
	limit := (2 * testenv.Patience()).String() // psql is a program, and how long it takes is not what is asked here
	w.rewrite("limits: {handshake: 3s", "limits: {handshake: "+limit)
	w.start(w.rewrite("identities:\n", "identities:\n  db: {certificate: db.pem, key: db.key}\n  front: {certificate: front.pem, key: front.key}\n  gateway: {certificate: gateway.pem, key: gateway.key}\n"))
	const ending = "the_last_words"
	spoken, err := w.lab.Sniff(lab.Server, lab.ServerIface, func(p lab.Packet) bool {
		to := p.Dst.Addr().String()
		return to == secure && bytes.Contains(p.Raw, []byte(marker)) || to == plain && bytes.Contains(p.Raw, []byte(ending))
	})
	if err != nil {
		t.Fatal(err)
	}
	defer spoken.Close()
	records := 0
	last := func() record { records++; return w.last(records) }
	const question = "select ssl, coalesce(client_dn, 'nobody'), 'words_of_a_session' from pg_stat_ssl where pid = pg_backend_pid()"
	base := func(addr string, more ...string) []string {
		return append([]string{"host=db.example", "hostaddr=" + addr, "user=open", "application_name=" + marker, "sslmode=verify-full"}, more...)
	}
	withCert := []string{"sslcert=alice.pem", "sslkey=alice.key"}
	for _, version := range []string{"1.2", "1.3"} {
		only := []string{"ssl_min_protocol_version=TLSv" + version, "ssl_max_protocol_version=TLSv" + version}
		for _, c := range []struct{ addr, rule, sees, asked string }{
			{plain, "plain", "f|nobody|" + marker, ""},
			{secure, "secure", "t|/CN=gateway|" + marker, "postgres"},
		} {
			out, err := w.psql(question, slices.Concat(base(c.addr), only, withCert)...)
			r := last()
			leg, _ := r["client_leg"].(map[string]any)
			if err != nil || strings.TrimSpace(out) != c.sees {
				t.Errorf("TLS %s, %s: %v: %s\n%v", version, c.rule, err, out, r)
			}
			if r.str("reason") != "verified" || r.str("rule") != c.rule || r.str("upgrade") != "postgres" || r.str("destination_upgrade") != c.asked || leg["version"] != "TLS "+version || r.peer("proven") != true {
				t.Errorf("TLS %s, %s, the record: %v", version, c.rule, r)
			}
		}
		out, err := w.psql(question, slices.Concat(base(secure, "sslcert=none.pem"), only)...)
		alert := map[string]string{"1.2": "handshake_failure", "1.3": "certificate_required"}[version]
		// With TLS 1.3 libpq has gone on before it reads, and may find a reset behind the alert.
		told := slices.ContainsFunc([]string{strings.ReplaceAll(alert, "_", " "), "reset by peer", "closed the connection unexpectedly", "SSL SYSCALL error"}, func(text string) bool { return strings.Contains(out, text) })
		if r := last(); err == nil || !told || r.str("reason") != "no_certificate" || !strings.HasPrefix(r.str("alert_sent"), alert+"(") {
			t.Errorf("TLS %s, without a certificate: %v: %s\n%v", version, err, out, r)
		}
	}
	for _, addr := range []string{plain, secure} {
		out, err := w.psql(question, append(base(addr), "sslmode=disable")...)
		if r := last(); err == nil || !strings.Contains(out, "must be encrypted with TLS") || r.str("reason") != "client_not_upgraded" || r.str("dialed") != "" {
			t.Errorf("sslmode=disable: %v: %s\n%v", err, out, r)
		}
	}
	w.postgresPasswords(plain, secure, same, slices.Concat(base(secure), withCert), last)
	// In front of the server without TLS it does see a session, and packets come in their order.
	if out, err := w.psql("select '"+ending+"'", slices.Concat(base(plain), withCert)...); err != nil {
		t.Errorf("the last session: %v: %s", err, out)
	}
	if err := spoken.Wait(testenv.Context(t), 1); err != nil {
		t.Errorf("the sniffer: %v", err)
	}
	for _, p := range spoken.Packets() {
		if p.Dst.Addr().String() == secure {
			t.Errorf("a packet of a session in the clear in front of the server with TLS: %v", p)
		}
	}
}

// postgresPasswords: SCRAM passes where nothing binds it to a certificate, where the client
// does not bind it, and where sslgate shows the certificate that the server has; one that is
// bound to another is refused by the server.
func (w *world) postgresPasswords(plain, secure, same string, params []string, last func() record) {
	w.t.Helper()
	if out, err := w.psql("create role scram login password 'open-sesame'", params...); err != nil {
		w.t.Fatalf("no role: %v: %s", err, out)
	}
	last()
	for _, c := range []struct {
		addr, binding string
		passes        bool
	}{{plain, "prefer", true}, {secure, "disable", true}, {secure, "prefer", false}, {same, "require", true}} {
		out, err := w.psql("select 1", append(slices.Clone(params), "hostaddr="+c.addr, "user=scram", "password=open-sesame", "channel_binding="+c.binding)...)
		if r := last(); (err == nil) != c.passes || r.str("reason") != "verified" {
			w.t.Errorf("channel_binding=%s at %s: %v: %s\n%v", c.binding, c.addr, err, out, r)
		}
	}
}
