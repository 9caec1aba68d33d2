package member

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/fleet/etcd"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// cluster is a real etcd on the loopback, which wants client certificates of its CA.
type cluster struct {
	t       *testing.T
	ca      *testpki.CA
	program string
	dir     string
	members []*etcdMember
}

type etcdMember struct {
	args []string
	port string
	log  string // file
	cmd  *exec.Cmd
	gone chan struct{} // closed when the process has ended
}

// newCluster starts n members. Their ports were free just before; if somebody else has taken one
// meanwhile, others are tried.
func newCluster(t *testing.T, n int) *cluster {
	t.Helper()
	c := &cluster{t: t, program: testenv.Tool(t, "etcd"), dir: t.TempDir(), ca: testpki.Must(testpki.NewCA(testpki.Options{}))}
	leaf := testpki.Must(c.ca.Issue(testpki.Leaf{IPs: []string{"127.0.0.1"}}))
	cert, key, err := leaf.WritePEM(c.dir, "etcd")
	if err != nil {
		t.Fatal(err)
	}
	ca, _, err := c.ca.WritePEM(c.dir, "ca")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.kill(c.members...) })
	for try := range 5 {
		ports := freePorts(t, 2*n)
		var peers []string
		for i := range n {
			peers = append(peers, fmt.Sprintf("m%d=http://127.0.0.1:%s", i, ports[n+i]))
		}
		c.members = nil
		for i := range n {
			peer, client := "http://127.0.0.1:"+ports[n+i], "https://127.0.0.1:"+ports[i]
			m := &etcdMember{port: ports[i], log: filepath.Join(c.dir, fmt.Sprintf("m%d-%d.log", try, i)), args: []string{
				"--name", fmt.Sprintf("m%d", i), "--data-dir", filepath.Join(c.dir, fmt.Sprintf("m%d-%d", try, i)),
				"--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
				"--initial-cluster", strings.Join(peers, ","), "--heartbeat-interval", "100", "--election-timeout", "1000",
				"--client-cert-auth", "--trusted-ca-file", ca, "--cert-file", cert, "--key-file", key, "--enable-grpc-gateway=false",
				"--unsafe-no-fsync", // the process is killed, not the machine, and a busy disk holds nothing up
			}}
			c.members = append(c.members, m)
			c.start(m)
		}
		if c.answers() {
			return c
		}
		c.kill(c.members...)
	}
	t.Fatalf("etcd does not start: %s", c.members[0].said())
	return nil
}

func freePorts(t *testing.T, n int) (ports []string) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }() // after the last one, so that all differ
		_, port, _ := net.SplitHostPort(l.Addr().String())
		ports = append(ports, port)
	}
	return ports
}

func (c *cluster) start(m *etcdMember) {
	c.t.Helper()
	out, err := os.OpenFile(m.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = out.Close() }() // the process has its own
	m.gone = make(chan struct{})
	m.cmd = exec.Command(c.program, m.args...)
	m.cmd.Stdout, m.cmd.Stderr = out, out
	if err := m.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	go func() {
		defer close(m.gone)
		_ = m.cmd.Wait() // it is killed
	}()
}

// again starts members again, and once more if somebody has their port for a while.
func (c *cluster) again(members ...*etcdMember) {
	c.t.Helper()
	for _, m := range members {
		c.start(m)
	}
	testenv.Eventually(c.t, "the members answer", func() bool {
		all := true
		for _, m := range members {
			select {
			case <-m.gone:
				c.start(m)
			default:
			}
			conn, err := net.Dial("tcp", "127.0.0.1:"+m.port)
			if err != nil {
				all = false
				continue
			}
			_ = conn.Close()
		}
		return all
	}, func() any { return members[0].said() })
}

// said is what the process has written so far.
func (m *etcdMember) said() string {
	text, err := os.ReadFile(m.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (c *cluster) kill(members ...*etcdMember) {
	for _, m := range members {
		if m.cmd == nil || m.cmd.Process == nil {
			continue // it was never there
		}
		_ = m.cmd.Process.Kill() // unless it has ended
		<-m.gone
	}
}

// answers waits until a quorum answers; false if a member has ended.
func (c *cluster) answers() bool {
	c.t.Helper()
	ok := true
	testenv.Eventually(c.t, "etcd answers", func() bool {
		for _, m := range c.members {
			select {
			case <-m.gone:
				ok = false
				return true
			default:
			}
			conn, err := net.Dial("tcp", "127.0.0.1:"+m.port)
			if err != nil {
				return false
			}
			_ = conn.Close()
		}
		s := c.store(nil)
		defer s.Close()
		ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
		defer cancel()
		_, _, err := s.Head(ctx, "")
		return err == nil || errors.Is(err, fs.ErrNotExist)
	}, func() any { return c.members[0].said() })
	return ok
}

func (c *cluster) place() string {
	var hosts []string
	for _, m := range c.members {
		hosts = append(hosts, "127.0.0.1:"+m.port)
	}
	return etcd.Scheme + strings.Join(hosts, ",") + "/sslgate/acme"
}

func (c *cluster) credentials() Credentials {
	own := testpki.Must(c.ca.Issue(testpki.Leaf{URIs: []string{"spiffe://acme/gw/berlin/one"}})).TLS()
	return Credentials{Roots: poolOf(c.ca.Pool()), Certificate: func() (tls.Certificate, error) { return own, nil }}
}

// store opens the cluster; dial nil is the usual one.
func (c *cluster) store(dial func(context.Context, string, string) (net.Conn, error)) *etcd.Store {
	c.t.Helper()
	cred := c.credentials()
	if dial == nil {
		dial = cred.dial()
	}
	return testpki.Must(etcd.Open(etcd.Options{Place: c.place(), TLS: cred.tls, Dial: dial}))
}

// thief is who may write everything in it.
func (c *cluster) thief() *clientv3.Client {
	c.t.Helper()
	var places []string
	for _, m := range c.members {
		places = append(places, "https://127.0.0.1:"+m.port)
	}
	client := testpki.Must(clientv3.New(clientv3.Config{Endpoints: places, TLS: testpki.Must(c.credentials().tls()), Logger: zap.NewNop()}))
	c.t.Cleanup(func() { _ = client.Close() })
	return client
}

// network opens connections, until it is cut.
type network struct {
	dialer *net.Dialer
	mend   chan struct{} // closed: connections can be opened
	conns  chan []net.Conn
}

func newNetwork() *network {
	n := &network{dialer: &net.Dialer{}, mend: make(chan struct{}), conns: make(chan []net.Conn, 1)}
	close(n.mend)
	n.conns <- nil
	return n
}

func (n *network) dial(ctx context.Context, network, address string) (net.Conn, error) {
	all := <-n.conns
	mend := n.mend
	n.conns <- all
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-mend:
	}
	conn, err := n.dialer.DialContext(ctx, network, address)
	if err == nil {
		n.conns <- slices.Concat(<-n.conns, []net.Conn{conn})
	}
	return conn, err
}

// cut ends all connections. No new ones are opened until the result is called.
func (n *network) cut() (mend func()) {
	all := <-n.conns
	n.mend = make(chan struct{})
	for _, c := range all {
		_ = c.Close()
	}
	back := n.mend
	n.conns <- nil
	return func() { close(back) }
}
