package tun

import (
	"strings"
	"testing"

	"github.com/google/nftables"
)

// A table that was changed before it was read back is not taken for ours; the written one
// is.
func TestReadBack(t *testing.T) {
	g := newGateway(t, testConfig())
	for _, line := range []string{
		"nft flush set inet sslgate captured", "nft flush set inet sslgate captured_index", "nft flush set inet sslgate ports",
		"nft flush chain inet sslgate steer", "nft delete table inet sslgate",
	} {
		var before, after string
		var made, still bool
		g.gw.do(func() error {
			s := g.steer
			if err := s.writeTable(true); err != nil {
				return err
			}
			before = s.written
			return nil
		})
		g.gw.run(line)
		g.gw.do(func() (err error) {
			s := g.steer
			at, err := s.lookAtInterfaces()
			if err != nil {
				return err
			}
			conn, err := nftables.New() // nothing of it is sent
			if err != nil {
				return err
			}
			b := s.builder(conn)
			if err := b.sets(&at); err != nil {
				return err
			}
			b.lines = strings.Count(before, "\n") - 1
			if after, err = s.listTable(); err != nil {
				return err
			}
			made, still = b.made(before), b.made(after)
			return nil
		})
		if before == "" || !made || still {
			t.Errorf("%s: ours %t, changed one %t\n%s\n%s", line, made, still, before, after)
		}
	}
}
