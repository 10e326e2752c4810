package dataset

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/parquet-go/parquet-go"
)

// A damaged parquet file is an error or bad rows, never a panic.
func TestDamagedParquet(t *testing.T) {
	type stored struct {
		User string `parquet:"user"`
		Item int64  `parquet:"item"`
		At   int64  `parquet:"timestamp"`
	}
	var b bytes.Buffer
	if err := parquet.Write(&b, []stored{{"u1", 7, 1_600_000_000}, {"u2", 8, 1_600_000_001}}); err != nil {
		t.Fatal(err)
	}
	whole := b.Bytes()
	path := filepath.Join(t.TempDir(), "f")
	read := func(content []byte) (n int, err error) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := OpenEvents(path, Options{})
		if err != nil {
			return 0, err
		}
		defer r.Close()
		for _, err := range r.All() {
			if err != nil {
				return n, err
			}
			n++
		}
		return n, nil
	}
	if n, err := read(whole); n != 2 || err != nil {
		t.Fatalf("the whole file: %d events, %v", n, err)
	}
	failed := 0
	for i := 4; i < len(whole); i += 2 {
		for _, flip := range []byte{0x80, 0xff} {
			damaged := bytes.Clone(whole)
			damaged[i] ^= flip
			if _, err := read(damaged); err != nil {
				failed++
			}
		}
	}
	if failed == 0 {
		t.Error("no damage was noticed")
	}
	for i := 5; i < len(whole); i += 7 {
		if _, err := read(whole[:i]); err == nil {
			t.Errorf("the first %d of %d bytes were read without an error", i, len(whole))
		}
	}
}
