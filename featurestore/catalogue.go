package featurestore

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"freshet"
)

// bulkPipeline bounds the commands of one pipeline of small values.
const bulkPipeline = 512

// PutItems stores items as hashes of plain fields that a frontend can show as they are. A field that an item leaves out is taken
// away. Readers may see an item between its old and its new state, never without its fields.
func (r *Redis) PutItems(ctx context.Context, items []freshet.Item) error {
	fields := make([][]any, len(items))
	absent := make([][]any, len(items))
	for i := range items {
		var err error
		if fields[i], absent[i], err = itemFields(&items[i]); err != nil {
			return fmt.Errorf("store item %q: %w", items[i].ItemID, err)
		}
	}
	_, err := r.all(ctx, fmt.Sprintf("store %d items", len(items)), 2*len(items), bulkPipeline, func(i int) redis.Cmder {
		name, list := "hset", fields[i/2]
		if i%2 == 1 {
			name, list = "hdel", absent[i/2]
		}
		return redis.NewIntCmd(ctx, append([]any{name, r.keys.item(items[i/2].ItemID)}, list...)...)
	})
	return err
}

// itemFields gives the fields that an item has, as name and value in turn, and the names of those it has not. No field is ever
// set for all items but item_id, so both lists hold something: the last name is of a field that no item has.
func itemFields(item *freshet.Item) (have, absent []any, err error) {
	have = []any{"item_id", item.ItemID}
	set := func(name string, present bool, value string) {
		if present {
			have = append(have, name, value)
		} else {
			absent = append(absent, name)
		}
	}
	setJSON := func(name string, present bool, value any) {
		b, e := json.Marshal(value)
		if e != nil && err == nil {
			err = fmt.Errorf("%s: %w", name, e)
		}
		set(name, present, string(b))
	}
	set("title", item.Title != "", item.Title)
	set("description", item.Description != "", item.Description)
	setJSON("categories", len(item.Categories) > 0, item.Categories)
	set("domain", item.Domain != "", item.Domain)
	set("brand", item.Brand != "", item.Brand)
	set("price", item.Price != 0, strconv.FormatFloat(item.Price, 'f', -1, 64))
	set("currency", item.Currency != "", item.Currency)
	set("available", item.Available != nil, map[bool]string{true: "1", false: "0"}[item.Available != nil && *item.Available])
	set("published_at", item.PublishedAt != nil, instant(item.PublishedAt))
	set("expires_at", item.ExpiresAt != nil, instant(item.ExpiresAt))
	set("attributes", len(item.Attributes) > 0, string(item.Attributes))
	setJSON("vectors", len(item.Vectors) > 0, item.Vectors)
	return have, append(absent, "-"), err
}

