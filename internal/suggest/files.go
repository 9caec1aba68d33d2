package suggest

import (
	"os"
	"path/filepath"
	"strings"
)

// TestName is the name of the tests of a configuration: next_test.yaml beside next.yaml.
func TestName(out string) string {
	ext := filepath.Ext(out)
	return strings.TrimSuffix(out, ext) + "_test" + ext
}

// WriteNew writes a file that must not exist yet, if it is usable.
func WriteNew(name string, text []byte, usable func(string) error) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".suggest-*") // of mode 0600: rules name people
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // it may be left, if the directory is gone
	if _, err := f.Write(text); err != nil {
		_ = f.Close() // the write has failed already
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := usable(f.Name()); err != nil {
		return err
	}
	return os.Link(f.Name(), name) // fails where there is one already
}
