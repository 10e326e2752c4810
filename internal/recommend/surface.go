package recommend

import (
	"fmt"
	"slices"
	"strings"

	"github.com/expr-lang/expr/vm"
)

// Surface is one list that every user gets: where its candidates come from and what may not stand in it.
type Surface struct {
	Name    string             // "home" or another name; part of keys and record ids
	K       int                // places of the list
	Weights map[string]float64 // source name -> weight in the fusion; a source that is not named does not take part
	Fusion  Fusion             // how scores become one; default log-linear
	Exclude []string           // what the user will not see: seen (in his window), purchased, dismissed
	Depth   int                // candidates asked of each source, beyond hidden ones; default 1.5 K of a lone source, else max(100, 2 K)
	Fill    string             // source that fills the places the fusion leaves empty; "" = they stay empty

	Domain      string   // only items of this domain; "" = of all
	Categories  []string // only items of one of these; none = of all
	Filter      string   // only items that this expression holds for; "" = all
	Rebuys      []Rebuy  // when what was purchased may come back; the first that fits decides
	Boosts      []Boost
	Pins        []string           // items that stand first, if no rule forbids them
	PerBrand    int                // items of one brand at most; 0 = any number
	PerCategory int                // items of one category at most; 0 = any number
	Diversity   float64            // 0 = by score alone, towards 1 = unlike each other (maximal marginal relevance)
	Adapt       Adapt              // whether weights follow what users do
	Explore     int                // last places that are kept for what the source "new" proposes
	Cold        map[string]float64 // weights of the list for users without one: popular, trending, new; none = see Surface.cold

	place       int // among the engine's surfaces
	weights     []float64
	mask        uint32 // of the sources that take part
	explore     uint32 // of the source that fills exploration slots
	fill        Source
	hides       uint8
	itemRules   bool // a rule looks at items
	expressions bool
	clockwise   bool // an expression looks at the clock
	filter      *vm.Program
	boosts      []*vm.Program
	known       *boosts // of items
	rebuys      []*vm.Program
}

// Fusion says how the scores of several sources become one.
type Fusion string

// The fusions.
const (
	LogLinear  Fusion = "log-linear" // sum of weight x calibrated score
	Reciprocal Fusion = "rrf"        // sum of weight / (60 + rank): needs no calibration, and knows no differences between scores
)

// newSource is the source that fills exploration slots.
const newSource = "new"

// maxSources is how many sources an engine can have.
const maxSources = 32

var exclusions = map[string]uint8{"seen": flagSeen, "purchased": flagPurchased, "dismissed": flagDismissed}

func (s *Surface) validate() error {
	field := "surfaces." + s.Name
	switch {
	case s.Name == "":
		return fmt.Errorf("surfaces: a surface needs a name")
	case strings.ContainsAny(s.Name, "{}%: \x00"):
		return fmt.Errorf("%s: a surface's name has no braces, percent signs, colons or spaces", field)
	case s.K < 1 || s.K > 5000:
		return fmt.Errorf("%s.k: %d, must be 1 to 5000", field, s.K)
	case len(s.Weights) == 0:
		return fmt.Errorf("%s.weights: at least one source is needed", field)
	case s.Fusion != "" && s.Fusion != LogLinear && s.Fusion != Reciprocal:
		return fmt.Errorf("%s.fusion: %q, use %s or %s", field, s.Fusion, LogLinear, Reciprocal)
	case s.PerBrand < 0 || s.PerCategory < 0:
		return fmt.Errorf("%s: per_brand and per_category must not be negative", field)
	case !(s.Diversity >= 0 && s.Diversity <= 1):
		return fmt.Errorf("%s.diversity: %v, must be 0 to 1", field, s.Diversity)
	case s.Explore < 0 || s.Explore > s.K:
		return fmt.Errorf("%s.explore: %d places of %d", field, s.Explore, s.K)
	case len(s.Pins) > s.K:
		return fmt.Errorf("%s.pins: %d items for %d places", field, len(s.Pins), s.K)
	}
	s.hides = 0
	for _, x := range s.Exclude {
		flag, ok := exclusions[x]
		if !ok {
			return fmt.Errorf("%s.exclude: unknown rule %q: use seen, purchased, dismissed", field, x)
		}
		s.hides |= flag
	}
	for name, w := range s.Weights {
		if !(w > 0) {
			return fmt.Errorf("%s.weights.%s: %v, must be above 0 (leave the source out instead)", field, name, w)
		}
	}
	if err := s.Adapt.validate(field, s); err != nil {
		return err
	}
	for name, w := range s.Cold {
		if !slices.Contains(coldSources, name) || !(w > 0) {
			return fmt.Errorf("%s.cold.%s: %v, only %s can serve a user of whom nothing is known, with weights above 0", field, name, w, strings.Join(coldSources, ", "))
		}
	}
	switch {
	case s.Depth > 0:
	case s.Diversity > 0: // more to choose from than the best
		s.Depth = max(100, diverseFrom*s.K)
	case len(s.Weights) == 1: // nothing to fuse: what one source puts first is the list
		s.Depth = s.K + s.K/2
	default:
		s.Depth = max(100, 2*s.K)
	}
	return s.compile()
}

