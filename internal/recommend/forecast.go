package recommend

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"freshet"
)

// Searcher finds the items that answer a query vector; models.Index is one.
type Searcher interface {
	Search(ctx context.Context, queries []float32, n int) (freshet.Hits, error)
	// Len is how many items a search can return.
	Len() int
}

// ForecastConfig says how the behaviours that come next are decoded.
type ForecastConfig struct {
	Steps        int     // behaviours to look ahead, 1 to 100; default 5
	Beam         int     // sequences kept at each step; 1 = greedy. Default 1
	Samples      int     // sequences drawn at random instead; 0 = none are drawn
	Seed         uint64  // of the draws: the same seed draws the same sequences
	Temperature  float64 // of the draws: below 1 keeps to the likely, above 1 wanders. Default 1
	Alternatives int     // other behaviours shown beside each step of a greedy forecast; default 3
	Repeats      bool    // an item may come twice within a forecast
}

// Validate says what cannot be meant and fills defaults in.
func (c *ForecastConfig) Validate() error {
	if c.Steps == 0 {
		c.Steps = 5
	}
	if c.Beam == 0 {
		c.Beam = 1
	}
	if c.Temperature == 0 {
		c.Temperature = 1
	}
	switch {
	case c.Steps < 1 || c.Steps > 100:
		return fmt.Errorf("steps: %d, must be 1 to 100", c.Steps)
	case c.Beam < 1 || c.Beam > 64:
		return fmt.Errorf("beam: %d, must be 1 to 64", c.Beam)
	case c.Samples < 0 || c.Samples > 256:
		return fmt.Errorf("samples: %d, must be 0 to 256", c.Samples)
	case c.Samples > 0 && c.Beam > 1:
		return errors.New("samples and beam: use one of the two")
	case !(c.Temperature > 0 && c.Temperature <= 10):
		return fmt.Errorf("temperature: %v, must be above 0 and at most 10", c.Temperature)
	case c.Alternatives < 0 || c.Alternatives > 100:
		return fmt.Errorf("alternatives: %d, must be 0 to 100", c.Alternatives)
	}
	return nil
}

// Behaviour is one step of a forecast. Probability = TypeProbability x ItemProbability, given the steps before.
type Behaviour struct {
	Type            string      `json:"type"`
	ItemID          string      `json:"item_id"`
	Title           string      `json:"title,omitempty"`
	Probability     float64     `json:"probability"`
	TypeProbability float64     `json:"type_probability"`
	ItemProbability float64     `json:"item_probability"`
	Alternatives    []Behaviour `json:"alternatives,omitempty"`
}

// Sequence is one way how a user may go on. Probability is the product of its steps'.
type Sequence struct {
	Probability float64     `json:"probability"`
	Steps       []Behaviour `json:"steps"`
}

// Forecast is what a user may do next, likeliest sequence first.
type Forecast struct {
	UserID     string     `json:"user_id"`
	Rev        uint64     `json:"rev"` // of the profile that it starts from
	Model      string     `json:"model"`
	Method     string     `json:"method"` // greedy, beam or sample
	GapSeconds float64    `json:"gap_seconds"`
	Sequences  []Sequence `json:"sequences"`
}

// ErrNoProfile is returned (wrapped) for a user of whom the store holds no behaviour.
var ErrNoProfile = errors.New("the store holds no behaviour of this user")

// Forecast decodes what a user does next: at each step a type and an item, which the model then takes in as if it had happened.
// The stored profile is read and never written.
//
// The items' probabilities are a softmax over everything that items can return, of the query of the type's task. Types come from
// the user's own sequence: how often which type followed which, smoothed by how often each occurs; the bundle's heads are trained
// apart, so their scores cannot be compared across types. The time between steps is the median of the user's own.
// With profile.late other than reorder there is no checkpoint, and the forecast starts from the window alone.
func (e *Engine) Forecast(ctx context.Context, user string, items Searcher, cfg ForecastConfig) (*Forecast, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if items.Len() == 0 {
		return nil, errors.New("nothing can be recommended, so nothing can be forecast: publish items, or set catalogue.only: false")
	}
	t := &task{user: user, last: new(freshet.Event)}
	if err := e.load(ctx, []*task{t}); err != nil {
		return nil, err
	}
	if len(t.profile.Window) == 0 {
		return nil, ErrNoProfile
	}
	t.profile.Repair()
	if err := e.fold(ctx, new(scratch), []*task{t}); err != nil {
		return nil, err
	}
	d := decoder{e: e, cfg: cfg, items: items, habits: habitsOf(t.profile.Window, e.cfg.Types), gap: medianGap(t.profile.Window)}
	last := t.profile.Window[len(t.profile.Window)-1].Type
	paths, err := d.run(ctx, path{state: t.profile.State, queries: t.queries, last: last, probability: 1})
	if err != nil {
		return nil, err
	}
	out := &Forecast{UserID: user, Rev: t.profile.Rev, Model: e.model.ID(), Method: d.method(), GapSeconds: float64(d.gap)}
	for _, p := range paths {
		out.Sequences = append(out.Sequences, Sequence{Probability: p.probability, Steps: p.steps})
	}
	return out, nil
}