func instant(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// DeleteItems removes items with their vectors and similar items.
func (r *Redis) DeleteItems(ctx context.Context, ids []string) error {
	_, err := r.all(ctx, fmt.Sprintf("delete %d items", len(ids)), len(ids), bulkPipeline, func(i int) redis.Cmder {
		return redis.NewIntCmd(ctx, "unlink", r.keys.item(ids[i]), r.keys.vector(ids[i]), r.keys.similar(ids[i]))
	})
	return err
}

// Item reads one item; nil = the catalogue does not know it.
func (r *Redis) Item(ctx context.Context, id string) (*freshet.Item, error) {
	items, err := r.Items(ctx, []string{id})
	if err != nil {
		return nil, err
	}
	return items[0], nil
}

// Items reads items, in the order of the ids; nil = the catalogue does not know it.
func (r *Redis) Items(ctx context.Context, ids []string) ([]*freshet.Item, error) {
	cmds, err := r.all(ctx, fmt.Sprintf("read %d items", len(ids)), len(ids), bulkPipeline,
		func(i int) redis.Cmder { return redis.NewMapStringStringCmd(ctx, "hgetall", r.keys.item(ids[i])) })
	if err != nil {
		return nil, err
	}
	items := make([]*freshet.Item, len(ids))
	for i, c := range cmds {
		fields := c.(*redis.MapStringStringCmd).Val()
		if len(fields) == 0 {
			continue
		}
		if items[i], err = parseItem(fields); err != nil {
			return nil, fmt.Errorf("read item %q: %w", ids[i], err)
		}
	}
	return items, nil
}

func parseItem(f map[string]string) (*freshet.Item, error) {
	item := &freshet.Item{ItemID: f["item_id"], Title: f["title"], Description: f["description"], Domain: f["domain"], Brand: f["brand"],
		Currency: f["currency"]}
	var err error
	parse := func(name string, read func(value string) error) {
		if value, ok := f[name]; ok && err == nil {
			if e := read(value); e != nil {
				err = fmt.Errorf("field %s: %w", name, e)
			}
		}
	}
	parse("categories", func(v string) error { return json.Unmarshal([]byte(v), &item.Categories) })
	parse("price", func(v string) (e error) { item.Price, e = strconv.ParseFloat(v, 64); return e })
	parse("available", func(v string) error { yes := v == "1"; item.Available = &yes; return nil })
	parse("published_at", func(v string) (e error) { item.PublishedAt, e = parseInstant(v); return e })
	parse("expires_at", func(v string) (e error) { item.ExpiresAt, e = parseInstant(v); return e })
	parse("attributes", func(v string) error { item.Attributes = json.RawMessage(v); return nil })
	parse("vectors", func(v string) error { return json.Unmarshal([]byte(v), &item.Vectors) })
	return item, err
}

func parseInstant(s string) (*time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	return &t, err
}

// ItemVector is what the text encoder made of an item. Text and Encoder are hashes of the text and of the encoder that read it:
// where both still hold, the vector need not be computed again.
type ItemVector = freshet.ItemVector

// PutVectors stores vectors, replacing those of the same items.
func (r *Redis) PutVectors(ctx context.Context, vectors []ItemVector) error {
	_, err := r.all(ctx, fmt.Sprintf("store %d item vectors", len(vectors)), len(vectors), bulkPipeline, func(i int) redis.Cmder {
		return redis.NewStatusCmd(ctx, "set", r.keys.vector(vectors[i].ItemID), encodeVector(&vectors[i]))
	})
	return err
}

// Vectors reads the vectors of items, in the order of the ids. Where none is stored, Vector is nil.
func (r *Redis) Vectors(ctx context.Context, ids []string) ([]ItemVector, error) {
	values, err := r.get(ctx, fmt.Sprintf("read %d item vectors", len(ids)), len(ids), func(i int) string { return r.keys.vector(ids[i]) })
	if err != nil {
		return nil, err
	}
	vectors := make([]ItemVector, len(ids))
	for i, b := range values {
		if vectors[i], err = decodeVector(ids[i], b); err != nil {
			return nil, fmt.Errorf("read item vector %q: %w", ids[i], err)
		}
	}
	return vectors, nil
}

// A stored vector: format (1 byte, 1), text hash, encoder hash (8 bytes each), then the values; all little-endian.
const (
	vectorFormat = 1
	vectorHead   = 17
)

func encodeVector(v *ItemVector) []byte {
	b := make([]byte, 1, vectorHead+4*len(v.Vector))
	b[0] = vectorFormat
	b = binary.LittleEndian.AppendUint64(b, v.Text)
	b = binary.LittleEndian.AppendUint64(b, v.Encoder)
	for _, x := range v.Vector {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

func decodeVector(id string, b []byte) (ItemVector, error) {
	v := ItemVector{ItemID: id}
	switch {
	case b == nil:
		return v, nil
	case len(b) < vectorHead || b[0] != vectorFormat || (len(b)-vectorHead)%4 != 0:
		return v, fmt.Errorf("%d bytes are no vector of format %d", len(b), vectorFormat)
	}
	v.Text = binary.LittleEndian.Uint64(b[1:])
	v.Encoder = binary.LittleEndian.Uint64(b[9:])
	v.Vector = make([]float32, (len(b)-vectorHead)/4)
	for i := range v.Vector {
		v.Vector[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[vectorHead+4*i:]))
	}
	return v, nil
}
