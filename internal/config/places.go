package config

import (
	"strconv"
	"strings"

	"github.com/sslgate/sslgate/internal/fielderr"
)

// places knows where in the file each path stands. Keys are canonical paths.
type places map[string]place

// nearest is the place of the path, or of its nearest parent that is there.
// The top of the file has the empty path.
func (ps places) nearest(path string) place {
	segs := segments(path)
	for n := len(segs); n > 0; n-- {
		if p, ok := ps[joinSegments(segs[:n])]; ok {
			return p
		}
	}
	return ps[""]
}

// within says whether path is root or lies below it.
func within(root, path string) bool {
	r, p := segments(root), segments(path)
	if len(p) < len(r) {
		return false
	}
	return joinSegments(p[:len(r)]) == joinSegments(r)
}

// keyPath is the path of a key below parent: parent.key, or parent["k e y"]
// for a key that is not a plain word.
func keyPath(parent, key string) string {
	return fielderr.Join(parent, keySegment(key))
}

func indexPath(parent string, i int) string {
	return parent + "[" + strconv.Itoa(i) + "]"
}

func keySegment(key string) string {
	if isWord(key) {
		return key
	}
	return "[" + strconv.Quote(key) + "]"
}

// isWord says whether a key may stand in a path without quotes.
func isWord(key string) bool {
	for _, r := range key {
		switch {
		case r == '_', r == '-', r >= '0' && r <= '9', r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z':
		default:
			return false
		}
	}
	return key != ""
}

// segments takes a path apart: `a.b["c d"][0]` is a, b, ["c d"], [0]. Quotes
// that are not needed are dropped. What is not well formed stays as it is.
func segments(path string) []string {
	var segs []string
	for path != "" {
		switch path[0] {
		case '.':
			path = path[1:]
		case '[':
			if q, err := strconv.QuotedPrefix(path[1:]); err == nil && strings.HasPrefix(path[1+len(q):], "]") {
				key, _ := strconv.Unquote(q)
				segs = append(segs, keySegment(key))
				path = path[len(q)+2:]
				continue
			}
			end := strings.IndexByte(path, ']')
			if end < 0 {
				return append(segs, path)
			}
			segs, path = append(segs, path[:end+1]), path[end+1:]
		default:
			end := strings.IndexAny(path, ".[")
			if end < 0 {
				end = len(path)
			}
			segs, path = append(segs, path[:end]), path[end:]
		}
	}
	return segs
}

func joinSegments(segs []string) string {
	path := ""
	for _, s := range segs {
		path = fielderr.Join(path, s)
	}
	return path
}
