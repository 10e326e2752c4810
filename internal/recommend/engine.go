package recommend

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"freshet"
)

// Store keeps profiles and lists. Implementations answer with freshet.ErrUnavailable (wrapped) while they cannot.
type Store interface {
	// Load reads the profiles of users, nil where there is none.
	Load(ctx context.Context, users []string) ([][]byte, error)
	// Save stores each update if nothing has changed since its base. There is one result per update; the error explains the
	// first Retry among them.
	Save(ctx context.Context, updates []freshet.Update) ([]freshet.SaveResult, error)
	// Records reads stored lists, nil where there is none.
	Records(ctx context.Context, keys []freshet.RecordKey) ([][]byte, error)
}

// Model is the sequence model: one step per event.
type Model interface {
	ID() string
	Fingerprint() uint64
	Dim() int
	StateSize() int
	Tasks() []string
	TypeIndex(name string) int64
	Advance(ctx context.Context, steps *freshet.Steps) error
}

// Vectors gives the vector an item is folded with and the kind of it. The slice is read only.
type Vectors interface {
	Vector(itemID string) ([]float32, freshet.VectorKind)
	// Number is an item's freshet.Ref.Number, 0 where it has none.
	Number(itemID string) int32
	// VectorOf gives an item's vector, read only, and its length; nil for an item without one.
	VectorOf(item freshet.Ref) (vector []float32, norm float32)
}

// Source proposes candidates; see the package candidate.
type Source interface {
	Name() string
	// Propose gives up to n candidates per subject, best first. Items for which skip says true must not be among them.
	Propose(ctx context.Context, subjects []freshet.Subject, n int) ([][]freshet.Candidate, error)
	// Score writes the source's score of each item for the subject, also of items it did not propose.
	Score(ctx context.Context, subject *freshet.Subject, items []freshet.Ref, out []float32) error
}

// Borrower is a Source whose candidates may lie in the caller's memory: ProposeIn is Propose over it, and leaves there what it took, for the
// caller to lend again when he has read the lists.
type Borrower interface {
	ProposeIn(ctx context.Context, subjects []freshet.Subject, n int, memory *[]freshet.Candidate) ([][]freshet.Candidate, error)
}

// Explainer is a Source that can name the item of the user's history behind each of some candidates; "" = it cannot tell.
type Explainer interface {
	Because(subject *freshet.Subject, items []freshet.Ref) []string
}

// Voter is a Source that answers for one subject at a time, from memory: what it works out to propose also scores and explains.
type Voter interface {
	Ask(who *freshet.Subject) freshet.Opinion
}

// Learner is a Source that learns from the stream. Learn is called once per saved batch, only for events that were applied.
type Learner interface {
	Learn(lessons []freshet.Lesson)
}

// Observer hears what the engine did; telemetry implements it.
type Observer interface {
	// Event counts one event by its type and what became of it.
	Event(eventType string, outcome freshet.Outcome)
	// Stage reports how long a stage of a batch took: load, apply, fold, rank, save; and the parts of rank: search, vote, score, fuse,
	// choose, explain, encode.
	Stage(stage string, took time.Duration)
	// Refold counts a state folded anew: late, bundle, corrupt, query.
	Refold(reason string)
	// Fenced counts saves the store refused: newer, lost, retry.
	Fenced(reason string)
	// Visible reports that a list became visible; since is the log record's timestamp.
	Visible(since time.Time)
	// Shares reports the mean share of each source over one list.
	Shares(source string, share float64)
}

// Judge is an Observer that also hears how good lists were: the rank (from 1; 0 = it was not there) of each item that a user really
// took next, in the home list that stood when he did. It hears of what was saved, once.
type Judge interface {
	Judged(user string, rank int)
}

