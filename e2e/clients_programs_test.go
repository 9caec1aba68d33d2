package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// program is a real client with a TLS library of its own, or its own use of
// one. It sends one HTTP request to the origin, over IPv4.
type program struct {
	name    string
	tools   []string
	prepare func(w *world)
	// command builds the command line; cert is the base name of the client's
	// certificate, "" for none.
	command func(w *world, version, addr, cert string) []string
	// sayNone is what it shows its user, by version, if a certificate is required and it has
	// none.
	sayNone map[string]string
	// mlkem: in TLS 1.3 it agrees on X25519MLKEM768.
	mlkem bool
	// many: it makes further connections of its own.
	many bool
}

var programs = []program{
	{
		name: "wget", tools: []string{"wget"},
		command: func(w *world, version, addr, cert string) []string {
			a := []string{"wget", "-O-", "--tries=1", "--timeout=10", "--ca-certificate=ca.pem", "--secure-protocol=TLSv" + strings.ReplaceAll(version, ".", "_")}
			if built, _ := w.client("", "wget", "--version"); strings.Contains(built, "+ssl/gnutls") {
				// There --secure-protocol names the least version, not the only one.
				a[len(a)-1] = "--ciphers=NORMAL:-VERS-ALL:+VERS-TLS" + version
			}
			if cert != "" {
				a = append(a, "--certificate="+cert+".pem", "--private-key="+cert+".key")
			}
			return append(a, "https://"+addr+"/")
		},
		// With GnuTLS it names the alert only where it comes before the request was written.
		sayNone: map[string]string{"1.2": `[Hh]andshake fail|Unable to establish SSL`, "1.3": `[Cc]ertificate is required|certificate required|session has been invalidated|TLS fatal alert has been received`},
	},
	{
		name: "python", tools: []string{"python3"},
		command: func(_ *world, version, addr, cert string) []string {
			return []string{"python3", "-c", pythonClient, version, addr, cert}
		},
		sayNone: map[string]string{"1.2": `SSLV3_ALERT_HANDSHAKE_FAILURE|handshake failure`, "1.3": `TLSV13_ALERT_CERTIFICATE_REQUIRED|certificate required`},
	},
	{
		name: "node", tools: []string{"node"},
		command: func(_ *world, version, addr, cert string) []string {
			return []string{"node", "-e", nodeClient, version, addr, cert}
		},
		sayNone: map[string]string{"1.2": `ERR_SSL_\w*HANDSHAKE_FAILURE`, "1.3": `ERR_SSL_\w*CERTIFICATE_REQUIRED`},
	},
	{
		name: "java", tools: []string{"java", "openssl"},
		prepare: func(w *world) {
			w.pkcs12("alice")
			class, err := javaClass()
			if err != nil {
				w.t.Fatal(err)
			}
			w.pem("Client.class", class)
		},
		command: func(_ *world, version, addr, cert string) []string {
			return []string{"java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", ".", "Client", version, addr, cert}
		},
		sayNone: map[string]string{"1.2": `handshake_failure`, "1.3": `certificate_required`},
	},
	{
		name: "nss", tools: []string{"tstclnt", "certutil", "pk12util"},
		prepare: func(w *world) {
			w.pkcs12("alice")
			w.nss("nss", "")
			w.nss("nss-alice", "alice")
			w.pem("request", []byte(request))
		},
		command: func(_ *world, version, addr, cert string) []string {
			a := []string{"tstclnt", "-4", "-h", addr, "-p", "443", "-a", "pay.example", "-V", "tls" + version + ":tls" + version, "-A", "request", "-d", "sql:nss"}
			if cert != "" {
				a = append(a[:len(a)-1], "sql:nss-"+cert, "-n", cert)
			}
			return a
		},
		sayNone: map[string]string{"1.2": `SSL_ERROR_HANDSHAKE_FAILURE_ALERT`, "1.3": `SSL_ERROR_RX_CERTIFICATE_REQUIRED_ALERT`},
	},
	{
		name: "chromium", tools: []string{"chromium", "certutil", "pk12util", "unshare"}, mlkem: true, many: true,
		prepare: func(w *world) {
			w.pkcs12("alice")
			for _, home := range []string{"home-", "home-alice"} {
				w.mkdir(home + "/.pki")
				w.nss(home+"/.pki/nssdb", strings.TrimPrefix(home, "home-"))
			}
			w.mkdir("policy/managed")
			w.pem("policy/managed/select.json", []byte(`{"AutoSelectCertificateForUrls": ["{\"pattern\":\"https://pay.example\",\"filter\":{}}"]}`))
		},
		command: func(w *world, version, addr, cert string) []string {
			// Chromium reads policies from /etc alone: a mount namespace gives it
			// ours.
			const script = `mkdir -p /etc/chromium/policies && mount --bind "$1" /etc/chromium/policies && shift && exec "$@"`
			return append([]string{
				"env", "HOME=" + filepath.Join(w.dir, "home-"+cert), "unshare", "-m", "sh", "-euc", script, "sh", filepath.Join(w.dir, "policy"),
				"chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
				"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-crash-reporter",
				"--user-data-dir=" + filepath.Join(w.t.TempDir(), "profile"), "--host-resolver-rules=MAP pay.example " + addr,
				"--ssl-version-max=tls" + version, "--ssl-version-min=tls" + version, "--timeout=15000", "--dump-dom",
			}, "https://pay.example/")
		},
		// In TLS 1.3 the alert comes after Chromium's own handshake has ended; now
		// and then it finds the socket closed before it has read it.
		sayNone: map[string]string{"1.2": `ERR_BAD_SSL_CLIENT_AUTH_CERT`, "1.3": `ERR_BAD_SSL_CLIENT_AUTH_CERT|ERR_SOCKET_NOT_CONNECTED`},
	},
}

