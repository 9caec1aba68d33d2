// Package diagram draws what happened to a flow the way textbooks draw the
// handshake: three columns, client, sslgate and destination, an arrow for
// every message, with the step of the classic handshake on the left and the
// time on the right. It is 80 columns of plain text.
//
// record.go reads a flow back from a line of the audit record.
package diagram

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/escape"
)

// Leg is one of the two handshakes of a flow: its ledger.
type Leg struct {
	Entries []handshake.Entry
	// Lost is the number of entries the ledger had no room for.
	Lost int
}

// Flow is what is drawn. Both legs count time from the start of the flow.
type Flow struct {
	Client      Leg
	Destination Leg
	// NoClient leaves the client's lifeline out: sslgate came by itself.
	NoClient bool
	// Plain says that the client speaks without TLS: the steps are those with the destination.
	Plain bool
}

// The layout, in columns from 0. Between the lifelines are 27 columns each:
// room for the longest message name (EncryptedExtensions) with its size.
const (
	width       = 80
	clientCol   = 5
	gateCol     = 33
	destCol     = 61
	gap         = 27
	factsWidth  = gap - 2
	factsWide   = 36 // while there is no destination lifeline yet
	maxFactRows = 8  // a peer's text must not fill the screen
)

// Draw returns the picture, each line at most 80 columns and ended by a
// newline; "" for a flow without any entry. Whatever a peer sent is escaped.
func (f Flow) Draw() string {
	rows := f.rows()
	if len(rows) == 0 {
		return ""
	}
	var b strings.Builder
	head := blank()
	head.put(0, "step client")
	if f.NoClient {
		head.put(5, "      ")
	}
	head.center(gateCol, "sslgate")
	head.center(destCol, "destination")
	head.right("ms")
	b.WriteString(head.String())
	dest := false
	step := handshake.StepNone
	for _, r := range rows {
		dest = dest || r.dest
		for i, l := range r.draw(dest) {
			if i == 0 && r.Step != handshake.StepNone && r.Step != step {
				l.put(2, fmt.Sprint(uint8(r.Step)))
			}
			if f.NoClient && l.cells[clientCol] == '|' {
				l.cells[clientCol] = ' '
			}
			b.WriteString(l.String())
		}
		step = r.Step
	}
	if lost := f.Client.Lost + f.Destination.Lost; lost > 0 {
		fmt.Fprintf(&b, "      ... and %d more\n", lost)
	}
	return b.String()
}

// NotSeen lists the steps without an entry in the client's leg, or in the destination's where
// the client speaks without TLS, in words: "5 client certificate". What a destination makes of
// our certificate (step 6) does not show. Step 4 of TLS 1.3 is part of the hellos, and step 3 shows only if the
// client objects, so neither is listed.
func (f Flow) NotSeen() []string {
	var seen [handshake.StepApplicationData + 1]bool
	entries := f.Client.Entries
	if f.Plain {
		entries = f.Destination.Entries
	}
	for _, e := range entries {
		if int(e.Step) < len(seen) && e.Message != "Alert" {
			seen[e.Step] = true
		}
	}
	var not []string
	for s := handshake.StepClientHello; s <= handshake.StepApplicationData; s++ {
		if !seen[s] && s != handshake.StepServerVerified && s != handshake.StepKeyExchange && !(f.Plain && s == handshake.StepClientVerified) {
			not = append(not, fmt.Sprintf("%d %s", uint8(s), s))
		}
	}
	return not
}

// row is one entry with the leg it belongs to.
type row struct {
	handshake.Entry
	dest bool
}

// rows merges both ledgers by time; each ledger keeps its own order.
func (f Flow) rows() []row {
	var all []row
	for _, e := range f.Client.Entries {
		all = append(all, row{e, false})
	}
	for _, e := range f.Destination.Entries {
		all = append(all, row{e, true})
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].At < all[j].At })
	return all
}

