package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Where connections of this host's programs are captured, sslgate's own must carry its mark,
// or they would be led back into it, round and round. So there is one package that makes
// dialers, and whatever else opens a connection, or takes a default that does, fails here.
// internal/lab is not sslgate: its programs are clients and servers of tests.
func TestOneDialer(t *testing.T) {
	files, used := 0, map[string]bool{}
	for rel, f := range sources(t) {
		if strings.HasPrefix(rel, "internal/dialer/") || strings.HasPrefix(rel, "internal/lab/") {
			continue
		}
		files++
		for _, found := range dialsIn(f) {
			if _, ok := mayOpen[rel+" "+found]; ok {
				used[rel+" "+found] = true
				continue
			}
			t.Errorf("%s: %s: take a dialer of internal/dialer, or a connection of sslgate's own may be captured by sslgate", rel, found)
		}
	}
	if files < 200 {
		t.Errorf("only %d files looked at", files)
	}
	for place := range mayOpen {
		if !used[place] {
			t.Errorf("%s: there is no such call any more", place)
		}
	}
}

// mayOpen are calls that send nothing of which sslgate would have to be told from others.
var mayOpen = map[string]string{
	"tun/foreign/rules.go unix.Sendto":         "netlink: no packet leaves",
	"internal/audit/journal.go unix.Sendmsg":   "a socket of the file system: no packet leaves",
	"internal/signer/process.go user.Lookup":   "the start of a signer, which is a process of its own; the static program reads /etc/passwd",
	"internal/service/watchdog.go unix.Sendto": "the watchdog's probe is bound to the TUN and sets the mark itself",
}

// What opens connections, by package: functions, variables and types. A unix socket by its
// own type is no IP.
var dials = map[string][]string{
	"net": {
		"Dial", "DialTimeout", "DialTCP", "DialUDP", "DialIP", "Dialer", "Resolver", "DefaultResolver", "LookupHost", "LookupIP", "LookupAddr",
		"ListenPacket", "ListenUDP", "ListenIP", "ListenMulticastUDP", "LookupCNAME", "LookupMX", "LookupNS", "LookupPort", "LookupSRV", "LookupTXT", "ResolveTCPAddr", "ResolveUDPAddr", "ResolveIPAddr",
	},
	"http":    {"Get", "Head", "Post", "PostForm", "DefaultClient", "DefaultTransport"},
	"tls":     {"Dial", "DialWithDialer", "Dialer"},
	"smtp":    {"Dial", "SendMail"},
	"rpc":     {"Dial", "DialHTTP", "DialHTTPPath"},
	"syslog":  {"Dial", "New"},
	"unix":    {"Connect", "Sendto", "Sendmsg", "SendmsgN", "SendmsgBuffers"},
	"syscall": {"Connect", "Sendto", "Sendmsg", "SendmsgN"},
	"user":    {"Lookup", "LookupId", "LookupGroup"}, // may ask a directory by the network
}

// dialsIn names what a file opens connections with. An http.Transport and an http.Client
// must say by whom they dial.
func dialsIn(f *ast.File) []string {
	var found []string
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && x.Obj == nil && slices.Contains(dials[x.Name], n.Sel.Name) {
				found = append(found, x.Name+"."+n.Sel.Name)
			} else if n.Sel.Name == "ListenPacket" { // of a net.ListenConfig
				found = append(found, "ListenPacket")
			}
		case *ast.CompositeLit:
			sel, ok := n.Type.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); !ok || x.Name != "http" {
				return true
			}
			for kind, key := range map[string]string{"Transport": "DialContext", "Client": "Transport"} {
				has := slices.ContainsFunc(n.Elts, func(e ast.Expr) bool {
					kv, ok := e.(*ast.KeyValueExpr)
					if !ok {
						return false
					}
					k, ok := kv.Key.(*ast.Ident)
					return ok && k.Name == key
				})
				if sel.Sel.Name == kind && !has {
					found = append(found, "http."+kind+" without "+key)
				}
			}
		}
		return true
	})
	return found
}

// The test finds what it is there for.
func TestDialersAreFound(t *testing.T) {
	for text, want := range map[string]int{
		`func f() { net.Dial("tcp", "") }`:                                 1,
		`func f() { (&net.Dialer{}).Dial("tcp", "") }`:                     1,
		`var d net.Dialer`:                                                 1,
		`func f() { http.Get("") }`:                                        1,
		`var c = http.Client{}`:                                            1,
		`var c = &http.Client{Transport: &http.Transport{}}`:               1,
		`var c = &http.Client{Transport: &http.Transport{DialContext: d}}`: 0,
		`func f() { unix.Connect(1, nil) }`:                                1,
		`func f() { net.DefaultResolver.LookupHost(nil, "") }`:             1,
		`func f() { net.ListenPacket("udp", "") }`:                         1,
		`func f() { (&net.ListenConfig{}).ListenPacket(nil, "udp", "") }`:  1,
		`func f() { net.ListenUDP("udp", nil) }`:                           1,
		`func f() { unix.Sendto(1, nil, 0, nil) }`:                         1,
		`func f() { unix.SendmsgN(1, nil, nil, nil, 0) }`:                  1,
		`func f() { net.Listen("tcp", "") }`:                               0,
		`func f() { net.DialUnix("unixgram", nil, nil) }`:                  0,
		`func f(net struct{ Dial func() }) { net.Dial() }`:                 0,
	} {
		f, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x\n"+text, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := dialsIn(f); len(got) != want {
			t.Errorf("%s: %q", text, got)
		}
	}
}

// sources parses all files of the module that are no tests, by path.
func sources(t *testing.T) map[string]*ast.File {
	t.Helper()
	root := filepath.Join("..", "..")
	all := map[string]*ast.File{}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != "." && d.Name() != ".." {
			return filepath.SkipDir
		}
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		all[filepath.ToSlash(rel)] = f
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
