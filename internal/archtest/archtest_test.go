// Package archtest holds the structural rules of the project as tests: which package may import
// which, and which calls are banned, each with its reason.
package archtest

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/sslgate/sslgate/"

type pkg struct {
	ImportPath string
	Imports    []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 10 {
		t.Fatalf("only %d packages listed: the test looks at the wrong tree", len(all))
	}
	return all
}

// ban forbids an import (a prefix) to all packages below from, except those in except (exact
// import paths below the module, or prefixes with "/...").
type ban struct {
	from, what string
	except     []string
	why        string
}

var bans = []ban{
	{"", "gvisor.dev/", []string{"stack/..."}, "no gVisor type leaves stack"},
	{"", "github.com/songgao/water", []string{"tun"}, "water is driven in one place"},
	{"handshake", module + "policy", nil, "a callback type carries the decision: handshake knows nothing of rules"},
	{"handshake", module + "stack", nil, "a handshake runs on any net.Conn"},
	{"handshake", module + "tun", nil, "a handshake runs on any net.Conn"},
	{"handshake", "go.uber.org/zap", nil, "what happened is in the ledger and the error; whoever called logs it"},
	{"stack", module + "handshake", nil, "the stack carries bytes, whatever they mean"},
	{"stack", module + "policy", nil, "the stack asks its Handler"},
	{"stack", module + "internal/gateway", nil, "packets flow tun, stack, gateway: one way"},
	{"tun", module + "stack", nil, "packets flow tun, stack, gateway: one way"},
	{"tun", module + "handshake", nil, "the device knows nothing of TLS"},
	{"tun", module + "policy", nil, "the device knows nothing of rules"},
	{"policy", "os", nil, "policy is pure: no files"},
	{"policy", "net", nil, "policy is pure: no sockets (net/netip is fine)"},
	{"policy", "io", nil, "policy is pure"},
	{"policy", module + "stack", nil, "policy decides on facts"},
	{"policy", module + "tun", nil, "policy decides on facts"},
	{"policy", "go.uber.org/zap", nil, "policy explains itself in the verdict"},
	{"internal/reason", module, nil, "a leaf that everyone may import"},
	{"internal/fielderr", module, nil, "a leaf that everyone may import"},
	{"internal/escape", module, nil, "a leaf that everyone may import"},
	{"internal/certname", module, nil, "a leaf that everyone may import"},
	{"internal/keyusage", module, nil, "a leaf that everyone may import"},
	{"internal/config", "os", []string{"internal/config/docgen"}, "what a configuration names is read from its fileset.Source: memory is as good as a disk"},
	{"internal/config", module + "internal/readfile", nil, "what a configuration names is read from its fileset.Source: memory is as good as a disk"},
	{"internal/admin", module + "internal/readfile", nil, "the token is read with the configuration"},
	{"internal/mint", "os", nil, "certificates and keys come from the configuration"},
	{"internal/fileset", module + "internal/config", nil, "it knows files, not what is in them"},
	{"internal/audit", module + "stack", nil, "the record is written for any flow"},
	{"internal/audit", module + "policy", nil, "the record carries words, not rules"},
	{"", "testing", []string{"internal/lab/testenv", "internal/lab/testpki", "internal/lab/handshaketest", "internal/lab/pebble", "internal/lab/spire", "stack/stacktest", "tun/tuntest"}, "test code stays in tests"},
	{"", "log", nil, "zap is the logger"},
	{"", "math/rand", nil, "math/rand/v2, or crypto/rand for secrets"},
}

func covers(pattern, path string) bool {
	if p, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == p || strings.HasPrefix(path, p+"/")
	}
	return path == pattern
}

func TestImports(t *testing.T) {
	for _, p := range packages(t) {
		self := strings.TrimPrefix(p.ImportPath, module)
		for _, b := range bans {
			if b.from != "" && !covers(b.from+"/...", self) {
				continue
			}
			excepted := false
			for _, e := range b.except {
				excepted = excepted || covers(e, self)
			}
			if excepted {
				continue
			}
			for _, imp := range p.Imports {
				if imp == b.what || strings.HasSuffix(b.what, "/") && strings.HasPrefix(imp, b.what) || strings.HasPrefix(imp, b.what+"/") && strings.HasPrefix(b.what, module) {
					t.Errorf("%s imports %s: %s", self, imp, b.why)
				}
			}
		}
	}
}

const openReason = "internal/readfile opens the files that people name: whoever may write their directory puts a named pipe there, and the open waits for ever"

