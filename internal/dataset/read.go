package dataset

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go"
)

// ReadRows gives the rows of a file that CreateRows wrote, in order: Parquet, or JSON lines, packed or not. Columns that T does not name
// are passed over, columns that the file does not have stay empty. What take returns ends the reading.
func ReadRows[T any](path string, take func(*T) error) (err error) {
	f, err := openFile(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	head, err := f.head()
	if err != nil {
		return err
	}
	if bytes.HasPrefix(head, []byte("PAR1")) {
		return readParquetRows(f, take)
	}
	lines := json.NewDecoder(f.text)
	for n := 1; ; n++ {
		var row T
		switch err := lines.Decode(&row); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read row %d of %s: %w", n, path, err)
		}
		if err := take(&row); err != nil {
			return fmt.Errorf("row %d of %s: %w", n, path, err)
		}
	}
}

func readParquetRows[T any](f *file, take func(*T) error) (err error) {
	defer damaged(f, &err)
	p, err := parquet.OpenFile(f.disk, f.size)
	if err != nil {
		return fmt.Errorf("open %s as parquet: %w", f.name, err)
	}
	r := parquet.NewGenericReader[T](p)
	defer r.Close()
	rows, done := make([]T, 256), 0
	for {
		n, err := r.Read(rows)
		for i := range rows[:n] {
			if err := take(&rows[i]); err != nil {
				return fmt.Errorf("row %d of %s: %w", done+i+1, f.name, err)
			}
		}
		done += n
		clear(rows)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read row %d of %s: %w", done+1, f.name, err)
		}
	}
}
