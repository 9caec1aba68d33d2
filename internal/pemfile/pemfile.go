// Package pemfile reads PEM files (RFC 7468) as people write them, and skips nothing
// silently. encoding/pem skips what it does not understand: a trust anchor or a
// revocation list that is indented, quoted, behind a byte order mark or on one line with
// the block before it would be missing without any message. Here each block that a person
// would see in the file is read, or the file is refused with the line and what to do
// about it.
//
// Accepted are: byte order marks anywhere, indentation and other white space, lines that
// end with LF, CRLF or CR, END and BEGIN on one line, and text between the blocks, as
// `openssl x509 -text` writes it.
package pemfile

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/sslgate/sslgate/internal/escape"
)

// Error is a mistake in a file, in a line counted from 1.
type Error struct {
	Line int
	Msg  string
}

// Error names the line.
func (e *Error) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Msg) }

// Block is one block and where its BEGIN line stands.
type Block struct {
	pem.Block
	Line int
}

// ErrNone is returned for a file without any block, or anything that resembles one.
var ErrNone = errors.New(`is no PEM file (no line begins with "-----BEGIN ")`)

const (
	dashes = "-----"
	begin  = dashes + "BEGIN "
	end    = dashes + "END "
	bom    = "\ufeff"
)

// maxHeaders bounds the headers of a block (RFC 1421, section 4.6): an
// encrypted key has two.
const maxHeaders = 16

// Each calls f for each block of data, in order. The error is f's, or an *Error, or
// ErrNone. It takes linear time in the length of data, and the memory of one block.
func Each(data []byte, f func(Block) error) error {
	if err := notText(data); err != nil {
		return err
	}
	r := reader{data: data}
	found := false
	for {
		b, err := r.block()
		if err != nil {
			return err
		}
		if b == nil {
			break
		}
		found = true
		if err := f(*b); err != nil {
			return err
		}
	}
	if !found {
		return ErrNone
	}
	return nil
}

// reader walks the lines.
type reader struct {
	data []byte // what is left
	line int    // of the last one
	held []byte // the rest of a line that held END and BEGIN
	bare run    // base64 text outside of blocks
}

// next returns a line without its end, byte order marks and white space around
// it; false at the end of the file.
func (r *reader) next() ([]byte, bool) {
	if r.held != nil {
		l := r.held
		r.held = nil
		return l, true
	}
	if len(r.data) == 0 {
		return nil, false
	}
	r.line++
	i := bytes.IndexAny(r.data, "\r\n")
	l := r.data
	if i < 0 {
		r.data = nil
	} else {
		l = r.data[:i]
		if r.data[i] == '\r' && i+1 < len(r.data) && r.data[i+1] == '\n' {
			i++
		}
		r.data = r.data[i+1:]
	}
	if bytes.Contains(l, []byte(bom)) {
		l = bytes.ReplaceAll(l, []byte(bom), nil)
	}
	return bytes.TrimSpace(l), true
}

func (r *reader) failf(line int, format string, args ...any) error {
	return &Error{line, fmt.Sprintf(format, args...)}
}

// block finds the next block and reads it; nil at the end of the file.
func (r *reader) block() (*Block, error) {
	for {
		l, ok := r.next()
		if !ok {
			return nil, nil
		}
		if label, ok := marker(l, begin); ok {
			r.bare = run{}
			return r.body(label)
		}
		if err := r.between(l); err != nil {
			return nil, err
		}
	}
}

// marker returns the label of a line "-----BEGIN LABEL-----", or END.
func marker(l []byte, what string) (label string, ok bool) {
	if !bytes.HasPrefix(l, []byte(what)) || !bytes.HasSuffix(l, []byte(dashes)) || len(l) <= len(what)+len(dashes) {
		return "", false
	}
	name := l[len(what) : len(l)-len(dashes)]
	if bytes.Contains(name, []byte("--")) || len(name) > 64 || name[0] == '-' || name[len(name)-1] == '-' {
		return "", false
	}
	for _, c := range name {
		if c < 0x20 || c > 0x7e {
			return "", false
		}
	}
	return string(name), true
}