const pythonClient = `
import socket, ssl, sys
version, addr, cert = sys.argv[1:4]
c = ssl.create_default_context(cafile="ca.pem")
c.minimum_version = c.maximum_version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[version]
if cert:
    c.load_cert_chain(cert + ".pem", cert + ".key")
s = c.wrap_socket(socket.create_connection((addr, 443), 10), server_hostname="pay.example")
s.sendall(b"GET / HTTP/1.0\r\n\r\n")
print(s.version())
while True:
    b = s.recv(4096)
    if not b:
        break
    print(b.decode())
`

const nodeClient = `
const tls = require("tls"), fs = require("fs");
const [version, addr, cert] = process.argv.slice(1);
const o = {host: addr, port: 443, servername: "pay.example", ca: fs.readFileSync("ca.pem"),
  minVersion: "TLSv" + version, maxVersion: "TLSv" + version};
if (cert) { o.cert = fs.readFileSync(cert + ".pem"); o.key = fs.readFileSync(cert + ".key"); }
const s = tls.connect(o, () => { console.log(s.getProtocol()); s.write("GET / HTTP/1.0\r\n\r\n"); });
s.on("data", d => process.stdout.write(d));
s.on("error", e => { console.log(e.code, e.message); process.exit(1); });
`

const javaClient = `
import java.io.*;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import javax.net.ssl.*;
import java.util.List;

public class Client {
    public static void main(String[] a) throws Exception {
        String version = a[0], addr = a[1], cert = a.length > 2 ? a[2] : "";
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
        try (SSLSocket s = (SSLSocket) c.getSocketFactory().createSocket(addr, 443)) {
            s.setSoTimeout(10000);
            SSLParameters p = s.getSSLParameters();
            p.setProtocols(new String[] {"TLSv" + version});
            p.setServerNames(List.of(new SNIHostName("pay.example")));
            p.setEndpointIdentificationAlgorithm("HTTPS");
            s.setSSLParameters(p);
            s.getOutputStream().write("GET / HTTP/1.0\r\n\r\n".getBytes());
            s.getInputStream().transferTo(System.out);
            System.out.println(s.getSession().getProtocol());
        }
    }
}
`

// javaClass is javaClient, compiled once for all tests.
var javaClass = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "sslgate-e2e-java-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	source := filepath.Join(dir, "Client.java")
	if err := os.WriteFile(source, []byte(javaClient), 0o600); err != nil {
		return nil, err
	}
	// javac by its module: a JRE has it too, for `java Client.java`.
	out, err := exec.Command("java", "-XX:TieredStopAtLevel=1", "-m", "jdk.compiler/com.sun.tools.javac.Main", "-d", dir, source).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("javac: %w\n%s", err, out)
	}
	return os.ReadFile(filepath.Join(dir, "Client.class"))
})

func (w *world) mkdir(name string) {
	w.t.Helper()
	if err := os.MkdirAll(filepath.Join(w.dir, name), 0o700); err != nil {
		w.t.Fatal(err)
	}
}

