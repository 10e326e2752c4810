package catalogue

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"freshet"
)

// shelf is an index that knows one trained item, "old".
type board struct {
	mu    sync.Mutex
	shown map[string]bool
	tower map[string][]float32
}

func (s *board) Upsert(id string, v []float32, _ float32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tower[id] = v
	return nil
}

func (s *board) SetRecommendable(id string, on bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, known := s.tower[id]
	known = known || id == "old"
	s.shown[id] = on && known
	return known
}

func (s *board) Remove(id string) bool { return s.SetRecommendable(id, false) }

func (s *board) Vector(id string) ([]float32, freshet.VectorKind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id == "old" {
		return []float32{1}, freshet.Trained
	}
	if v, ok := s.tower[id]; ok {
		return v, freshet.Tower
	}
	return []float32{0}, freshet.Unknown
}

func (s *board) shows(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown[id]
}

// lengths encodes a text as its length, and counts what it reads.
type lengths struct {
	mu    sync.Mutex
	texts []string
	fail  error
	name  string
}

func (l *lengths) Encode(_ context.Context, texts []string) ([][]float32, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return nil, l.fail
	}
	l.texts = append(l.texts, texts...)
	out := make([][]float32, len(texts))
	for i, t := range texts {
		out[i] = []float32{float32(len(t))}
	}
	return out, nil
}

func (l *lengths) Hash() string { return l.name }

func (l *lengths) ItemVectors(_ context.Context, texts [][]float32) ([][]float32, error) {
	return texts, nil
}

func (l *lengths) read() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.texts)
}

// drawer is a store in memory.
type drawer struct {
	mu      sync.Mutex
	items   map[string]freshet.Item
	vectors map[string]freshet.ItemVector
}

func (d *drawer) PutItems(_ context.Context, items []freshet.Item) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, i := range items {
		d.items[i.ItemID] = i
	}
	return nil
}

func (d *drawer) DeleteItems(_ context.Context, ids []string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range ids {
		delete(d.items, id)
	}
	return nil
}

func (d *drawer) PutVectors(_ context.Context, vectors []freshet.ItemVector) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, v := range vectors {
		d.vectors[v.ItemID] = v
	}
	return nil
}

func (d *drawer) Vectors(_ context.Context, ids []string) ([]freshet.ItemVector, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]freshet.ItemVector, len(ids))
	for i, id := range ids {
		out[i] = d.vectors[id]
		out[i].ItemID = id
	}
	return out, nil
}

type fixture struct {
	*Catalogue
	shelf   *board
	encoder *lengths
	drawer  *drawer
	now     time.Time
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{shelf: &board{shown: map[string]bool{}, tower: map[string][]float32{}}, encoder: &lengths{name: "e1"},
		drawer: &drawer{items: map[string]freshet.Item{}, vectors: map[string]freshet.ItemVector{}}, now: time.UnixMilli(1_800_000_000_000)}
	f.Catalogue = New(f.drawer, func() time.Time { return f.now }, zap.NewNop())
	f.Read(f.encoder)
	if err := f.Attach(t.Context(), f.shelf, f.encoder); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) apply(t *testing.T, items ...freshet.Item) {
	t.Helper()
	changes := make([]Change, len(items))
	for i := range items {
		changes[i] = Change{ItemID: items[i].ItemID, Item: &items[i]}
	}
	if err := f.Apply(context.Background(), changes); err != nil {
		t.Fatal(err)
	}
}

func TestNewItemsAreRecommendableWhenApplyReturns(t *testing.T) {
	f := newFixture(t)
	f.apply(t, freshet.Item{ItemID: "old", Title: "known to the bundle"}, freshet.Item{ItemID: "new", Title: "never seen"})
	if !f.shelf.shows("old") || !f.shelf.shows("new") || !f.Recommendable("new") || f.Recommendable("nobody") {
		t.Fatalf("shown: %v", f.shelf.shown)
	}
	if !slices.Equal(f.encoder.texts, []string{"never seen"}) {
		t.Fatalf("read at once: %q; the text of a trained item can wait", f.encoder.texts)
	}
	if v, kind := f.shelf.Vector("new"); kind != freshet.Tower || v[0] != float32(len("never seen")) {
		t.Fatalf("vector %v of kind %d", v, kind)
	}
	if f.drawer.items["new"].Title != "never seen" || f.Len() != 2 {
		t.Fatal("the store or the count misses an item")
	}
}

func TestAnItemLeavesWhenUnavailableExpiredOrRemoved(t *testing.T) {
	f := newFixture(t)
	no, soon := false, f.now.Add(time.Minute)
	f.apply(t, freshet.Item{ItemID: "old", Available: &no}, freshet.Item{ItemID: "b", Title: "b", ExpiresAt: &soon}, freshet.Item{ItemID: "c", Title: "c"})
	if f.shelf.shows("old") || !f.shelf.shows("b") || !f.shelf.shows("c") {
		t.Fatalf("shown: %v", f.shelf.shown)
	}
	f.now = f.now.Add(2 * time.Minute)
	f.Expire()
	if f.shelf.shows("b") || f.Recommendable("b") {
		t.Fatal("an expired item is still shown")
	}
	if err := f.Apply(context.Background(), []Change{{ItemID: "c"}}); err != nil {
		t.Fatal(err)
	}
	if _, ok := f.Item("c"); ok || f.shelf.shows("c") || len(f.drawer.items) != 2 {
		t.Fatal("a removed item is still there")
	}
	f.apply(t, freshet.Item{ItemID: "old"})
	if !f.shelf.shows("old") {
		t.Fatal("an item that came back is not shown")
	}
}

