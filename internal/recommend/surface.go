package recommend

import (
	"fmt"
	"slices"
	"strings"

	"freshet"
)

// Surface is one list that every user gets: where its candidates come from and what may not stand in it.
type Surface struct {
	Name    string             // "home" or another name; part of keys and record ids
	K       int                // places of the list
	Weights map[string]float64 // source name -> weight in the fusion; a source that is not named does not take part
	Exclude []string           // what the user will not see: seen (in his window), purchased, dismissed
	Depth   int                // candidates asked of each source, beyond hidden ones; default 1.5 K of a lone source, else max(100, 2 K)
	Fill    string             // source that fills the places the fusion leaves empty; "" = they stay empty

	sources []weighted
	fill    Source
}

type weighted struct {
	Source
	weight float64
}

var exclusions = []string{"seen", "purchased", "dismissed"}

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
	}
	for _, x := range s.Exclude {
		if !slices.Contains(exclusions, x) {
			return fmt.Errorf("%s.exclude: unknown rule %q: use %s", field, x, strings.Join(exclusions, ", "))
		}
	}
	for name, w := range s.Weights {
		if w <= 0 {
			return fmt.Errorf("%s.weights.%s: %v, must be above 0 (leave the source out instead)", field, name, w)
		}
	}
	switch {
	case s.Depth > 0:
	case len(s.Weights) == 1: // nothing to fuse: what one source puts first is the list
		s.Depth = s.K + s.K/2
	default:
		s.Depth = max(100, 2*s.K)
	}
	return nil
}

// resolve finds the named sources. They keep the order in which the engine was given them.
func (s *Surface) resolve(all []Source) error {
	s.sources = nil
	for _, src := range all {
		if w, ok := s.Weights[src.Name()]; ok {
			s.sources = append(s.sources, weighted{src, w})
		}
		if src.Name() == s.Fill {
			s.fill = src
		}
	}
	if len(s.sources) != len(s.Weights) || (s.Fill != "" && s.fill == nil) {
		names := make([]string, len(all))
		for i := range all {
			names[i] = all[i].Name()
		}
		return fmt.Errorf("surfaces.%s: weights or fill name an unknown source; known are %s", s.Name, strings.Join(names, ", "))
	}
	return nil
}

// hidden collects the items that a surface keeps from a user.
func (s *Surface) hidden(p *freshet.Profile) map[string]bool {
	out := make(map[string]bool, len(p.Window)+len(p.Owned)+len(p.Dismissed))
	for _, rule := range s.Exclude {
		switch rule {
		case "seen":
			for i := range p.Window {
				out[p.Window[i].ItemID] = true
			}
		case "purchased":
			for i := range p.Owned {
				out[p.Owned[i].ItemID] = true
			}
		case "dismissed":
			for i := range p.Dismissed {
				out[p.Dismissed[i].ItemID] = true
			}
		}
	}
	return out
}