// local runs a program in the world's directory, outside of the namespaces.
func (w *world) local(name string, args ...string) {
	w.t.Helper()
	cmd := w.lab.Command(lab.Client, name, args...)
	cmd.Dir = w.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// pkcs12 packs NAME.pem and NAME.key into NAME.p12.
func (w *world) pkcs12(name string) {
	w.t.Helper()
	w.local("openssl", "pkcs12", "-export", "-in", name+".pem", "-inkey", name+".key", "-name", name, "-out", name+".p12", "-passout", "pass:secret")
}

// nss makes a certificate database that trusts our CA, with the certificate
// of that name unless it is "".
func (w *world) nss(dir, cert string) {
	w.t.Helper()
	w.mkdir(dir)
	w.local("certutil", "-N", "-d", "sql:"+dir, "--empty-password")
	w.local("certutil", "-A", "-d", "sql:"+dir, "-n", "e2e CA", "-t", "C,,", "-i", "ca.pem")
	if cert != "" {
		w.local("pk12util", "-i", cert+".p12", "-d", "sql:"+dir, "-W", "secret", "-K", "")
	}
}

// run runs the program in the client's namespace and returns what it said.
func (p *program) run(w *world, version, addr, cert string) string {
	w.t.Helper()
	line := p.command(w, version, addr, cert)
	cmd := w.lab.Command(lab.Client, line[0], line[1:]...)
	cmd.Dir = w.dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	defer time.AfterFunc(testenv.Patience(), func() { _ = cmd.Process.Kill() }).Stop()
	_ = cmd.Wait() // its exit code says little
	return out.String()
}

// newer waits for records behind the first n, until no more come.
func (w *world) newer(n int) []record {
	w.t.Helper()
	w.records(n + 1)
	testenv.Settled(w.t, "the number of records", func() int { return len(w.records(n + 1)) })
	return w.records(n + 1)[n:]
}

// The TLS libraries in use, in both versions: with a good certificate they reach the origin.
// Without one they do not, and their users and the record see why.
func TestMoreRealClients(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	for _, p := range programs {
		for _, tool := range p.tools {
			testenv.Tool(t, tool)
		}
	}
	addr := lab.ServerAddr(0, false).String()
	w.issue("pay", payNames(addr)) // wget has no way to say where a name is
	for _, p := range programs {
		if p.prepare != nil {
			p.prepare(w)
		}
	}
	w.origin(server(false), serveHTTP)
	w.config(payRule, "")
	w.start(w.patient())

	n := 0
	for _, p := range programs {
		for _, version := range []string{"1.2", "1.3"} {
			for _, cert := range []string{"alice", ""} {
				t.Run(fmt.Sprintf("%s/%s/cert=%s", p.name, version, cert), func(t *testing.T) {
					out := p.run(w, version, addr, cert)
					got := w.newer(n)
					n += len(got)
					if len(got) > 1 && !p.many {
						t.Errorf("%d connections", len(got))
					}
					if reached := strings.Contains(out, "origin says"); reached != (cert != "") {
						t.Errorf("origin reached: %v; the client said:\n%s", reached, out)
					}
					r := pick(got, map[bool]string{true: "verified", false: "no_certificate"}[cert != ""])
					if r == nil {
						t.Fatalf("records %v; the client said:\n%s", got, out)
					}
					if cert != "" {
						if leg, _ := r["client_leg"].(map[string]any); leg["version"] != "TLS "+version || r.peer("proven") != true {
							t.Errorf("record %v", r)
						} else if p.mlkem && version == "1.3" && leg["group"] != "X25519MLKEM768" {
							t.Errorf("group %v", leg["group"])
						}
						return
					}
					if want := noCertificateAlert[version]; r.str("alert_sent") != want {
						t.Errorf("alert_sent %s, want %s", r.str("alert_sent"), want)
					}
					shown := regexp.MustCompile(p.sayNone[version]).FindString(out)
					if shown == "" {
						t.Errorf("the user is not shown %s, but:\n%s", p.sayNone[version], out)
					}
					t.Logf("the user is shown %q", shown)
				})
			}
		}
	}
}

// noCertificateAlert: RFC 5246, section 7.4.6, and RFC 8446, section 4.4.2.4.
var noCertificateAlert = map[string]string{"1.2": "handshake_failure(40)", "1.3": "certificate_required(116)"}

func pick(all []record, reason string) record {
	for _, r := range all {
		if r.str("reason") == reason {
			return r
		}
	}
	return nil
}

func payNames(ips ...string) testpki.Leaf {
	return testpki.Leaf{CN: "pay", DNS: []string{"pay.example"}, IPs: ips}
}
