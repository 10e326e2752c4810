package models

import (
	"context"
	"fmt"
	"path/filepath"
)

func (b *Bundle) loadTower() error {
	if b.manifest.Text == nil {
		return nil
	}
	g, _, err := b.graph(towerFile)
	if err != nil {
		return err
	}
	inputs, err := check("input", g.inputs, []want{{name: "text", elem: elemFloat32, shape: []int{anySize, b.manifest.Text.Dim}}}, true)
	if err != nil {
		return err
	}
	outputs, err := check("output", g.outputs, []want{{name: "item", elem: elemFloat32, shape: []int{anySize, b.Dim()}}}, false)
	if err != nil {
		return err
	}
	b.tower, err = b.rt.openFile(filepath.Join(b.dir, towerFile), towerFile, inputs, outputs)
	return err
}

// TextDim is the length of the text vectors that ItemVectors takes; 0 when the bundle was trained without text.
func (b *Bundle) TextDim() int {
	if b.manifest.Text == nil {
		return 0
	}
	return b.manifest.Text.Dim
}

// ItemVectors turns text vectors (TextDim long, from the encoder that the manifest names) into item vectors (Dim long): how an
// item that training never saw gets one. Each is a run of its own, so that an item's vector, and every state folded with it, has
// the same bits whichever items came along.
func (b *Bundle) ItemVectors(ctx context.Context, textVectors [][]float32) ([][]float32, error) {
	if b.tower == nil {
		return nil, fmt.Errorf("item vectors from text: bundle %s was trained without text", b.ID())
	}
	vectors := make([][]float32, len(textVectors))
	for i, text := range textVectors {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var err error
		if vectors[i], err = b.itemVector(text); err != nil {
			return nil, fmt.Errorf("item vector of text %d: %w", i, err)
		}
	}
	return vectors, nil
}

func (b *Bundle) itemVector(text []float32) ([]float32, error) {
	if len(text) != b.TextDim() {
		return nil, fmt.Errorf("the text vector has %d values, the tower takes %d", len(text), b.TextDim())
	}
	vector := make([]float32, b.Dim())
	t, err := newTensors(floats(text, 1, len(text)), floats(vector, 1, len(vector)))
	if err != nil {
		return nil, err
	}
	defer t.free()
	return vector, b.tower.run(t, 1)
}
