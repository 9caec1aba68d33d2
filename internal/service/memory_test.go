package service

import (
	"bytes"
	"context"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/memory"
)

// Status and metrics say where the memory is and how near the ceiling, and the
// collector's limit is set from it while the service runs.
func TestMemoryIsSeen(t *testing.T) {
	h := newHouse(t)
	conn := h.good()
	defer conn.Close()
	st, err := h.api.Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	m := st.Memory
	if m == nil || m.Ceiling != memory.DefaultCeiling() || m.Level != "calm" || m.Refused != 0 {
		t.Fatalf("%+v", m)
	}
	parts := m.Parts
	for _, name := range []string{"heap_live", "stacks", "runtime", "relay_buffers", "record_buffers", "flows", "chain_cache", "crl"} {
		// An idle flow holds no buffer, and there are no lists here.
		if parts[name] == 0 && name != "crl" && !strings.HasSuffix(name, "_buffers") {
			t.Errorf("part %s is nothing: %v", name, parts)
		}
		if _, ok := parts[name]; !ok {
			t.Errorf("no part %s", name)
		}
	}
	for deadline := testenv.Deadline(); m.Resident == 0 && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		st, err := h.api.Status(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		m = st.Memory
	}
	if m.Resident < m.InUse || m.InUse == 0 {
		t.Errorf("%+v", m)
	}
	if limit := debug.SetMemoryLimit(-1); limit >= m.Ceiling || limit < m.Ceiling*3/4 {
		t.Errorf("GOMEMLIMIT is %d with a ceiling of %d", limit, m.Ceiling)
	}
	_, text := h.ask("GET", "/metrics", "", nil)
	for _, want := range []string{`sslgate_memory_bytes{part="socket_send"}`, `sslgate_memory_bytes{part="audit_queue"}`, `sslgate_memory_bytes{part="record_buffers"}`, "sslgate_memory_level 0", "sslgate_memory_ceiling_bytes"} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("metrics lack %s", want)
		}
	}
}
