package service

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/config"
)

// Which files are in force is seen at the status and at each reload, and is what
// `check` says of them: a byte more in any is another snapshot, also where the policy
// is the same; one that was refused is in force nowhere.
func TestSnapshotIsShown(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	status := func() string {
		t.Helper()
		st, err := h.api.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return st.Snapshot
	}
	file := filepath.Join(h.dir, "sslgate.yaml")
	first := status()
	if rt, found := config.Check(file, stdtls.New()); rt == nil || len(first) != 64 || rt.Snapshot != first {
		t.Fatalf("%q shown: %v", first, found)
	}
	h.s.mu.Lock()
	h.s.rt.Config.Admin.HTTP = "127.0.0.1:9440" // as in the file: a reload cannot change it
	h.s.mu.Unlock()
	key, err := os.ReadFile(filepath.Join(h.dir, "srv.key"))
	if err != nil {
		t.Fatal(err)
	}
	h.put("srv.key", 0o600, append(key, '\n'))
	res, taken, err := h.api.Reload(ctx)
	if err != nil || !taken || res.Policy != res.Before || res.SnapshotBefore != first || res.Snapshot == first || status() != res.Snapshot {
		t.Errorf("a key with a byte more: %v, %v, %+v", err, taken, res)
	}
	second := res.Snapshot
	h.put("sslgate.yaml", 0o644, []byte(strings.Replace(houseConfig, "version: 1", "version: 2", 1)))
	if res, taken, err = h.api.Reload(ctx); err != nil || taken || res.Snapshot != second || status() != second {
		t.Errorf("a configuration that is refused: %v, %v, %+v", err, taken, res)
	}
}