// draw returns the lines of one entry: the arrow, with the facts beside it in
// the other leg's gap, and further lines where the facts are long.
func (r row) draw(dest bool) []*line {
	room := factsWidth
	if !dest {
		room = factsWide
	}
	facts := wrap(clean(r.facts()), room, maxFactRows)
	left, factsCol := clientCol, gateCol+2
	if r.dest {
		left, factsCol = gateCol, clientCol+2
	}
	first := newLine(dest)
	if r.Message == "" {
		// A decision stands at the lifeline of the side that made it, with its name in the
		// gap of its leg.
		text, at := r.Step.String(), left
		if (r.From == handshake.SideUs) != r.dest {
			at = left + gap + 1
			first.put(at-1-len(text), text)
		} else {
			first.put(at+2, text)
		}
		first.put(at, "*")
	} else {
		first.put(left+1, r.arrow())
	}
	first.right(millis(r.At))
	lines := []*line{first}
	for i, part := range facts {
		if i > 0 {
			lines = append(lines, newLine(dest))
		}
		lines[i].put(factsCol, part)
	}
	return lines
}

func (r row) facts() string {
	if r.Alert == handshake.AlertNone || strings.Contains(r.Facts, r.Alert.String()) {
		return r.Facts
	}
	return strings.TrimSpace(r.Alert.String() + " " + r.Facts)
}

// arrow is 27 columns with the message and its size.
func (r row) arrow() string {
	label := clean(r.Message)
	stroke := "-"
	if r.Message == "Alert" {
		label, stroke = fmt.Sprintf("ALERT %d", uint8(r.Alert)), "="
	} else if r.Size > 0 {
		label = fmt.Sprintf("%s %d", label, r.Size)
	}
	label = " " + cut(label, gap-5) + " "
	rest := strings.Repeat(stroke, gap-2-len([]rune(label)))
	// The peer is left of sslgate on the client's leg and right of it on the destination's.
	if rightwards := (r.From == handshake.SidePeer) != r.dest; rightwards {
		return stroke + label + rest + ">"
	}
	return "<" + rest + label + stroke
}

func millis(d time.Duration) string {
	return fmt.Sprintf("%d.%03d", d.Milliseconds(), d.Microseconds()%1000)
}

// clean escapes what a peer sent. Text from the audit record, which is escaped already, stays
// as it is.
func clean(s string) string {
	return escape.Shown(s, 0)
}

// cut shortens s to at most n columns.
func cut(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-2]) + ".."
	}
	return s
}

// wrap breaks s into at most rows lines of n columns: at a space, else after punctuation,
// else anywhere.
func wrap(s string, n, rows int) []string {
	var out []string
	for rest := []rune(strings.TrimSpace(s)); len(rest) > 0; {
		if len(rest) <= n {
			return append(out, string(rest))
		}
		if len(out) == rows-1 {
			return append(out, cut(string(rest), n))
		}
		at := n
		for _, sep := range []string{" ", "_,/.-"} {
			if i := lastAny(rest[:n+1], sep); i > n/2 {
				at = min(i+1, n)
				break
			}
		}
		out = append(out, strings.TrimSpace(string(rest[:at])))
		rest = []rune(strings.TrimSpace(string(rest[at:])))
	}
	return out
}

func lastAny(r []rune, set string) int {
	for i := len(r) - 1; i >= 0; i-- {
		if strings.ContainsRune(set, r[i]) {
			return i
		}
	}
	return -1
}

// line is one line of the picture, with the lifelines drawn.
type line struct{ cells [width]rune }

func blank() *line {
	l := &line{}
	for i := range l.cells {
		l.cells[i] = ' '
	}
	return l
}

func newLine(dest bool) *line {
	l := blank()
	l.cells[clientCol], l.cells[gateCol] = '|', '|'
	if dest {
		l.cells[destCol] = '|'
	}
	return l
}

func (l *line) put(col int, s string) {
	for _, r := range s {
		if col >= 0 && col < width {
			l.cells[col] = r
		}
		col++
	}
}

func (l *line) center(col int, s string) { l.put(col-len(s)/2, s) }

func (l *line) right(s string) { l.put(width-len(s), s) }

func (l *line) String() string { return strings.TrimRight(string(l.cells[:]), " ") + "\n" }
