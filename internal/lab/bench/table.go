package bench

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// table lays rows out: a line a figure, a column a peer, and sslgate's ratio
// to each of the others.
type table struct {
	peers  []Peer // that have a row
	ratios []Peer // that sslgate is compared with
	head   []string
	lines  [][]string
}

func newTable(rows []Row) *table {
	t := &table{}
	var names []string
	cells := map[string]map[Peer]Row{}
	for _, r := range rows {
		if cells[r.Test] == nil {
			cells[r.Test] = map[Peer]Row{}
			names = append(names, r.Test)
		}
		cells[r.Test][r.Peer] = r
	}
	for _, p := range Peers() {
		if !slices.ContainsFunc(rows, func(r Row) bool { return r.Peer == p }) {
			continue
		}
		t.peers = append(t.peers, p)
		if slices.ContainsFunc(rows, func(r Row) bool { _, ok := r.Ratio[p]; return ok && r.Peer == SSLGate }) {
			t.ratios = append(t.ratios, p)
		}
	}
	t.head = []string{"test", "unit"}
	for _, p := range t.peers {
		t.head = append(t.head, string(p))
	}
	for _, p := range t.ratios {
		t.head = append(t.head, "/"+string(p))
	}
	for _, name := range names {
		var unit string
		for _, r := range cells[name] {
			unit = r.Unit
		}
		line := []string{name, unit}
		for _, p := range t.peers {
			line = append(line, cell(cells[name], p))
		}
		for _, p := range t.ratios {
			text := ""
			if ratio, ok := cells[name][SSLGate].Ratio[p]; ok {
				text = fmt.Sprintf("%.2f", float64(ratio))
			}
			line = append(line, text)
		}
		t.lines = append(t.lines, line)
	}
	return t
}

// cell is the median, with the spread where there is one.
func cell(row map[Peer]Row, p Peer) string {
	r, ok := row[p]
	if !ok {
		return "-"
	}
	if r.Spread[0] == r.Spread[1] {
		return r.Value.text(3)
	}
	return fmt.Sprintf("%s (%s-%s)", r.Value.text(3), r.Spread[0].text(3), r.Spread[1].text(3))
}

// write prints the table for a terminal, as wide as it has to be.
func (t *table) write(w io.Writer) {
	widths := make([]int, len(t.head))
	for _, line := range append([][]string{t.head}, t.lines...) {
		for i, c := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	for _, line := range append([][]string{t.head}, t.lines...) {
		var b strings.Builder
		for i, c := range line {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c))
			if i < 2 {
				b.WriteString(c + pad + "  ")
			} else {
				b.WriteString(pad + c + "  ")
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

// markdown prints the table as GitHub's Markdown has it.
func (t *table) markdown(w io.Writer) {
	fmt.Fprintf(w, "| %s |\n|---|---|%s\n", strings.Join(t.head, " | "), strings.Repeat("---:|", len(t.head)-2))
	for _, line := range t.lines {
		fmt.Fprintf(w, "| %s |\n", strings.Join(line, " | "))
	}
}