// body reads what follows a BEGIN line, to its END line.
func (r *reader) body(label string) (*Block, error) {
	b := &Block{Block: pem.Block{Type: label}, Line: r.line}
	d := decoder{}
	if i := bytes.Index(r.data, []byte(end)); i > 0 {
		d.out = make([]byte, 0, i/4*3+3)
	}
	for {
		l, ok := r.next()
		if !ok {
			return nil, r.failf(b.Line, "the block that begins here, %s, has no END line: the file is cut short", quote(label))
		}
		if len(l) == 0 {
			continue
		}
		if l[0] == '-' {
			done, err := r.ends(l, b)
			if err != nil {
				return nil, err
			}
			if done {
				break
			}
		}
		if !d.begun && bytes.IndexByte(l, ':') > 0 {
			if err := r.header(b, l); err != nil {
				return nil, err
			}
			continue
		}
		if msg := d.add(l); msg != "" {
			return nil, r.failf(r.line, "inside of the block that begins in line %d: %s", b.Line, msg)
		}
	}
	if msg := d.finish(); msg != "" {
		return nil, r.failf(b.Line, "the block that begins here, %s: %s", quote(label), msg)
	}
	b.Bytes = d.out
	return b, nil
}

// ends says whether l is the END line of b. The BEGIN line of the next block may follow
// on the same line, as `cat` joins files whose last line has no end.
func (r *reader) ends(l []byte, b *Block) (bool, error) {
	if label, ok := marker(l, begin); ok {
		return false, r.failf(b.Line, "the block that begins here, %s, is not ended before the next one begins (%s, line %d)", quote(b.Type), quote(label), r.line)
	}
	if i := bytes.Index(l, []byte(dashes+begin)); i > 0 {
		if _, ok := marker(l[i+len(dashes):], begin); ok {
			l, r.held = l[:i+len(dashes)], l[i+len(dashes):]
		}
	}
	label, ok := marker(l, end)
	switch {
	case !ok:
		return false, r.failf(r.line, "%s, where the block that begins in line %d should end with a line %s%s%s and nothing else", quote(string(l)), b.Line, end, escape.String(b.Type, 64), dashes)
	case label != b.Type:
		return false, r.failf(r.line, "the block that begins in line %d is %s and ends as %s: is something missing between them?", b.Line, quote(b.Type), quote(label))
	}
	return true, nil
}

// header reads a line "Name: value" before the base64 text.
func (r *reader) header(b *Block, l []byte) error {
	name, value, _ := bytes.Cut(l, []byte(":"))
	if seen := disguised(l); seen != "" || !isHeader(name) {
		return r.failf(r.line, "inside of the block that begins in line %d: %s is no header and no base64 text", b.Line, quote(string(l)))
	}
	if b.Headers == nil {
		b.Headers = map[string]string{}
	}
	if len(b.Headers) == maxHeaders {
		return r.failf(r.line, "the block that begins in line %d has more than %d headers", b.Line, maxHeaders)
	}
	b.Headers[string(bytes.TrimSpace(name))] = string(bytes.TrimSpace(value))
	return nil
}

// decoder decodes the base64 text of a block (RFC 4648, section 4) line by line, so that
// no second copy of the text is needed.
type decoder struct {
	out   []byte
	rest  [4]byte // characters of an incomplete group of four
	n     int     // number of characters in rest
	begun bool
	over  bool // padding was seen
}

// add decodes a line; it returns what is wrong with the line, or "".
func (d *decoder) add(l []byte) string {
	d.begun = true
	for len(l) > 0 {
		if d.n == 0 && !d.over && len(l) >= 4 {
			// Decode whole groups at once, up to the padding.
			whole := len(l) &^ 3
			if i := bytes.IndexByte(l[:whole], '='); i >= 0 {
				whole = i &^ 3
			}
			if whole > 0 {
				if msg := d.decode(l[:whole]); msg != "" {
					return msg
				}
				l = l[whole:]
				continue
			}
		}
		c := l[0]
		l = l[1:]
		if c == ' ' || c == '\t' {
			continue
		}
		if d.over {
			return "text behind the end of the base64 text"
		}
		d.rest[d.n] = c
		if d.n++; d.n == 4 {
			d.n, d.over = 0, c == '='
			if msg := d.decode(d.rest[:]); msg != "" {
				return msg
			}
		}
	}
	return ""
}

// decode appends whole groups.
func (d *decoder) decode(groups []byte) string {
	out, err := base64.StdEncoding.AppendDecode(d.out, groups)
	if err != nil {
		if bytes.ContainsAny(groups, " \t") { // it has blanks inside: try again without them
			groups = bytes.Join(bytes.Fields(groups), nil)
			return d.add(groups)
		}
		return "it is no base64 text: " + quote(string(groups[:min(len(groups), 80)]))
	}
	d.out = out
	return ""
}

func (d *decoder) finish() string {
	switch {
	case d.n != 0:
		return "its base64 text is cut short"
	case len(d.out) == 0:
		return "it is empty"
	}
	return ""
}

func quote(s string) string { return `"` + escape.String(s, 80) + `"` }
