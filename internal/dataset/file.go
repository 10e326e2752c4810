package dataset

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
)

// peekBytes is how much of a file's beginning its format may be told by.
const peekBytes = 64 << 10

// file is one input file, decompressed, with the count of bytes that were read of it on disk.
type file struct {
	name    string
	size    int64 // bytes on disk
	read    atomic.Int64
	disk    *os.File
	text    *bufio.Reader // decompressed
	closers []func()
	packed  bool
}

// openFile opens a plain, gzip or zstandard file; which one its first bytes say.
func openFile(name string) (*file, error) {
	disk, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	f := &file{name: name, disk: disk}
	if err := f.start(); err != nil {
		f.close()
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return f, nil
}

func (f *file) start() error {
	info, err := f.disk.Stat()
	if err != nil {
		return err
	}
	if info.IsDir() {
		return fmt.Errorf("is a folder, not a file")
	}
	f.size = info.Size()
	raw := bufio.NewReaderSize(countingReader{f}, 256<<10)
	magic, _ := raw.Peek(4)
	var plain io.Reader = raw
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		unzip, err := gzip.NewReader(raw)
		if err != nil {
			return fmt.Errorf("gzip: %w", err)
		}
		plain, f.packed = unzip, true
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		unzip, err := zstd.NewReader(raw, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return fmt.Errorf("zstd: %w", err)
		}
		f.closers = append(f.closers, unzip.Close)
		plain, f.packed = unzip, true
	}
	f.text = bufio.NewReaderSize(plain, peekBytes)
	if head, _ := f.text.Peek(3); bytes.Equal(head, []byte("\xef\xbb\xbf")) {
		_, err = f.text.Discard(3)
	}
	return err
}

// head gives the beginning of the decompressed content without consuming it.
func (f *file) head() ([]byte, error) {
	head, err := f.text.Peek(peekBytes)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("read %s: %w", f.name, err)
	}
	if len(bytes.TrimSpace(head)) == 0 {
		return nil, fmt.Errorf("%s is empty", f.name)
	}
	return head, nil
}

func (f *file) close() error {
	for _, c := range f.closers {
		c()
	}
	return f.disk.Close()
}

// countingReader counts what is read of the file on disk; the count is read by progress bars from other goroutines.
type countingReader struct{ f *file }

func (c countingReader) Read(p []byte) (int, error) {
	n, err := c.f.disk.Read(p)
	c.f.read.Add(int64(n))
	return n, err
}

// lines reads text line by line, of any length.
type lines struct {
	r    *bufio.Reader
	n    int // lines read so far
	long []byte
}

// next gives the next line that is not blank, without its end; the bytes are valid until the next call. io.EOF at the end.
func (l *lines) next() ([]byte, error) {
	for {
		line, err := l.one()
		if err != nil {
			return nil, err
		}
		if len(bytes.TrimSpace(line)) > 0 {
			return line, nil
		}
	}
}

func (l *lines) one() ([]byte, error) {
	line, err := l.r.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		l.long = append(l.long[:0], line...)
		for err == bufio.ErrBufferFull {
			line, err = l.r.ReadSlice('\n')
			l.long = append(l.long, line...)
		}
		line = l.long
	}
	if err == io.EOF && len(line) > 0 {
		err = nil
	}
	if err != nil {
		return nil, err
	}
	l.n++
	return bytes.TrimRight(line, "\r\n"), nil
}
