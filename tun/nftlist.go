package tun

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// listTable lists our table as text. The text changes whenever something changes that
// matters to a packet: flags of the table (dormant!), chains, rules in their order
// without counters, elements of sets. It is empty if there is no table. listTable also
// stores the rules' counters in s.counts and the interfaces they have seen in s.seen.
func (s *Steering) listTable() (string, error) {
	t, err := s.nft.ListTableOfFamily(tableName, nftables.TableFamilyINet)
	if errors.Is(err, unix.ENOENT) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var text strings.Builder
	counts := map[string]uint64{}
	fmt.Fprintf(&text, "table %s flags %d\n", t.Name, t.Flags)
	if err := s.listSets(&text, t); err != nil {
		return "", err
	}
	chains, err := s.nft.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return "", err
	}
	chains = slices.DeleteFunc(chains, func(c *nftables.Chain) bool { return c.Table.Name != tableName })
	slices.SortFunc(chains, func(a, b *nftables.Chain) int { return strings.Compare(a.Name, b.Name) })
	for _, c := range chains {
		fmt.Fprintf(&text, "chain %s %s %s %s %s\n", c.Name, c.Type, value(c.Hooknum), value(c.Priority), value(c.Policy))
		rules, err := s.nft.GetRules(t, c)
		if err != nil {
			return "", err
		}
		for _, r := range rules {
			count(counts, r)
			for _, e := range r.Exprs {
				if _, counter := e.(*expr.Counter); !counter {
					fmt.Fprintf(&text, " %T%s", e, value(e))
				}
			}
			text.WriteByte('\n')
		}
	}
	s.counts = counts
	return text.String(), nil
}

func (s *Steering) listSets(text *strings.Builder, t *nftables.Table) error {
	sets, err := s.nft.GetSets(t)
	if err != nil {
		return err
	}
	seen := map[string][]string{}
	slices.SortFunc(sets, func(a, b *nftables.Set) int { return strings.Compare(a.Name, b.Name) })
	for _, set := range sets {
		elems, err := s.nft.GetSetElements(set)
		if err != nil {
			return err
		}
		keys := keysOf(elems)
		if set.Name == uncapturedSet || set.Name == uncapturedLocalSet {
			seen[set.Name], keys = interfaceNames(keys), nil
		}
		text.WriteString(setLine(set.Name, keys))
	}
	s.seen = seen
	return nil
}

// setLine is the line of listTable for a set with these elements.
func setLine(name string, keys [][]byte) string {
	keys = slices.Clone(keys)
	slices.SortFunc(keys, bytes.Compare)
	keys = slices.CompactFunc(keys, bytes.Equal)
	return fmt.Sprintf("set %s %x\n", name, keys)
}

// value formats what a pointer points at.
func value(p any) string {
	v := reflect.ValueOf(p)
	if v.Kind() != reflect.Pointer {
		return fmt.Sprintf("%+v", p)
	}
	if v.IsNil() {
		return "-"
	}
	return fmt.Sprintf("%+v", v.Elem().Interface())
}
