package main

import (
	"maps"
	"strings"
	"time"

	"freshet/internal/recommend"
)

// CovisitBlock shapes the counts of what follows what.
type CovisitBlock struct {
	HalfLife Duration `yaml:"half_life" doc:"a count halves in so much event time; the same in every worker of a lane"`
	Keep     int      `yaml:"keep" doc:"successors kept per item, the strongest"`
	MaxItems int      `yaml:"max_items" doc:"items whose counts are held in memory, 1 KB each"`
	Back     float64  `yaml:"back" doc:"what a pair counts for the item that came second, of what it counts for the first: what stood before an item may also follow it; 0 = nothing"`
	Damp     float64  `yaml:"damp" doc:"counts for an item are divided by this power of how often it was met: towards 1, rare items rise"`
}

// NewItemsBlock bounds the exploration of new items.
type NewItemsBlock struct {
	MaxAge Duration `yaml:"max_age" doc:"an item is new for so long after its published_at, or after it was first heard of"`
	Budget int      `yaml:"budget" doc:"it is explored until it was shown (by impressions) or met so often"`
}

// PopularBlock says how fast popularity and trends forget.
type PopularBlock struct {
	HalfLife Duration `yaml:"half_life" doc:"popularity halves in so much event time; trends compare with it"`
	Trending Duration `yaml:"trending" doc:"the same of the quick counts that trends are seen by"`
}

// FusionBlock makes scores of sources comparable.
type FusionBlock struct {
	Temperatures map[string]float64 `yaml:"temperatures" doc:"source: its score divided by this is a log-probability; freshet eval tune fits it; default 1"`
}

// ReasonsBlock words reasons.
type ReasonsBlock struct {
	Texts   map[string]string `yaml:"texts" doc:"source: wordings, the first whose {because}, {did}, {title}, {domain}, {brand}, {category} are known is taken"`
	Verbs   map[string]string `yaml:"verbs" doc:"event type: what {did} says of it"`
	Records bool              `yaml:"in_records" doc:"records carry the text of each item, as far as their budget allows; else only freshet user show words them"`
}

// texts are the wordings, checked; those that are not configured are the defaults.
func (c *Config) texts() (*recommend.Texts, error) {
	texts, verbs := recommend.DefaultTexts(), recommend.DefaultVerbs()
	maps.Copy(texts, c.Reasons.Texts)
	maps.Copy(verbs, c.Reasons.Verbs)
	return recommend.NewTexts(texts, verbs)
}

// SurfaceBlock is one list.
type SurfaceBlock struct {
	Name        string             `yaml:"name" doc:"home is the list whose key is freshet:recs:{user}"`
	K           int                `yaml:"k" doc:"places"`
	Weights     map[string]float64 `yaml:"weights" doc:"source: weight in the fusion"`
	Fusion      string             `yaml:"fusion,omitempty" doc:"log-linear, or rrf (reciprocal ranks)"`
	Fill        string             `yaml:"fill,omitempty" doc:"source that fills places left empty"`
	Exclude     []string           `yaml:"exclude,omitempty" doc:"seen, purchased, dismissed"`
	Domain      string             `yaml:"domain,omitempty" doc:"only items of this domain"`
	Categories  []string           `yaml:"categories,omitempty" doc:"only items of one of these categories"`
	Filter      string             `yaml:"filter,omitempty" doc:"only items that this expression holds for"`
	Rebuy       []RebuyBlock       `yaml:"rebuy,omitempty" doc:"when what was purchased may come back"`
	Boosts      []BoostBlock       `yaml:"boosts,omitempty" doc:"items that rise (factor above 1) or are buried (below 1)"`
	Pins        []string           `yaml:"pins,omitempty" doc:"items that stand first"`
	PerBrand    int                `yaml:"per_brand,omitempty" doc:"items of one brand at most"`
	PerCategory int                `yaml:"per_category,omitempty" doc:"items of one category at most"`
	Diversity   float64            `yaml:"diversity,omitempty" doc:"0 = by score alone, towards 1 = unlike each other"`
	Cold        map[string]float64 `yaml:"cold,omitempty" doc:"popular, trending, new: weights in the list for users who have none; left out = the surface's own of these, else popular 1, trending 0.5"`
	Explore     int                `yaml:"explore,omitempty" doc:"last places kept for new items"`
	Adapt       *AdaptBlock        `yaml:"adapt,omitempty" doc:"weights that follow what users do"`
}

