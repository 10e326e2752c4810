package freshet

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Item is one row of the catalogue as the items topic carries it: the whole item, a field left out is absent.
type Item struct {
	ItemID      string               `json:"item_id"`
	Title       string               `json:"title,omitempty"`
	Description string               `json:"description,omitempty"`
	Categories  []string             `json:"categories,omitempty"`
	Domain      string               `json:"domain,omitempty"`
	Brand       string               `json:"brand,omitempty"`
	Price       float64              `json:"price,omitempty"`
	Currency    string               `json:"currency,omitempty"`
	Available   *bool                `json:"available,omitempty"` // nil = available
	PublishedAt *time.Time           `json:"published_at,omitempty"`
	ExpiresAt   *time.Time           `json:"expires_at,omitempty"`
	Attributes  json.RawMessage      `json:"attributes,omitempty"`
	Vectors     map[string][]float32 `json:"vectors,omitempty"`
}

// Text is what the text encoder reads of an item: its non-empty title, brand, categories and description, joined by ". ".
// The trainer builds the same string (docs/bundle.md); the two must not drift apart.
func (i *Item) Text() string {
	parts := make([]string, 0, 4)
	for _, s := range []string{i.Title, i.Brand, strings.Join(i.Categories, ", "), i.Description} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, ". ")
}

// Recommendable tells whether the item may stand in a list at that moment.
func (i *Item) Recommendable(now time.Time) bool {
	return (i.Available == nil || *i.Available) && (i.ExpiresAt == nil || now.Before(*i.ExpiresAt))
}

// Validate refuses an item that breaks the contract with a *FieldError.
func (i *Item) Validate() error {
	if err := validID("item_id", i.ItemID, MaxItemID); err != nil {
		return err
	}
	if i.Price < 0 {
		return invalid("price", "negative (%v)", i.Price)
	}
	for n, c := range i.Categories {
		if len(c) > 256 {
			return invalid(fmt.Sprintf("categories[%d]", n), "%d bytes, at most 256", len(c))
		}
	}
	return nil
}

// ItemVector is what the text encoder made of an item. Text and Encoder are hashes of the text and of the encoder that read it:
// where both still hold, the vector need not be computed again.
type ItemVector struct {
	ItemID  string
	Text    uint64
	Encoder uint64
	Vector  []float32 // nil where none is stored
}

// Scored is an item and its score, the higher the better.
type Scored struct {
	ItemID string
	Score  float64
}