// Of several changes of an item in one batch the last wins.
func TestTheLatestChangeWins(t *testing.T) {
	f := newFixture(t)
	if err := f.Apply(context.Background(), []Change{{ItemID: "a", Item: &freshet.Item{ItemID: "a", Title: "first"}}, {ItemID: "a"},
		{ItemID: "a", Item: &freshet.Item{ItemID: "a", Title: "second"}}}); err != nil {
		t.Fatal(err)
	}
	if i, ok := f.Item("a"); !ok || i.Title != "second" {
		t.Fatalf("%+v", i)
	}
}

func TestTextsAreReadOnceForTheSameTextAndEncoder(t *testing.T) {
	f := newFixture(t)
	f.apply(t, freshet.Item{ItemID: "new", Title: "text"})
	f.apply(t, freshet.Item{ItemID: "new", Title: "text", Price: 5})
	if f.encoder.read() != 1 {
		t.Fatalf("read %q", f.encoder.texts)
	}
	f.apply(t, freshet.Item{ItemID: "new", Title: "other text"})
	if f.encoder.read() != 2 {
		t.Fatalf("a changed text was not read: %q", f.encoder.texts)
	}
	f.encoder.name = "e2"
	f.apply(t, freshet.Item{ItemID: "new", Title: "other text"})
	if f.encoder.read() != 3 {
		t.Fatal("another encoder's vector was taken")
	}
}

// Run reads the texts of trained items behind the stream's back, and goes on after a failure.
func TestTheBacklogIsRead(t *testing.T) {
	f := newFixture(t)
	f.encoder.fail = errors.New("busy")
	f.apply(t, freshet.Item{ItemID: "old", Title: "old text"})
	if err := f.drain(context.Background()); err == nil || f.Backlog() != 1 {
		t.Fatalf("%v with a backlog of %d: what fails must stay", err, f.Backlog())
	}
	f.encoder.fail = nil
	ctx, cancel := context.WithCancel(context.Background())
	read, ended := make(chan int, 1), make(chan struct{})
	f.OnProgress(func(done, _ int) { read <- done })
	go func() { f.Run(ctx); close(ended) }()
	if done := <-read; done != 1 {
		t.Fatalf("%d texts read", done)
	}
	cancel()
	<-ended
	if f.Backlog() != 0 || f.drawer.vectors["old"].Vector == nil {
		t.Fatalf("backlog %d, stored %v", f.Backlog(), f.drawer.vectors)
	}
}

// A lane that is added while the process runs finds what the catalogue knows, and hears of everything that comes later.
func TestALateShelfIsFilled(t *testing.T) {
	f := newFixture(t)
	f.apply(t, freshet.Item{ItemID: "old", Title: "known to training"}, freshet.Item{ItemID: "a", Title: "new"}, freshet.Item{ItemID: "b", Title: "gone"})
	if err := f.Apply(t.Context(), []Change{{ItemID: "b"}}); err != nil {
		t.Fatal(err)
	}
	read := f.encoder.read()
	late := &board{shown: map[string]bool{}, tower: map[string][]float32{}}
	if err := f.Attach(t.Context(), late, f.encoder); err != nil {
		t.Fatal(err)
	}
	if !late.shows("old") || !late.shows("a") || late.shows("b") {
		t.Errorf("the late shelf shows %v", late.shown)
	}
	if got := f.encoder.read(); got != read {
		t.Errorf("%d texts were read again", got-read)
	}
	f.apply(t, freshet.Item{ItemID: "c", Title: "later"})
	if !late.shows("c") || !f.shelf.shows("c") {
		t.Error("an item that came later is not on both shelves")
	}
	f.Detach(late)
	f.apply(t, freshet.Item{ItemID: "d", Title: "after"})
	if late.shows("d") || !f.shelf.shows("d") {
		t.Error("a shelf that was detached still hears of items, or the other does not")
	}
}

// What another worker keeps, or the store has already, is taken in like everything else, but not written.
func TestOnlyTheKeeperWrites(t *testing.T) {
	f := newFixture(t)
	apply := func(changes ...Change) {
		t.Helper()
		if err := f.Apply(t.Context(), changes); err != nil {
			t.Fatal(err)
		}
		if err := f.drain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	item := func(id string) *freshet.Item { return &freshet.Item{ItemID: id, Title: "title of " + id} }
	apply(Change{ItemID: "new", Item: item("new"), Foreign: true}, Change{ItemID: "old", Item: item("old"), Foreign: true}, Change{ItemID: "kept", Item: item("kept"), Kept: true})
	if len(f.drawer.items) != 0 || f.drawer.vectors["new"].Vector != nil || f.drawer.vectors["old"].Vector != nil {
		t.Fatalf("written: %v, %v", f.drawer.items, f.drawer.vectors)
	}
	if !f.shelf.shows("new") || !f.shelf.shows("old") || !f.shelf.shows("kept") || f.Backlog() != 0 {
		t.Fatalf("shown: %v, backlog %d", f.shelf.shown, f.Backlog())
	}
	if f.drawer.vectors["kept"].Vector == nil {
		t.Fatal("the store has the item, but nobody stored its vector")
	}
	apply(Change{ItemID: "new", Item: item("new")}) // its keeper is gone, this worker is the next
	if f.drawer.items["new"].Title == "" || f.drawer.vectors["new"].Vector == nil {
		t.Fatalf("the new keeper wrote %v, %v", f.drawer.items, f.drawer.vectors)
	}
	apply(Change{ItemID: "new", Foreign: true}, Change{ItemID: "kept", Kept: true})
	if f.drawer.items["new"].Title == "" || f.shelf.shows("new") || f.shelf.shows("kept") || f.Len() != 1 {
		t.Fatal("a removal was written for the keeper, or was not taken in")
	}
}
