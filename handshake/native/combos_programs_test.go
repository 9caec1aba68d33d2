package native

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// program is a client that is not ours. Its commands run in a directory with ca.pem and, of
// each kind of key, bob-KIND.pem, bob-KIND.key and bob-KIND.p12 (password "secret").
type program struct {
	name   string
	tool   func(t testing.TB) string
	needs  []string                                                    // other programs
	cannot func(c combo) string                                        // why there is no such handshake with it, "" where there is
	before func(run func(name string, args ...string), certs []string) // once
	// commands make the connections of one combination: one each, or one for all of them.
	commands func(tool string, c combo, cert, port string) [][]string
	// batch makes all of them in one process, from lines of "PORT VERSION CONNECTIONS CERT".
	batch func(tool string) []string
}

// classic is what clients without cryptography against quantum computers cannot.
func classic(who string) func(c combo) string {
	return func(c combo) string {
		switch {
		case handshake.GroupOnly13(c.group):
			return who + " has no ML-KEM"
		case isMLDSA(c.own), isMLDSA(c.theirs):
			return who + " has no ML-DSA"
		}
		return ""
	}
}

func tool(name string) func(t testing.TB) string {
	return func(t testing.TB) string { return testenv.Tool(t, name) }
}

// numbered is "1.2" or "1.3".
func (c combo) numbered() string { return strings.TrimPrefix(handshake.VersionName(c.version), "TLS ") }

func programs() []program {
	noEd25519 := func(who string, cannot func(c combo) string) func(c combo) string {
		return func(c combo) string {
			if c.own == testpki.Ed25519 || c.theirs == testpki.Ed25519 {
				return who + " has no Ed25519 in TLS"
			}
			return cannot(c)
		}
	}
	node := func(tool string) []string { return []string{tool, "-e", nodeClient, "jobs"} }
	return []program{
		{name: "OpenSSL 3.0", tool: tool("openssl"), cannot: classic("OpenSSL 3.0"), commands: func(tool string, c combo, cert, port string) [][]string {
			line := []string{tool, "s_client", "-quiet", "-connect", "127.0.0.1:" + port, "-servername", "gateway.test", "-CAfile", "ca.pem", "-verify_return_error", "-tls" + strings.ReplaceAll(c.numbered(), ".", "_")}
			if cert != "" {
				line = append(line, "-cert", cert+".pem", "-key", cert+".key")
			}
			first := append(line[:len(line):len(line)], "-sess_out", "session-"+port)
			if c.connections() == 1 {
				return [][]string{first}
			}
			return [][]string{first, append(line[:len(line):len(line)], "-sess_in", "session-"+port)}
		}},
		{name: "GnuTLS", tool: tool("gnutls-cli"), cannot: classic("GnuTLS 3.7"), commands: func(tool string, c combo, cert, port string) [][]string {
			line := []string{tool, "--priority", "NORMAL:-VERS-ALL:+VERS-TLS" + c.numbered(), "--x509cafile", "ca.pem", "--sni-hostname", "gateway.test", "--verify-hostname", "gateway.test", "--port", port}
			if cert != "" {
				line = append(line, "--x509certfile", cert+".pem", "--x509keyfile", cert+".key")
			}
			if c.connections() > 1 {
				line = append(line, "--resume")
			}
			return [][]string{append(line, "127.0.0.1")}
		}},
		{name: "NSS", tool: tool("tstclnt"), needs: []string{"openssl", "certutil", "pk12util"}, cannot: noEd25519("NSS", func(c combo) string {
			if c.again {
				return "tstclnt keeps no session"
			}
			return classic("NSS 3.87")(c)
		}), before: func(run func(name string, args ...string), certs []string) {
			for _, cert := range append(certs, "") {
				run("mkdir", "nss-"+cert)
				run("certutil", "-N", "-d", "sql:nss-"+cert, "--empty-password")
				run("certutil", "-A", "-d", "sql:nss-"+cert, "-n", "Staff CA", "-t", "C,,", "-i", "ca.pem")
				if cert != "" {
					run("pk12util", "-i", cert+".p12", "-d", "sql:nss-"+cert, "-W", "secret", "-K", "")
				}
			}
		}, commands: func(tool string, c combo, cert, port string) [][]string {
			line := []string{tool, "-4", "-h", "127.0.0.1", "-p", port, "-a", "gateway.test", "-V", "tls" + c.numbered() + ":tls" + c.numbered(), "-A", "empty", "-d", "sql:nss-" + cert}
			if cert != "" {
				line = append(line, "-n", cert)
			}
			return [][]string{line}
		}},
		{name: "Node 20", tool: tool("node"), cannot: classic("Node 20"), batch: node},
		{name: "Node 26", tool: testenv.Node26, cannot: func(combo) string { return "" }, batch: node},
		{name: "Java 17", tool: tool("java"), needs: []string{"openssl"}, cannot: noEd25519("JSSE", classic("JSSE")), batch: func(tool string) []string {
			return []string{tool, "-XX:TieredStopAtLevel=1", "Client.java", "jobs"}
		}},
	}
}