// decoder goes from one state to several futures.
type decoder struct {
	e      *Engine
	cfg    ForecastConfig
	items  Searcher
	habits habits
	gap    float32 // seconds between steps
}

// path is one future so far.
type path struct {
	state       []float32
	queries     [][]float32 // per task
	last        string      // type of its last behaviour
	steps       []Behaviour
	probability float64
	random      *rand.Rand // of a drawn path
}

func (d *decoder) method() string {
	switch {
	case d.cfg.Samples > 0:
		return "sample"
	case d.cfg.Beam > 1:
		return "beam"
	}
	return "greedy"
}

func (d *decoder) run(ctx context.Context, start path) ([]path, error) {
	paths := []path{start}
	if d.cfg.Samples > 0 {
		paths = make([]path, d.cfg.Samples)
		for i := range paths {
			paths[i] = start
			paths[i].random = rand.New(rand.NewPCG(d.cfg.Seed, uint64(i)))
		}
	}
	for n := range d.cfg.Steps {
		var next []path
		for i := range paths {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			grown, err := d.grow(ctx, &paths[i])
			if err != nil {
				return nil, err
			}
			next = append(next, grown...)
		}
		if len(next) == 0 {
			return nil, fmt.Errorf("step %d: nothing is left that could be recommended", n+1)
		}
		slices.SortStableFunc(next, func(a, b path) int { return cmp.Compare(b.probability, a.probability) })
		if d.cfg.Samples == 0 {
			next = next[:min(d.cfg.Beam, len(next))]
		}
		if err := d.step(ctx, next); err != nil {
			return nil, fmt.Errorf("step %d futures: %w", len(next), err)
		}
		paths = next
	}
	return paths, nil
}

// grow gives the ways on from one path: one that is drawn, or the likeliest Beam.
func (d *decoder) grow(ctx context.Context, p *path) ([]path, error) {
	options, err := d.options(ctx, p)
	if err != nil || len(options) == 0 {
		return nil, err
	}
	if p.random != nil {
		return []path{p.with(options[d.draw(p.random, options)])}, nil
	}
	slices.SortStableFunc(options, func(a, b Behaviour) int { return cmp.Compare(b.Probability, a.Probability) })
	if d.cfg.Beam == 1 {
		options[0].Alternatives = slices.Clone(options[1:min(1+d.cfg.Alternatives, len(options))])
	}
	out := make([]path, min(d.cfg.Beam, len(options)))
	for i := range out {
		out[i] = p.with(options[i])
	}
	return out, nil
}

func (p *path) with(b Behaviour) path {
	return path{state: slices.Clone(p.state), queries: p.queries, last: b.Type, steps: append(slices.Clone(p.steps), b),
		probability: p.probability * b.Probability, random: p.random}
}

// options are all behaviours that may come next on a path, with their probabilities.
func (d *decoder) options(ctx context.Context, p *path) ([]Behaviour, error) {
	byTask := map[int][]Behaviour{}
	var out []Behaviour
	for _, t := range d.habits.after(p.last) {
		task := max(0, slices.Index(d.e.model.Tasks(), t.task))
		if byTask[task] == nil {
			items, err := d.softmax(ctx, p, task)
			if err != nil {
				return nil, err
			}
			byTask[task] = items
		}
		for _, b := range byTask[task] {
			b.Type, b.TypeProbability, b.Probability = t.name, t.probability, t.probability*b.ItemProbability
			out = append(out, b)
		}
	}
	return out, nil
}