// Config of an Engine.
type Config struct {
	Lane string // name of the lane; default "live"
	CV   uint64 // of public records, where there is no Table
	// Table gives the table of lanes as it is now: it says who owns a user. A batch keeps to the one at its start. nil = this
	// lane owns everybody, and where lists go is left to the store.
	Table      func() *freshet.LaneTable
	Types      *freshet.EventTypes
	MaxHistory int                // entries of the window; default 50
	Late       freshet.LatePolicy // default reorder
	Half       bool               // keep states as float16
	Surfaces   []Surface          // at least one
	HotFor     time.Duration      // how long a local copy of a profile may be trusted; 0 = none are kept
	HotUsers   int                // local copies per partition; default 20,000
	// Excluded removes an item from a user's lists beyond the surfaces' own rules (evaluation hands in the full seen set).
	Excluded func(userID, itemID string) bool
	// Available says whether an item may be recommended at this moment; nil = every item may.
	Available func(itemID string) bool
	// Item gives what the catalogue knows of an item, read only; another version of it is another pointer. Surfaces with rules about
	// items need it.
	Item func(itemID string) (*freshet.Item, bool)
	// ItemsVersion, if set, is another number, above 0, after anything that Item answers has changed: while it stays, verdicts of rules are
	// not looked up again. nil = every verdict asks Item whether it is the same.
	ItemsVersion func() uint64
	// Temperatures calibrate sources: a source's score divided by its temperature is a log-probability up to a constant. A source that
	// is not named has 1.
	Temperatures map[string]float64
	// Texts, if set, put the first reason of every item into words that the records carry.
	Texts *Texts
	// Inspect, if set, is shown every pool before it is fused: the candidates of one subject and each source's score of each,
	// [source][item]; nil for a source that no surface asks. Read only, valid during the call (`eval tune` fits weights on them).
	Inspect func(who *freshet.Subject, items []freshet.Ref, scores [][]float32)
	// Forward, if set, publishes merged events: what an anonymous user did, for the user that he turned out to be. It returns when they are
	// acknowledged. Only the live lane forwards; the others find them in the log.
	Forward func(ctx context.Context, merged []freshet.Event) error
	// Owes, if set, tells whether lists that nobody reads may be owed at this moment: a lane that catches up makes a user's list a hundred
	// times over before anybody could read the first. Records are saved without items then, and Renew makes the lists at the end. Users whose
	// lists are read (freshet.Place), and lanes whose surfaces adapt, which learn from the lists between, are served as ever.
	Owes func() bool
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// Validate says what is wrong with a configuration and fills defaults in.
func (c *Config) Validate() error {
	if c.Lane == "" {
		c.Lane = freshet.LiveLane
	}
	if c.MaxHistory == 0 {
		c.MaxHistory = 50
	}
	if c.HotUsers == 0 {
		c.HotUsers = 20_000
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	switch {
	case c.Types == nil:
		return errors.New("recommend: Types is missing")
	case c.MaxHistory < 1 || c.MaxHistory > 200:
		return fmt.Errorf("recommend: MaxHistory is %d, must be 1 to 200", c.MaxHistory)
	case c.HotUsers < 0:
		return fmt.Errorf("recommend: HotUsers is %d, must not be negative", c.HotUsers)
	case len(c.Surfaces) == 0:
		return errors.New("recommend: at least one surface is needed")
	}
	seen := map[string]bool{}
	for i := range c.Surfaces {
		if err := c.Surfaces[i].validate(); err != nil {
			return err
		}
		if seen[c.Surfaces[i].Name] {
			return fmt.Errorf("surfaces: %q is there twice", c.Surfaces[i].Name)
		}
		seen[c.Surfaces[i].Name] = true
		if c.Item == nil && c.Surfaces[i].looksAtItems() {
			return fmt.Errorf("surfaces.%s: its rules are about items, but there is no catalogue to ask", c.Surfaces[i].Name)
		}
	}
	if len(c.Surfaces) > maxSurfaces {
		return fmt.Errorf("surfaces: %d, at most %d", len(c.Surfaces), maxSurfaces)
	}
	return nil
}

// Engine folds events into profiles and profiles into lists. It is safe for concurrent use by different partitions; one
// partition's batches must come one after another.
type Engine struct {
	cfg      Config
	store    Store
	model    Model
	vectors  Vectors
	sources  []Source
	obs      Observer
	judge    Judge // nil = nobody asks
	log      *zap.Logger
	rules    freshet.Rules
	hides    uint8        // what the surfaces' rules look at: flagSeen ...
	learns   bool         // a source learns from what users did before
	voters   []Voter      // of each source, nil where it is asked by batches
	scale    []float64    // of each source: 1 / temperature
	mixes    []*[]float64 // of each surface: configured weight / temperature, [source]
	adapters []*adapter   // of each surface, nil where the weights stay as they are
	judged   judgements
	nobody   *Engine // makes the lists of users without one

	failed atomic.Pointer[string] // why the model or a source could not compute the last batch; nil = it could

	mu  sync.Mutex
	hot map[freshet.Source]*hotProfiles
}

// New builds an engine over its parts. Every source named by a surface must be among sources.
func New(cfg Config, store Store, model Model, vectors Vectors, sources []Source, obs Observer, log *zap.Logger) (*Engine, error) {
	e, err := newEngine(cfg, store, model, vectors, sources, obs, log)
	if err != nil {
		return nil, err
	}
	if cold := coldConfig(e.cfg, sources); cold != nil {
		e.nobody, err = newEngine(*cold, store, model, vectors, sources, hushed{obs}, log)
	}
	return e, err
}

func newEngine(cfg Config, store Store, model Model, vectors Vectors, sources []Source, obs Observer, log *zap.Logger) (*Engine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	for i := range cfg.Surfaces {
		if err := cfg.Surfaces[i].resolve(sources, i); err != nil {
			return nil, err
		}
	}
	if len(sources) > maxSources {
		return nil, fmt.Errorf("recommend: %d sources, at most %d", len(sources), maxSources)
	}
	e := &Engine{cfg: cfg, store: store, model: model, vectors: vectors, sources: sources, obs: obs,
		log: log.Named("recommend"), hot: make(map[freshet.Source]*hotProfiles)}
	e.judge, _ = obs.(Judge)
	for i := range cfg.Surfaces {
		e.hides |= cfg.Surfaces[i].hides
	}
	e.rules = freshet.Rules{Types: cfg.Types, MaxHistory: cfg.MaxHistory, Late: cfg.Late,
		KindOf: func(id string) freshet.VectorKind { _, kind := vectors.Vector(id); return kind }}
	for _, src := range sources {
		voter, _ := src.(Voter)
		t, ok := cfg.Temperatures[src.Name()]
		if !ok {
			t = 1
		}
		if !(t > 0) {
			return nil, fmt.Errorf("fusion.temperatures.%s: %v, must be above 0", src.Name(), t)
		}
		e.voters, e.scale = append(e.voters, voter), append(e.scale, 1/t)
		if _, ok := src.(Learner); ok {
			e.learns = true
		}
	}
	for i := range e.cfg.Surfaces {
		s := &e.cfg.Surfaces[i]
		mix := make([]float64, len(sources))
		for k := range mix {
			mix[k] = s.weights[k] * e.scale[k]
		}
		e.mixes, e.adapters = append(e.mixes, &mix), append(e.adapters, nil)
		if s.Adapt.Mode != AdaptOff && len(s.Weights) > 1 {
			e.adapters[i] = newAdapter(s, mix)
		}
	}
	e.PauseLearning(false)
	return e, nil
}

// maxSurfaces is how many lists a user can have.
const maxSurfaces = 31

// maxReloads bounds how often one batch chases a profile that others keep changing; after that the batch is retried whole.
const maxReloads = 8

// Handle folds the events of partitions, in order, and returns the lists to publish. A user's events are all of one partition. On an error
// nothing is published; what was saved before it is recognised as applied when the same events come again.
func (e *Engine) Handle(ctx context.Context, events []freshet.Event) ([]freshet.Publication, error) {
	if len(events) == 0 {
		return nil, nil
	}
	x := scratches.Get().(*scratch)
	defer x.release()
	pending := groupByUser(events)
	e.place(pending)
	e.copies(pending)
	var out []freshet.Publication
	for try := 0; len(pending) > 0; try++ {
		if try == maxReloads {
			return nil, fmt.Errorf("save %d profiles that others keep changing: %w", len(pending), freshet.ErrUnavailable)
		}
		if err := e.load(ctx, pending); err != nil {
			return nil, err
		}
		e.apply(x, pending)
		if err := e.compute(ctx, x, pending); err != nil {
			return nil, err
		}
		lists, newer, err := e.save(ctx, x, pending)
		if err != nil {
			return nil, err
		}
		if err := e.forward(ctx, pending, newer); err != nil {
			return nil, err
		}
		out = append(out, lists...)
		pending = newer
	}
	return out, nil
}

// compute folds and ranks, and notes whether the model and the sources could do their part.
func (e *Engine) compute(ctx context.Context, x *scratch, tasks []*task) error {
	err := e.fold(ctx, x, tasks)
	if err == nil {
		err = e.rank(ctx, tasks)
	}
	switch {
	case err == nil && e.failed.Load() != nil:
		e.failed.Store(nil)
	case err != nil && ctx.Err() == nil && errors.Is(err, freshet.ErrUnavailable):
		text := err.Error()
		e.failed.Store(&text)
	}
	return err
}

// Degraded says why no list can be computed at present; nil = they can. Until then events wait and the lists of before stay.
func (e *Engine) Degraded() error {
	if text := e.failed.Load(); text != nil {
		return errors.New(*text)
	}
	return nil
}

// Release drops the local copies of a partition that is not ours any more, or that must be read again.
func (e *Engine) Release(source freshet.Source) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.hot, source)
}