// nodeClient makes one job after the other: it reads to the end, and comes back with what it
// was given.
const nodeClient = `
const tls = require("tls"), fs = require("fs");
const jobs = fs.readFileSync(process.argv[1], "utf8").split("\n").filter(l => l);
function next() {
  const line = jobs.shift();
  if (!line) return;
  const [port, version, times, cert] = line.split(" ");
  const o = {host: "127.0.0.1", port: +port, servername: "gateway.test", ca: fs.readFileSync("ca.pem"), minVersion: "TLSv" + version, maxVersion: "TLSv" + version};
  if (process.versions.openssl >= "3.5") o.ecdhCurve = "X25519MLKEM768:X25519:P-256:P-384:P-521:SecP256r1MLKEM768:SecP384r1MLKEM1024:MLKEM1024";
  if (cert) { o.cert = fs.readFileSync(cert + ".pem"); o.key = fs.readFileSync(cert + ".key"); }
  function go(n, session) {
    let saved;
    const s = tls.connect({...o, session});
    s.on("session", x => { saved = x; });
    s.on("data", () => {});
    s.on("error", e => { console.log(line, e.code, e.message); n = 0; });
    s.on("close", () => { if (n > 1) go(n - 1, saved); else next(); });
  }
  go(+times);
}
next();
`

const javaClient = `
import java.io.*;
import java.nio.file.*;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.List;
import javax.net.ssl.*;

public class Client {
    public static void main(String[] a) throws Exception {
        for (String line : Files.readAllLines(Path.of(a[0]))) {
            String[] f = line.split(" ", -1);
            try { job(Integer.parseInt(f[0]), "TLSv" + f[1], Integer.parseInt(f[2]), f[3]); }
            catch (Exception e) { System.out.println(line + ": " + e); }
        }
    }

    static void job(int port, String version, int times, String cert) throws Exception {
        KeyStore trust = KeyStore.getInstance("PKCS12");
        trust.load(null, null);
        try (InputStream in = new FileInputStream("ca.pem")) {
            trust.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(in));
        }
        TrustManagerFactory tm = TrustManagerFactory.getInstance("PKIX");
        tm.init(trust);
        KeyManager[] keys = null;
        if (!cert.isEmpty()) {
            KeyStore own = KeyStore.getInstance("PKCS12");
            try (InputStream in = new FileInputStream(cert + ".p12")) { own.load(in, "secret".toCharArray()); }
            KeyManagerFactory km = KeyManagerFactory.getInstance("PKIX");
            km.init(own, "secret".toCharArray());
            keys = km.getKeyManagers();
        }
        SSLContext c = SSLContext.getInstance("TLS");
        c.init(keys, tm.getTrustManagers(), null);
        for (int i = 0; i < times; i++) {
            try (SSLSocket s = (SSLSocket) c.getSocketFactory().createSocket("127.0.0.1", port)) {
                s.setSoTimeout(60000);
                SSLParameters p = s.getSSLParameters();
                p.setProtocols(new String[] {version});
                p.setServerNames(List.of(new SNIHostName("gateway.test")));
                p.setEndpointIdentificationAlgorithm("HTTPS");
                s.setSSLParameters(p);
                s.startHandshake();
                s.getInputStream().readAllBytes();
            }
        }
    }
}
`

// programDir has what the programs need.
func programDir(t *testing.T, p *program, kinds map[testpki.KeyKind]tls.Certificate) (dir string, run func(name string, args ...string)) {
	t.Helper()
	dir = t.TempDir()
	run = func(name string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), testenv.Tool(t, name), args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
	}
	file := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ca := handshaketest.Fixtures().CA
	file("ca.pem", string(ca.PEM()))
	file("empty", "")
	file("Client.java", javaClient)
	var certs []string
	for kind := range kinds {
		name := "bob-" + kind.String()
		key, err := testpki.NewKey(kind)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := ca.IssueFor(testpki.Leaf{CN: "bob"}, key)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := cert.WritePEM(dir, name); err != nil {
			t.Fatal(err)
		}
		if p.needs == nil || p.cannot(combo{own: testpki.P256, theirs: kind}) != "" {
			continue
		}
		run("openssl", "pkcs12", "-export", "-in", name+".pem", "-inkey", name+".key", "-name", name, "-out", name+".p12", "-passout", "pass:secret")
		certs = append(certs, name)
	}
	if p.before != nil {
		p.before(run, certs)
	}
	return dir, run
}

