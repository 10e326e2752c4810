package models

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync/atomic"
	"unsafe"
)

// hidden is the mask of a row that must not come back.
var hidden = float32(math.Inf(-1))

// generation is one item matrix inside one search session. Its rows never change; its mask does.
type generation struct {
	session *session
	version uint64    // vectors with a higher version are not in it
	entries []*entry  // row -> item; nil for the unknown item
	mask    []float32 // bias or hidden, for each row
	folder  string    // to be removed with it; empty for the bundle's own
	cells   *cells    // nil = the session is one of search.onnx, which scores every row
}

// setMask changes one row's mask while searches may be reading it. A float32 is written whole, so a search sees the old value or
// the new one.
func (g *generation) setMask(row int, m float32) {
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&g.mask[row])), math.Float32bits(m))
}

// maskOf says what a row's mask must be for a place.
func (g *generation) maskOf(p *place) float32 {
	if p.shown && p.version <= g.version {
		return p.bias
	}
	return hidden
}

// close frees the session once the last search on it has ended.
func (g *generation) close() error {
	err := g.session.close()
	if g.folder != "" {
		err = errors.Join(err, os.RemoveAll(g.folder)) // a session that maps the file keeps it
	}
	return err
}

// openGeneration opens the bundle's search graph, cut or grown to as many rows as there are entries, over the matrix in a folder.
func (b *Bundle) openGeneration(folder string, entries []*entry, version uint64) (*generation, error) {
	rows := len(entries)
	graph, err := resize(b.searchGraph, matrixFile, b.manifest.Capacity, rows, b.Dim())
	if err != nil {
		return nil, fmt.Errorf("%s: give it %d rows: %w", searchFile, rows, err)
	}
	s, err := b.rt.openGraph(graph, folder, searchFile, searchInputs, searchOutputs)
	if err != nil {
		return nil, err
	}
	g := &generation{session: s, version: version, entries: entries, mask: make([]float32, rows)}
	for row := range g.mask {
		g.mask[row] = hidden
	}
	return g, nil
}

// writeGeneration writes vectors to a new folder under work and opens a generation on them.
func (b *Bundle) writeGeneration(work string, entries []*entry, vectors [][]float32, version uint64) (*generation, error) {
	folder, err := os.MkdirTemp(work, "generation-")
	if err != nil {
		return nil, err
	}
	if err := writeMatrix(filepath.Join(folder, matrixFile), vectors, b.Dim()); err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	g, err := b.openGeneration(folder, entries, version)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	g.folder = folder
	return g, nil
}

// writeMatrix writes rows of dim float32, little-endian.
func writeMatrix(path string, vectors [][]float32, dim int) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<18)
	row := make([]byte, 4*dim)
	for _, v := range vectors {
		for i, x := range v {
			binary.LittleEndian.PutUint32(row[4*i:], math.Float32bits(x))
		}
		if _, err := w.Write(row); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return errors.Join(w.Flush(), f.Close())
}

// blockGeneration opens a generation whose every row is scored, in the order of entries.
func (b *Bundle) blockGeneration(entries []*entry, vectors [][]float32, version uint64) (*generation, error) {
	s, err := b.rt.openCPU(cellsGraph, "cells.onnx", cellsInputs, cellsOutputs)
	if err != nil {
		return nil, err
	}
	g := &generation{session: s, version: version, cells: openBlocks(s, vectors, b.Dim()), entries: entries, mask: make([]float32, len(entries))}
	for row := range g.mask {
		g.mask[row] = hidden
	}
	return g, nil
}

// divideGeneration opens a generation of many rows in cells, and finds how many of them a search must look into.
func (b *Bundle) divideGeneration(entries []*entry, vectors [][]float32, version uint64, sample []float32, recall float64) (*generation, error) {
	s, err := b.rt.openCPU(cellsGraph, "cells.onnx", cellsInputs, cellsOutputs)
	if err != nil {
		return nil, err
	}
	bias := make([]float32, len(entries))
	for i, e := range entries {
		if e != nil {
			bias[i] = e.at.Load().bias
		}
	}
	c, order, err := openCells(s, vectors, bias, b.Dim())
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	g := &generation{session: s, version: version, cells: c, entries: make([]*entry, len(entries)), mask: make([]float32, len(entries))}
	every := make([]float32, len(entries)) // the mask of a catalogue that shows everything
	for row, at := range order {
		g.entries[row], g.mask[row], every[row] = entries[at], hidden, bias[at]
		if entries[at] == nil {
			every[row] = hidden
		}
	}
	if _, err := c.calibrate(every, sample, calibrated, recall); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return g, nil
}
