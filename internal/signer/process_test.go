package signer

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// A process of its own says of itself that neither a core dump nor another process gets at what
// it has in memory.
func TestUndumpable(t *testing.T) {
	const inside = "SSLGATE_TEST_UNDUMPABLE"
	if os.Getenv(inside) != "" {
		if err := Undumpable(); err != nil {
			t.Fatal(err)
		}
		var core unix.Rlimit
		dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		if err != nil || unix.Getrlimit(unix.RLIMIT_CORE, &core) != nil {
			t.Fatal(err)
		}
		fmt.Printf("dumpable %d, core %d %d\n", dumpable, core.Cur, core.Max)
		return
	}
	cmd := exec.CommandContext(testenv.Context(t), os.Args[0], "-test.run=^TestUndumpable$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "dumpable 0, core 0 0\n") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestUserOf(t *testing.T) {
	for who, want := range map[string]uint32{"0": 0, "root": 0, "998": 998} {
		if got, err := UserOf(who); err != nil || got != want {
			t.Errorf("%s: %d, %v", who, got, err)
		}
	}
	for _, who := range []string{"", "-1", "4294967296", "no such user"} {
		if n, err := UserOf(who); err == nil {
			t.Errorf("%q is user %d", who, n)
		}
	}
}