// compile makes the expressions ready.
func (s *Surface) compile() (err error) {
	if s.filter, err = compile(s.Name, "filter", s.Filter); err != nil {
		return err
	}
	s.boosts, s.known, s.rebuys = nil, &boosts{}, nil
	for i, b := range s.Boosts {
		rule := fmt.Sprintf("boosts[%d]", i)
		if !(b.Factor > 0) {
			return &RuleError{s.Name, rule + ".factor", fmt.Errorf("%v, must be above 0: 2 doubles the likelihood, 0.5 halves it", b.Factor)}
		}
		if b.Where == "" {
			return &RuleError{s.Name, rule + ".where", fmt.Errorf("missing: say which items, such as item.brand == \"Acme\"")}
		}
		p, err := compile(s.Name, rule+".where", b.Where)
		if err != nil {
			return err
		}
		s.boosts = append(s.boosts, p)
	}
	for i, r := range s.Rebuys {
		if r.After < 0 {
			return &RuleError{s.Name, fmt.Sprintf("rebuy[%d].after", i), fmt.Errorf("%v is negative", r.After)}
		}
		p, err := compile(s.Name, fmt.Sprintf("rebuy[%d].where", i), r.Where)
		if err != nil {
			return err
		}
		s.rebuys = append(s.rebuys, p)
	}
	s.clockwise = clockwise(s.filter)
	for _, p := range append(append([]*vm.Program(nil), s.boosts...), s.rebuys...) {
		s.clockwise = s.clockwise || clockwise(p)
	}
	s.itemRules = s.Domain != "" || len(s.Categories) > 0 || s.filter != nil
	s.expressions = s.filter != nil || len(s.boosts) > 0 || len(s.rebuys) > 0
	return nil
}

// looksAtItems tells whether the surface needs to know what items are.
func (s *Surface) looksAtItems() bool {
	return s.itemRules || s.expressions || s.PerBrand > 0 || s.PerCategory > 0
}

// resolve finds the named sources among the engine's.
func (s *Surface) resolve(all []Source, place int) error {
	s.place, s.weights, s.mask, s.explore, s.fill = place, make([]float64, len(all)), 0, 0, nil
	found := 0
	names := make([]string, len(all))
	for k, src := range all {
		names[k] = src.Name()
		if w, ok := s.Weights[names[k]]; ok {
			s.weights[k], found = w, found+1
			s.mask |= 1 << k
		}
		if names[k] == s.Fill {
			s.fill = src
		}
		if names[k] == newSource && s.Explore > 0 {
			s.explore = 1 << k
		}
	}
	switch {
	case found != len(s.Weights) || (s.Fill != "" && s.fill == nil):
		slices.Sort(names)
		return fmt.Errorf("surfaces.%s: weights or fill name an unknown source; known are %s", s.Name, strings.Join(names, ", "))
	case s.Explore > 0 && s.explore == 0:
		return fmt.Errorf("surfaces.%s.explore: there is no source %q to explore with", s.Name, newSource)
	}
	return nil
}

// asks are the sources whose proposals the surface chooses from.
func (s *Surface) asks() uint32 { return s.mask | s.explore }