// copies finds where the local copies of each task's partition are.
func (e *Engine) copies(tasks []*task) {
	var last *task
	for _, t := range tasks {
		if source := t.events[0].Position.Source; last != nil && last.events[0].Position.Source == source {
			t.hot = last.hot
		} else {
			t.hot = e.hotOf(source)
		}
		last = t
	}
}

func (e *Engine) hotOf(source freshet.Source) *hotProfiles {
	e.mu.Lock()
	defer e.mu.Unlock()
	h := e.hot[source]
	if h == nil {
		h = newHotProfiles(e.cfg.HotUsers, e.cfg.HotFor, e.cfg.Now)
		e.hot[source] = h
	}
	return h
}

// task is one user's part of a batch on its way through the stages.
type task struct {
	user    string
	events  []*freshet.Event
	hot     *hotProfiles // of his partition; nil = it keeps its own, and this task has none
	profile *freshet.Profile
	base    freshet.Version
	placing freshet.Place // of his lists
	cv      uint64

	standing standing // when the batch began
	listed   standing // what the batch made
	outcomes []freshet.Outcome
	lessons  []freshet.Lesson
	last     *freshet.Event // the last event that was applied; nil = nothing changed
	queries  [][]float32    // per task of the model; nil = no window
	records  []freshet.Record
	encoded  []byte // in the batch's scratch
	refolds  []string
}

