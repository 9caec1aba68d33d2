package tun

import (
	"fmt"
	"slices"

	"github.com/google/nftables"
	"go.uber.org/zap"

	"github.com/sslgate/sslgate/tun/nftname"
)

// A flowtable of another program takes the packets of its flows at the ingress of an
// interface, past every chain of ours. No captured flow gets into one, because the guard
// comes before the chains that put flows in. But flows that were there before the guard
// stay until they end.

// CheckFlowtables names the flowtables that captured interfaces are in, in the network
// namespace of the caller.
func CheckFlowtables(interfaces ...string) ([]Trouble, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	all, err := listFlowtables(conn)
	return flowtableTroubles(all, OwnNames(interfaces...)), err
}

func listFlowtables(conn *nftables.Conn) ([]*nftables.Flowtable, error) {
	tables, err := conn.ListTables()
	if err != nil {
		return nil, fmt.Errorf("list the tables of nftables: %w", err)
	}
	var all []*nftables.Flowtable
	for _, t := range tables {
		of, err := conn.ListFlowtables(t)
		if err != nil {
			return nil, fmt.Errorf("list the flowtables of table %s: %w", t.Name, err)
		}
		all = append(all, of...)
	}
	return all, nil
}

func flowtableTroubles(all []*nftables.Flowtable, own []string) []Trouble {
	var found []Trouble
	for _, f := range all {
		for _, ifc := range own {
			if !slices.Contains(f.Devices, ifc) {
				continue
			}
			found = append(found, Trouble{Interface: ifc, Text: fmt.Sprintf(
				"%s is in flowtable %s of table %s %s: connections that were there before the gateway pass uninspected until they end; `conntrack -F` ends all of them, of others too",
				ifc, f.Name, nftname.Family(f.Table.Family), f.Table.Name)})
		}
	}
	return found
}

// noteFlowtables logs, at the start, which flowtables captured interfaces are in.
func (s *Steering) noteFlowtables() {
	all, err := listFlowtables(s.nft)
	if err != nil {
		s.log.Warn("flowtables cannot be listed: what is in one passes uninspected until it ends", zap.Error(err))
	}
	for _, t := range flowtableTroubles(all, s.at.own) {
		s.log.Warn("a flowtable may hold flows that pass uninspected", zap.String("interface", t.Interface), zap.String("what", t.Text))
	}
}