// softmax gives the probability of each item that can be returned, by the query of one task.
func (d *decoder) softmax(ctx context.Context, p *path, task int) ([]Behaviour, error) {
	hits, err := d.items.Search(ctx, p.queries[task], d.items.Len())
	if err != nil {
		return nil, fmt.Errorf("search all items: %w", err)
	}
	out := make([]Behaviour, 0, len(hits.Items))
	sum, top := 0.0, 0.0
	for i, id := range hits.Items {
		if id == "" {
			break
		}
		if !d.cfg.Repeats && slices.ContainsFunc(p.steps, func(b Behaviour) bool { return b.ItemID == id }) {
			continue
		}
		if len(out) == 0 {
			top = float64(hits.Scores[i])
		}
		w := math.Exp(float64(hits.Scores[i]) - top)
		sum += w
		out = append(out, Behaviour{ItemID: id, ItemProbability: w})
	}
	for i := range out {
		out[i].ItemProbability /= sum
	}
	return out, nil
}

// draw takes one behaviour at random: with probability p^(1/temperature), normalised.
func (d *decoder) draw(random *rand.Rand, options []Behaviour) int {
	weight := func(b *Behaviour) float64 { return math.Pow(b.Probability, 1/d.cfg.Temperature) }
	sum := 0.0
	for i := range options {
		sum += weight(&options[i])
	}
	at := random.Float64() * sum
	for i := range options {
		if at -= weight(&options[i]); at < 0 {
			return i
		}
	}
	return len(options) - 1
}

// step lets the model take in the last behaviour of each path, all of them in one run.
func (d *decoder) step(ctx context.Context, paths []path) error {
	chains := make([]chain, len(paths))
	asks := make([]task, len(paths))
	for i := range paths {
		b := &paths[i].steps[len(paths[i].steps)-1]
		entry := freshet.Entry{ItemID: b.ItemID, Type: b.Type, Vector: d.e.rules.KindOf(b.ItemID)}
		chains[i] = chain{state: paths[i].state, steps: []freshet.Entry{entry}, gaps: []float32{d.gap}, half: d.e.cfg.Half, ask: &asks[i]}
	}
	if err := d.e.step(ctx, new(scratch), chains, 0); err != nil {
		return err
	}
	for i := range paths {
		paths[i].queries = asks[i].queries
	}
	return nil
}

// habits are a user's own types of behaviour, and which followed which.
type habits struct {
	types []habit
	next  map[string]map[string]float64
}

type habit struct {
	name, task  string
	probability float64 // how often it occurs at all
}

// habitsOf counts a window.
func habitsOf(window []freshet.Entry, types *freshet.EventTypes) habits {
	h := habits{next: map[string]map[string]float64{}}
	for i := range window {
		name := window[i].Type
		at := slices.IndexFunc(h.types, func(t habit) bool { return t.name == name })
		if at < 0 {
			t, _ := types.Lookup(name)
			at, h.types = len(h.types), append(h.types, habit{name: name, task: t.Task})
		}
		h.types[at].probability += 1 / float64(len(window))
		if i > 0 {
			before := window[i-1].Type
			if h.next[before] == nil {
				h.next[before] = map[string]float64{}
			}
			h.next[before][name]++
		}
	}
	return h
}

// smoothing is how many observations a user's overall mix of types counts for beside what followed one type.
const smoothing = 2

// after gives each type with its probability of following another, in the order of their first appearance.
func (h *habits) after(last string) []habit {
	total := 0.0
	for _, n := range h.next[last] {
		total += n
	}
	out := slices.Clone(h.types)
	for i := range out {
		out[i].probability = (h.next[last][out[i].name] + smoothing*out[i].probability) / (total + smoothing)
	}
	return out
}

// medianGap is the middle of the times between a window's entries, in seconds; 0 for fewer than two.
func medianGap(window []freshet.Entry) float32 {
	var gaps []float32
	for i := 1; i < len(window); i++ {
		gaps = append(gaps, float32(max(0, window[i].Time-window[i-1].Time))/1000)
	}
	if len(gaps) == 0 {
		return 0
	}
	slices.Sort(gaps)
	return gaps[len(gaps)/2]
}