// job is one combination that waits for its client.
type job struct {
	combo
	listener net.Listener
	port     string
	done     chan outcome
}

// offered starts the server's side of a combination.
func offered(t *testing.T, c combo, own tls.Certificate) *job {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	j := &job{combo: c, listener: l, done: make(chan outcome, c.connections())}
	_, j.port, _ = net.SplitHostPort(l.Addr().String())
	r := newRig(c.plan(own))
	go func() {
		defer close(j.done)
		for range c.connections() {
			conn, err := l.Accept()
			if err != nil {
				j.done <- outcome{err: handshake.AsError(err)}
				return
			}
			ctx, cancel := context.WithTimeout(t.Context(), testenv.Patience())
			j.done <- r.serve(ctx, conn.(*net.TCPConn))
			cancel()
		}
	}()
	return j
}

// ended takes what came of it.
func (j *job) ended(t *testing.T) (bad error) {
	t.Helper()
	_ = j.listener.Close()
	n := 0
	for o := range j.done {
		if err := j.judge(o, n); err != nil && bad == nil {
			bad = err
		}
		n++
	}
	return bad
}

// The parameters of a plan come out as the plan has them, with clients that are not ours: all
// pairs of values that the client has. What it has not is said.
func TestCombinationsWithPrograms(t *testing.T) {
	testenv.Slow(t)
	m := newMaterial(t)
	for _, p := range programs() {
		t.Run(p.name, func(t *testing.T) {
			path := p.tool(t)
			var able []combo
			left := map[string]int{}
			for _, c := range combos() {
				why := c.skip()
				if why == "" {
					why = p.cannot(c)
				}
				if why != "" {
					left[why]++
					continue
				}
				able = append(able, c)
			}
			able = pairwise(able)
			dir, _ := programDir(t, &p, m.theirs)
			execute := func(line []string) string {
				// One process may make them all, beside other tests.
				ctx, cancel := context.WithTimeout(t.Context(), 8*testenv.Patience())
				defer cancel()
				cmd := exec.CommandContext(ctx, line[0], line[1:]...)
				cmd.Dir, cmd.WaitDelay = dir, testenv.Patience()
				out, _ := cmd.CombinedOutput() // what we saw says all
				if ctx.Err() != nil {
					return string(out) + "\n(it was not done in time)"
				}
				return string(out)
			}
			// attempt makes the combinations and returns what is wrong with each.
			attempt := func(all []combo) map[combo]string {
				var jobs []*job
				var lines bytes.Buffer
				for _, c := range all {
					j := offered(t, c, m.own[c.own])
					jobs = append(jobs, j)
					lines.WriteString(strings.Join([]string{j.port, c.numbered(), string(rune('0' + c.connections())), certName(c)}, " ") + "\n")
				}
				said := ""
				if p.batch != nil {
					if err := os.WriteFile(filepath.Join(dir, "jobs"), lines.Bytes(), 0o600); err != nil {
						t.Fatal(err)
					}
					said = execute(p.batch(path))
				}
				wrong := map[combo]string{}
				for _, j := range jobs {
					if p.commands != nil {
						said = ""
						for _, line := range p.commands(path, j.combo, certName(j.combo), j.port) {
							said += execute(line)
						}
					}
					if bad := j.ended(t); bad != nil {
						wrong[j.combo] = bad.Error() + "; it said:\n" + said
					}
				}
				return wrong
			}
			wrong := attempt(able)
			// A program may wait for a ticket for some milliseconds only (GnuTLS: 50), which is
			// too short on a busy machine: what should be resumed has five times for it.
			for range 4 {
				var again []combo
				for c := range wrong {
					if c.again {
						again = append(again, c)
					}
				}
				if len(again) == 0 {
					break
				}
				now := attempt(again)
				for _, c := range again {
					if text, bad := now[c]; bad {
						wrong[c] = text
					} else {
						delete(wrong, c)
					}
				}
			}
			for c, text := range wrong {
				t.Errorf("%s: %s", c, text)
			}
			t.Logf("%d combinations; left out: %v", len(able), left)
		})
	}
}

// certName is the file of the client's certificate, "" for none.
func certName(c combo) string {
	if c.theirs == noKey {
		return ""
	}
	return "bob-" + c.theirs.String()
}