// AdaptBlock lets the weights of a surface follow what users do.
type AdaptBlock struct {
	Mode     string  `yaml:"mode" doc:"off, on, or frozen (what was learnt until now is used, and nothing more is learnt)"`
	Bound    float64 `yaml:"bound,omitempty" doc:"a weight stays between its configured value divided and multiplied by this; default 4"`
	HalfLife float64 `yaml:"half_life,omitempty" doc:"choices of users after which one counts half; default 2000"`
	Control  float64 `yaml:"control,omitempty" doc:"share of lists made with the configured weights all the same, to compare with; default 0.05, negative = none"`
}

// RebuyBlock lets purchases come back.
type RebuyBlock struct {
	Where string   `yaml:"where,omitempty" doc:"which items; left out = all"`
	After Duration `yaml:"after" doc:"time since the purchase"`
}

// BoostBlock moves items up or down.
type BoostBlock struct {
	Where  string  `yaml:"where" doc:"which items"`
	Factor float64 `yaml:"factor" doc:"multiplies their likelihood"`
}

// surface is the block as the engine takes it.
func (b *SurfaceBlock) surface() recommend.Surface {
	s := recommend.Surface{Name: b.Name, K: b.K, Weights: b.Weights, Fusion: recommend.Fusion(b.Fusion), Fill: b.Fill, Exclude: b.Exclude,
		Domain: b.Domain, Categories: b.Categories, Filter: b.Filter, Pins: b.Pins, PerBrand: b.PerBrand, PerCategory: b.PerCategory,
		Diversity: b.Diversity, Explore: b.Explore, Cold: b.Cold}
	if a := b.Adapt; a != nil {
		s.Adapt = recommend.Adapt{Mode: recommend.AdaptMode(a.Mode), Bound: a.Bound, HalfLife: a.HalfLife, Control: a.Control}
	}
	for _, r := range b.Rebuy {
		s.Rebuys = append(s.Rebuys, recommend.Rebuy{Where: r.Where, After: r.After.D()})
	}
	for _, x := range b.Boosts {
		s.Boosts = append(s.Boosts, recommend.Boost{Where: x.Where, Factor: x.Factor})
	}
	return s
}

func (c *Config) checkFusion(check func(ok bool, field, format string, args ...any)) {
	check(c.Covisit.HalfLife >= Duration(time.Minute), "covisit.half_life", "%s, must be at least 1m", c.Covisit.HalfLife)
	check(c.Covisit.Keep >= 8 && c.Covisit.Keep <= 1024, "covisit.keep", "%d, must be 8 to 1024", c.Covisit.Keep)
	check(c.Covisit.MaxItems >= 100, "covisit.max_items", "%d, must be at least 100", c.Covisit.MaxItems)
	check(c.Covisit.Back >= 0 && c.Covisit.Back <= 1, "covisit.back", "%v, must be 0 to 1", c.Covisit.Back)
	check(c.Covisit.Damp > 0 && c.Covisit.Damp <= 1, "covisit.damp", "%v, must be above 0, at most 1", c.Covisit.Damp)
	check(c.Popular.Trending >= Duration(time.Minute), "popular.trending", "%s, must be at least 1m", c.Popular.Trending)
	check(c.Popular.HalfLife > c.Popular.Trending, "popular.half_life", "%s, must be above popular.trending (%s)", c.Popular.HalfLife, c.Popular.Trending)
	check(c.NewItems.MaxAge >= 0, "new_items.max_age", "%s is negative", c.NewItems.MaxAge)
	check(c.NewItems.Budget >= 1, "new_items.budget", "%d, must be at least 1", c.NewItems.Budget)
	if _, err := c.texts(); err != nil {
		field, reason, _ := strings.Cut(err.Error(), ": ")
		check(false, field, "%s", reason)
	}
	for name, t := range c.Fusion.Temperatures {
		check(t > 0, "fusion.temperatures."+name, "%v, must be above 0", t)
	}
}

// explores tells whether any surface asks for new items.
func (c *Config) explores() bool {
	for _, s := range c.Surfaces {
		if s.Explore > 0 || s.Weights["new"] > 0 || s.Cold["new"] > 0 || s.Fill == "new" {
			return true
		}
	}
	return false
}

// counts tells whether any surface asks for the counts of what follows what.
func (c *Config) counts() bool {
	for _, s := range c.Surfaces {
		if s.Weights["covisit"] > 0 || s.Weights["covisit-last"] > 0 {
			return true
		}
	}
	return false
}
