package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sort"

	"go.uber.org/zap"

	"freshet"
	"freshet/internal/chaos/expect"
	"freshet/models"
)

// bundleModel runs a real bundle's step graph, every user's steps one after the other; items are ranked here, in float64. It
// implements expect.Model.
type bundleModel struct {
	runtime *models.Runtime
	bundle  *models.Bundle
	ids     []string
	rows    map[string]int
	items   []float32
	bias    []float32
}

func openBundle(dir string) (*bundleModel, error) {
	library := os.Getenv("FRESHET_ONNXRUNTIME")
	if library == "" {
		return nil, errors.New("FRESHET_ONNXRUNTIME must name libonnxruntime.so for a bundle that is no chain-hash")
	}
	m := &bundleModel{rows: map[string]int{}}
	var err error
	if m.runtime, err = models.NewRuntime(models.Config{Library: library, Device: models.CPU, Threads: 1}, zap.NewNop()); err != nil {
		return nil, err
	}
	if m.bundle, err = models.OpenBundle(m.runtime, dir); err != nil {
		return nil, errors.Join(err, m.runtime.Close())
	}
	return m, m.readItems(dir)
}

func (m *bundleModel) readItems(dir string) (err error) {
	raw, err := os.ReadFile(filepath.Join(dir, "items.json"))
	if err != nil {
		return err
	}
	var list struct {
		IDs []string `json:"ids"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return fmt.Errorf("items.json: %w", err)
	}
	for row, id := range list.IDs {
		m.rows[id] = row
	}
	m.ids = list.IDs
	if m.items, err = readFloats(filepath.Join(dir, "items.f32")); err != nil {
		return err
	}
	m.bias, err = readFloats(filepath.Join(dir, "items_bias.f32"))
	return err
}

func readFloats(name string) ([]float32, error) {
	raw, err := os.ReadFile(name)
	out := make([]float32, len(raw)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return out, err
}

func (m *bundleModel) close() {
	_ = errors.Join(m.bundle.Close(), m.runtime.Close()) // the process ends
}

// Known implements expect.Model.
func (m *bundleModel) Known(item string) bool { return item != "" && m.rows[item] > 0 }

// Size implements expect.Model.
func (m *bundleModel) Size() int { return m.bundle.StateSize() }

// Fold implements expect.Model: one row a run, so nothing depends on who shares a batch.
func (m *bundleModel) Fold(states [][]float32, all [][]expect.Step) ([][]float32, error) {
	d := m.bundle.Dim()
	queries := make([][]float32, len(all))
	for u, list := range all {
		for n, s := range list {
			row := m.rows[s.Item]
			run := freshet.Steps{Items: append([]float32{}, m.items[row*d:(row+1)*d]...), Types: []int64{m.bundle.TypeIndex(s.Type)},
				Gaps: []float32{s.Gap}, States: states[u], Queries: make([][]float32, len(m.bundle.Tasks()))}
			for k := range run.Queries {
				run.Queries[k] = make([]float32, d)
			}
			if err := m.bundle.Advance(context.Background(), &run); err != nil {
				return nil, fmt.Errorf("step %d of user %d: %w", n, u, err)
			}
			queries[u] = run.Queries[0]
		}
	}
	return queries, nil
}

// Best implements expect.Model. It gives more than k: the verdict lets items change places whose scores are equal within rounding.
func (m *bundleModel) Best(query []float32, k int, hidden func(string) bool) []expect.Scored {
	d := m.bundle.Dim()
	var list []expect.Scored
	for row := 1; row < len(m.ids); row++ {
		if hidden(m.ids[row]) {
			continue
		}
		score := float64(m.bias[row])
		for i := range d {
			score += float64(query[i]) * float64(m.items[row*d+i])
		}
		list = append(list, expect.Scored{Item: m.ids[row], Score: score})
	}
	sort.SliceStable(list, func(a, b int) bool { return list[a].Score > list[b].Score })
	return list[:min(k+8, len(list))]
}
