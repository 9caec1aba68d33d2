package handshake

import (
	"strings"
	"testing"
)

func TestListedIsBounded(t *testing.T) {
	var ids []uint16
	for id := range uint16(200) {
		ids = append(ids, id)
	}
	got := listed(ids, SuiteName)
	if !strings.HasSuffix(got, " and 184 more") || strings.Count(got, ",") != maxListed-1 || len(got) > 1000 {
		t.Errorf("got %d bytes: %s", len(got), got)
	}
}
