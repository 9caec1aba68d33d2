package report

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// maxWindow bounds what a frame of zstd may look back, in bytes: that of `zstd --long` and
// `--ultra -22`.
const maxWindow = 128 << 20

// Unpack reads what gzip, zstd or bzip2 has compressed, and anything else as it is, whatever
// the name is. A beginning that is damaged is an error of the first Read; the error here is
// about another compression. done is to be called when nobody reads any more.
func Unpack(r io.Reader) (in io.Reader, done func(), err error) {
	raw := bufio.NewReaderSize(r, readBuffer)
	done = func() {}
	head, _ := raw.Peek(6) // less in a shorter file; what else is wrong comes with the next read
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}): // RFC 1952, section 2.3.1
		return &gunzip{raw: raw}, done, nil
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}): // RFC 8878, section 3.1.1
		// One goroutine: the reader's own.
		d, err := zstd.NewReader(raw, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, done, err
		}
		return d, d.Close, nil
	case bytes.HasPrefix(head, []byte("BZh")):
		return bzip2.NewReader(raw), done, nil
	}
	for magic, program := range map[string]string{"\xfd7zXZ\x00": "xz", "\x04\x22\x4d\x18": "lz4"} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return nil, done, fmt.Errorf("compressed by %s: give it uncompressed, `%s -dc FILE | sslgate ... -`", program, program)
		}
	}
	return raw, done, nil
}

// gunzip reads the header of gzip with the first bytes, so that a damaged one is like any
// other damage.
type gunzip struct {
	raw io.Reader
	z   *gzip.Reader
}

func (g *gunzip) Read(b []byte) (int, error) {
	if g.z == nil {
		z, err := gzip.NewReader(g.raw)
		if err == io.EOF { //nolint:errorlint // as it is: the header ends early
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return 0, err
		}
		g.z = z
	}
	return g.z.Read(b)
}