// scratch is memory that a batch needs until it is saved. It is used again and only grows.
type scratch struct {
	profiles []byte          // encoded, one after the other
	before   []freshet.Entry // what users had done before each event
	rounds   []freshet.Steps // of the model, and the queries they gave
	chains   []chain
	active   []chain // those of a round
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// release gives the memory back. Nothing may refer to it any more.
func (x *scratch) release() {
	clear(x.before) // ids may be the last references to large strings
	x.profiles, x.before = x.profiles[:0], x.before[:0]
	scratches.Put(x)
}

func (t *task) subject() freshet.Subject {
	return freshet.Subject{Profile: t.profile, Queries: t.queries, Now: t.last.Time}
}

// groupByUser gives one task per user, in order of first appearance, with his events in order.
func groupByUser(events []freshet.Event) []*task {
	byUser := make(map[string]*task, len(events))
	tasks := make([]*task, 0, len(events))
	for i := range events {
		ev := &events[i]
		t := byUser[ev.UserID]
		if t == nil {
			t = &task{user: ev.UserID}
			byUser[ev.UserID] = t
			tasks = append(tasks, t)
		}
		t.events = append(t.events, ev)
	}
	return tasks
}

// place says where each task's lists go.
func (e *Engine) place(tasks []*task) {
	var table *freshet.LaneTable
	if e.cfg.Table != nil {
		table = e.cfg.Table()
	}
	for _, t := range tasks {
		if t.cv = e.cfg.CV; table != nil {
			t.placing, t.cv = table.Place(e.cfg.Lane, t.user)
		}
	}
}

// load fills in each task's profile: the hot copy, what the store has, or a new one.
func (e *Engine) load(ctx context.Context, tasks []*task) error {
	defer e.stage("load")()
	missing := make([]*task, 0, len(tasks))
	users := make([]string, 0, len(tasks))
	for _, t := range tasks {
		t.refolds = nil
		if t.profile, t.base, t.standing = t.hot.take(t.user); t.profile == nil {
			missing, users = append(missing, t), append(users, t.user)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	stored, err := e.store.Load(ctx, users)
	if err != nil {
		return fmt.Errorf("load %d profiles: %w", len(users), err)
	}
	for i, t := range missing {
		t.profile, t.base = e.open(t.user, stored[i]), freshet.VersionOf(stored[i])
		if t.profile.Fingerprint != e.model.Fingerprint() {
			if t.profile.State != nil {
				t.refolds = append(t.refolds, "bundle")
			}
			t.profile.Forget()
			t.profile.Fingerprint = e.model.Fingerprint()
		}
	}
	return e.standing(ctx, missing)
}

// open decodes stored bytes. Bytes that are no profile are never served: the user starts anew under the stored version, and the
// fact is counted and logged.
func (e *Engine) open(user string, stored []byte) *freshet.Profile {
	if stored == nil {
		return e.newProfile(user)
	}
	p, err := freshet.DecodeProfile(user, stored)
	if err != nil {
		e.obs.Refold("corrupt")
		e.log.Error("a stored profile is damaged: the user starts anew", zap.Error(err), zap.String("version", fmt.Sprintf("%x", string(freshet.VersionOf(stored)))))
		p = e.newProfile(user)
		p.Rev = freshet.VersionOf(stored).Rev()
	}
	if p.Half != e.cfg.Half {
		p.Half = e.cfg.Half
		p.Forget()
	}
	return p
}

func (e *Engine) newProfile(user string) *freshet.Profile {
	return &freshet.Profile{UserID: user, Fingerprint: e.model.Fingerprint(), Half: e.cfg.Half}
}

// apply runs each user's events over his profile.
func (e *Engine) apply(x *scratch, tasks []*task) {
	defer e.stage("apply")()
	for _, t := range tasks {
		t.outcomes, t.lessons, t.last = t.outcomes[:0], nil, nil
		line := -1 // where a copy of this user's latest entries begins in x.before; -1 = there is none that is up to date
		for _, ev := range t.events {
			var before []freshet.Entry
			typ, _ := e.cfg.Types.Lookup(ev.Type)
			if e.learns && typ.Effect == freshet.Extend { // Apply moves the window in place
				w := t.profile.Window
				w = w[max(0, len(w)-freshet.MaxBefore):]
				if line < 0 {
					line, x.before = len(x.before), append(x.before, w...)
				}
				before = x.before[len(x.before)-len(w) : len(x.before) : len(x.before)]
			}
			outcome := t.profile.Apply(ev, &e.rules)
			t.outcomes = append(t.outcomes, outcome)
			if outcome != freshet.Applied {
				continue
			}
			t.last = ev
			t.lessons = append(t.lessons, freshet.Lesson{Event: ev, Type: typ, Before: before})
			if line >= 0 && !x.follow(t.profile.Window, ev) {
				line = -1
			}
		}
	}
}

// follow takes what an event appended to a window into the copy of it: most events come in order, and a user with many of them in a batch
// needs one copy, not one for each. It tells whether the copy is up to date.
func (x *scratch) follow(window []freshet.Entry, ev *freshet.Event) bool {
	first, hash := len(window), freshet.HashID(ev.ID)
	for first > 0 && window[first-1].Event == hash {
		first--
	}
	x.before = append(x.before, window[first:]...)
	return first < len(window) && ev.Type == window[first].Type
}

func (e *Engine) stage(name string) func() {
	start := time.Now()
	return func() { e.obs.Stage(name, time.Since(start)) }
}
