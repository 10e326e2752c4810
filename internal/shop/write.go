package shop

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Write leaves the catalogue and the next n events in dir, as items.jsonl and events.jsonl: what the trainer reads.
func (s *Shop) Write(dir string, n int) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the shop's folder: %w", err)
	}
	items := s.Items()
	if err := writeLines(filepath.Join(dir, "items.jsonl"), len(items), func(i int, b []byte) ([]byte, error) {
		line, err := json.Marshal(&items[i])
		return append(b, line...), err
	}); err != nil {
		return err
	}
	return writeLines(filepath.Join(dir, "events.jsonl"), n, func(_ int, b []byte) ([]byte, error) {
		e := s.Next()
		return AppendEvent(b, &e), nil
	})
}

// writeLines writes the file under another name first, so that a broken run leaves no half file behind.
func writeLines(path string, n int, line func(i int, b []byte) ([]byte, error)) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", path, err)
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if err = writeAll(f, n, line); err != nil {
		return err
	}
	if err = f.Chmod(0o644); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func writeAll(f io.Writer, n int, line func(i int, b []byte) ([]byte, error)) error {
	w := bufio.NewWriterSize(f, 1<<16)
	var b []byte
	for i := range n {
		var err error
		if b, err = line(i, b[:0]); err != nil {
			return err
		}
		if _, err = w.Write(append(b, '\n')); err != nil {
			return err
		}
	}
	return w.Flush()
}
