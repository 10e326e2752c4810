package expect

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sort"
)

// Chain is the model of testdata/make_chain.py, whose states are hashes of the steps: the same arithmetic, in whole numbers.
type Chain struct {
	ids   []string
	rows  map[string]int
	items []float32
	types map[string]int64
}

const (
	lanes         = 8
	typeFactor    = 577
	gapFactor     = 5
	queryModulus  = 64
	queryHalf     = queryModulus / 2
	bytesPerFloat = 4
)

var (
	primes  = [lanes]int64{4093, 4091, 4079, 4073, 4057, 4051, 4049, 4027}
	factors = [lanes]int64{3989, 3967, 3947, 3931, 3929, 3923, 3919, 3917}
)

// OpenChain reads the items of the bundle.
func OpenChain(dir string) (*Chain, error) {
	var manifest struct {
		Architecture string   `json:"architecture"`
		EventTypes   []string `json:"event_types"`
		Dim          int      `json:"dim"`
	}
	var list struct {
		IDs []string `json:"ids"`
	}
	for name, into := range map[string]any{"manifest.json": &manifest, "items.json": &list} {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			err = json.Unmarshal(raw, into)
		}
		if err != nil {
			return nil, fmt.Errorf("open chain: %s: %w", name, err)
		}
	}
	if manifest.Architecture != "chain-hash" || manifest.Dim != lanes {
		return nil, fmt.Errorf("open chain: %s with %d lanes is no chain-hash of %d", manifest.Architecture, manifest.Dim, lanes)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "items.f32"))
	if err != nil {
		return nil, fmt.Errorf("open chain: %w", err)
	}
	c := &Chain{ids: list.IDs, rows: map[string]int{}, types: map[string]int64{}}
	for i, id := range list.IDs {
		c.rows[id] = i
	}
	for i, name := range manifest.EventTypes {
		c.types[name] = int64(i)
	}
	for i := 0; i+bytesPerFloat <= len(raw); i += bytesPerFloat {
		c.items = append(c.items, math.Float32frombits(binary.LittleEndian.Uint32(raw[i:])))
	}
	return c, nil
}

// Known implements Model.
func (c *Chain) Known(item string) bool { return item != "" && c.rows[item] > 0 }

// Size implements Model.
func (c *Chain) Size() int { return lanes }

// Fold implements Model.
func (c *Chain) Fold(states [][]float32, all [][]Step) ([][]float32, error) {
	queries := make([][]float32, len(all))
	for u, list := range all {
		for _, s := range list {
			c.step(states[u], s)
		}
		if len(list) > 0 {
			queries[u] = make([]float32, lanes)
			for k, v := range states[u] {
				queries[u][k] = float32(int64(v)%queryModulus - queryHalf)
			}
		}
	}
	return queries, nil
}

func (c *Chain) step(state []float32, s Step) {
	ms := int64(math.RoundToEven(float64(float32(s.Gap * 1000))))
	row := c.rows[s.Item]
	for k := range lanes {
		p := primes[k]
		x := (int64(c.items[row*lanes+k]) + c.types[s.Type]*typeFactor + ms%p*gapFactor + 1) % p
		state[k] = float32((int64(state[k])*factors[k] + x) % p)
	}
}

// Best implements Model: every item's score is a whole number; of two equal ones the item that comes first in the bundle wins.
func (c *Chain) Best(query []float32, k int, hidden func(string) bool) []Scored {
	var list []Scored
	for row := 1; row < len(c.ids); row++ {
		if hidden(c.ids[row]) {
			continue
		}
		score := int64(0)
		for lane := range lanes {
			score += int64(query[lane]) * int64(c.items[row*lanes+lane])
		}
		list = append(list, Scored{c.ids[row], float64(score)})
	}
	sort.SliceStable(list, func(a, b int) bool { return list[a].Score > list[b].Score })
	return list[:min(k, len(list))]
}
