package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"freshet"
	"freshet/internal/dataset"
	"freshet/internal/evaluate"
	"freshet/models"
)

// held names the items that --cold-items keeps out of the training; nil where nothing is kept out.
func (e *evaluation) held() func(string) bool {
	if e.o.coldItems == 0 {
		return nil
	}
	return func(id string) bool { return evaluate.HeldItem(id, e.o.coldFrom, e.o.coldItems) }
}

// addItems makes the items of --items candidates. Where their texts can be read, items that the bundle does not know get their
// vectors from the item tower, as in serving, and the text baseline comes back; it is nil otherwise.
func (e *evaluation) addItems(ctx context.Context) (*evaluate.TextKNN, error) {
	if err := e.checkHeld(); err != nil {
		return nil, err
	}
	if e.o.items == "" {
		return nil, nil
	}
	items, err := e.readItems()
	if err != nil {
		return nil, err
	}
	if e.cfg.Model.Encoder == "" {
		if e.o.coldItems > 0 {
			return nil, errors.New("--cold-items needs the text encoder: run `make setup`, or name its folder in model.encoder")
		}
		return nil, nil
	}
	texts, err := e.readTexts(ctx, items)
	if err != nil {
		return nil, err
	}
	if err := e.addVectors(ctx, items, texts); err != nil {
		return nil, err
	}
	byItem := make([][]float32, e.data.Items.Len())
	for i := range items {
		if n, ok := e.data.Items.Lookup(items[i].ItemID); ok && items[i].Text() != "" {
			byItem[n] = texts[i]
		}
	}
	return evaluate.NewTextKNN(byItem)
}

// checkHeld refuses a bundle that was trained on what it is said not to know.
func (e *evaluation) checkHeld() error {
	held := e.held()
	if held == nil {
		return nil
	}
	if e.o.items == "" || e.bundle.TextDim() == 0 {
		return fmt.Errorf("--cold-items: a new item is recommended by its text: give --items, and a bundle trained with text (bundle %s: %d text dimensions)", e.bundle.ID(), e.bundle.TextDim())
	}
	for n := range e.data.Items.Len() {
		id := e.data.Items.ID(int32(n))
		if _, kind := e.index.Vector(id); held(id) && kind == freshet.Trained {
			return fmt.Errorf("--cold-items %g: bundle %s was trained on item %s; train it with --set cleaning.hold_items=%g --set cleaning.hold_from=%g", e.o.coldItems, e.bundle.ID(), id, e.o.coldItems, e.o.coldFrom)
		}
	}
	return nil
}

func (e *evaluation) readItems() ([]freshet.Item, error) {
	r, err := dataset.OpenItems(e.o.items, dataset.Options{})
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var items []freshet.Item
	var failed error
	e.data.AddItems(func(yield func(string) bool) {
		for item, err := range r.All() {
			if failed = err; err != nil {
				return
			}
			items = append(items, item)
			if !yield(item.ItemID) {
				return
			}
		}
	})
	return items, failed
}

func (e *evaluation) readTexts(ctx context.Context, items []freshet.Item) ([][]float32, error) {
	encoder, err := models.OpenTextEncoder(e.runtime, models.TextConfig{Dir: e.cfg.Model.Encoder})
	if err != nil {
		return nil, err
	}
	defer encoder.Close()
	if err := encoder.Fits(e.bundle); err != nil {
		return nil, err
	}
	texts := make([]string, len(items))
	for i := range items {
		texts[i] = items[i].Text()
	}
	bar := newProgress(os.Stderr, "texts")
	vectors, err := encoder.EncodeWith(ctx, texts, func(done, total int) { bar.show(done, float64(done)/float64(total)) })
	if err == nil {
		bar.finish(len(texts))
	}
	return vectors, err
}

// addVectors gives items that the bundle does not know a place in the index.
func (e *evaluation) addVectors(ctx context.Context, items []freshet.Item, texts [][]float32) error {
	if e.bundle.TextDim() == 0 {
		return nil
	}
	for i := range items {
		if _, kind := e.index.Vector(items[i].ItemID); kind == freshet.Trained {
			continue
		}
		vectors, err := e.bundle.ItemVectors(ctx, texts[i:i+1])
		if err != nil {
			return fmt.Errorf("item %s: %w", items[i].ItemID, err)
		}
		if err := e.index.Upsert(items[i].ItemID, vectors[0], 0); err != nil {
			return err
		}
		e.untrained = append(e.untrained, items[i].ItemID)
	}
	return e.index.Settle(ctx)
}