// opensFiles are the places that may open files by themselves: the one helper, code that
// opens only files of the kernel (/proc, /sys, /dev) or files that it has made itself, and
// the programs of tests and measurements.
var opensFiles = []string{
	"internal/readfile/",
	"tun/", "internal/memory/", "internal/doctor/kernel.go", "internal/service/buffers.go", // /proc, /sys
	"internal/lab/", "internal/lab/testenv/", "internal/lab/testpki/",
	"internal/lab/demo/", "internal/lab/bench/", "internal/lab/soak/", "internal/lab/attack/", "internal/lab/pebble/", "internal/lab/spire/",
	"internal/pki/store.go", "internal/writefile/", // directories
	"internal/config/docgen/",
	"internal/fleet/member/held.go", // of its state directory, to lock them
}

const readReason = "what a configuration names is read from its fileset.Source, and once"

// readsFiles are the places that read files of the disk, whatever the configuration is
// read from: those of command lines, and those in the state directory.
var readsFiles = []string{
	"internal/fileset/disk.go", "cmd/sslgate/", "internal/pki/store.go", "internal/probe/certs.go",
	"internal/revocation/copies.go", "internal/revocation/state.go",
	"internal/fleet/bundle/files.go", "internal/fleet/member/state.go", "internal/acmeclient/account.go",
}

// calls that are banned outside the named folders.
var badCalls = []struct {
	pkg, name string
	allowed   []string
	why       string
}{
	{"os", "Exit", []string{"cmd/sslgate/main.go", "signers/pkcs11/main.go", "internal/lab/bench/cmd/main.go", "internal/lab/bogo/cmd/main.go", "internal/lab/soak/cmd/main.go", "internal/lab/delays/overlay/main.go", "internal/config/docgen/"}, "only main ends the process; commands return an exit code"},
	{"time", "Now", nil, "in policy time is a fact"}, // looked for in policy only, see below
	{"os", "Open", opensFiles, openReason},
	{"os", "OpenFile", append([]string{"internal/audit/file.go"}, opensFiles...), openReason},
	{"os", "ReadFile", opensFiles, openReason},
	{"os", "DirFS", opensFiles, openReason},
	{"os", "OpenRoot", opensFiles, openReason},
	{"ioutil", "ReadFile", nil, openReason},
	{"readfile", "All", readsFiles, readReason},
	{"readfile", "Names", readsFiles, readReason},
	{"unix", "Open", opensFiles, openReason},
	{"syscall", "Open", opensFiles, openReason},
	{"pem", "Decode", nil, "it passes over damaged and disguised blocks in silence: internal/pemfile reads or refuses them"},
	{"tls", "LoadX509KeyPair", opensFiles, openReason},
	{"fmt", "Print", []string{"internal/config/docgen/"}, "write to the writer that was handed in"},
	{"fmt", "Println", []string{"internal/config/docgen/"}, "write to the writer that was handed in"},
	{"fmt", "Printf", []string{"internal/config/docgen/"}, "write to the writer that was handed in"},
}

func TestBannedCallsAndSizes(t *testing.T) {
	root := filepath.Join("..", "..")
	files := 0
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != "." && d.Name() != ".." {
			return filepath.SkipDir
		}
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		files++
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if n := bytes.Count(src, []byte("\n")); n > 450 {
			t.Errorf("%s has %d lines: a file over about 400 is asking to be split", rel, n)
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, src, parser.ParseComments)
		if err != nil {
			return err
		}
		checkFile(t, rel, fset, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 30 {
		t.Fatalf("only %d files looked at: the test walks the wrong tree", files)
	}
}

func checkFile(t *testing.T, rel string, fset *token.FileSet, f *ast.File) {
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Name.Name == "init" && n.Recv == nil {
				t.Errorf("%s: func init: nothing happens by importing", rel)
			}
		case *ast.CallExpr:
			sel, ok := n.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			for _, b := range badCalls {
				if x.Name != b.pkg || sel.Sel.Name != b.name || b.pkg == "time" && !strings.HasPrefix(rel, "policy/") {
					continue
				}
				allowed := false
				for _, a := range b.allowed {
					allowed = allowed || strings.HasPrefix(rel, a)
				}
				if !allowed {
					t.Errorf("%s:%d calls %s.%s: %s", rel, fset.Position(n.Pos()).Line, b.pkg, b.name, b.why)
				}
			}
		}
		return true
	})
}

// Every package says in one sentence what it is.
func TestPackageDocs(t *testing.T) {
	cmd := exec.Command("go", "list", "-f", "{{.ImportPath}}\t{{.Doc}}", module+"...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		path, doc, _ := strings.Cut(line, "\t")
		if doc == "" && !strings.HasSuffix(path, "/archtest") && !strings.HasSuffix(path, "/e2e") {
			t.Errorf("%s has no package comment", path)
		}
	}
}
