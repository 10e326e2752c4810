package models

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"freshet"
)

func openIndex(t testing.TB, b *Bundle, cfg IndexConfig) *Index {
	t.Helper()
	if cfg.Work == "" {
		cfg.Work = t.TempDir()
	}
	x, err := OpenIndex(b, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Close(); err != nil && !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
	return x
}

// byHand means that only Settle rewrites the matrix.
var byHand = IndexConfig{Recommendable: All, RewriteAfter: -1}

func randomVectors(r *rand.Rand, n, d int) []float32 {
	v := make([]float32, n*d)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return v
}

// catalogue is the obvious index: what Search must agree with.
type catalogue struct {
	ids     []string
	vectors map[string][]float32
	bias    map[string]float32
	shown   map[string]bool
}

func catalogueOf(b *Bundle) *catalogue {
	c := &catalogue{vectors: map[string][]float32{}, bias: map[string]float32{}, shown: map[string]bool{}}
	for row, id := range b.ids[1:] {
		c.set(id, b.row(row+1), b.bias[row+1])
		c.shown[id] = true
	}
	return c
}

func (c *catalogue) set(id string, vector []float32, bias float32) {
	if c.vectors[id] == nil {
		c.ids = append(c.ids, id)
	}
	c.vectors[id], c.bias[id] = vector, bias
}

func (c *catalogue) search(query []float32, n int) (ids []string, scores []float64) {
	score := func(id string) (sum float64) {
		for i, v := range c.vectors[id] {
			sum += float64(v) * float64(query[i])
		}
		return sum + float64(c.bias[id])
	}
	for _, id := range c.ids {
		if c.shown[id] {
			ids = append(ids, id)
		}
	}
	slices.SortStableFunc(ids, func(a, b string) int {
		if score(a) > score(b) {
			return -1
		}
		return 1
	})
	ids = ids[:min(n, len(ids))]
	for _, id := range ids {
		scores = append(scores, score(id))
	}
	return ids, scores
}

// agree holds an index to the obvious one on random queries.
func agree(t *testing.T, x *Index, c *catalogue, when string) {
	t.Helper()
	r, d := rand.New(rand.NewPCG(3, 4)), x.bundle.Dim()
	for _, n := range []int{1, 5, 64} {
		queries := randomVectors(r, 7, d)
		h, err := x.Search(context.Background(), queries, n)
		if err != nil {
			t.Fatal(err)
		}
		for q := range 7 {
			ids, scores := c.search(queries[q*d:(q+1)*d], n)
			for j := range n {
				id, score := h.Items[q*n+j], h.Scores[q*n+j]
				switch {
				case j >= len(ids) && (id != "" || !math.IsInf(float64(score), -1)):
					t.Fatalf("%s: query %d of %d: hit %d is %q %v, want none", when, q, n, j, id, score)
				case j < len(ids) && (id != ids[j] || math.Abs(float64(score)-scores[j]) > 1e-5):
					t.Fatalf("%s: query %d of %d: hit %d is %q %v, want %q %v", when, q, n, j, id, score, ids[j], scores[j])
				}
			}
		}
	}
	shown := 0
	for _, on := range c.shown {
		if on {
			shown++
		}
	}
	if x.Len() != shown {
		t.Fatalf("%s: Len is %d, want %d", when, x.Len(), shown)
	}
}

func TestSearchIsExactWhateverHappensToTheCatalogue(t *testing.T) {
	ctx, b := context.Background(), openTiny(t)
	x, c, r := openIndex(t, b, byHand), catalogueOf(b), rand.New(rand.NewPCG(1, 2))
	agree(t, x, c, "opened")
	upsert := func(id string, bias float32) {
		v := randomVectors(r, 1, b.Dim())
		if err := x.Upsert(id, v, bias); err != nil {
			t.Fatal(err)
		}
		c.set(id, v, bias)
		if _, ok := c.shown[id]; !ok {
			c.shown[id] = true
		}
	}
	show := func(id string, on bool) {
		if !x.SetRecommendable(id, on) {
			t.Fatalf("%s is not known", id)
		}
		c.shown[id] = on
	}
	settle := func(when string) {
		agree(t, x, c, when+", before the rewrite")
		if err := x.Settle(ctx); err != nil {
			t.Fatal(err)
		}
		agree(t, x, c, when+", after the rewrite")
		if n := len(x.current.Load().newest); n != 0 {
			t.Fatalf("%s: %d items are still beside the matrix", when, n)
		}
	}
	upsert("n1", 0.5)
	upsert("n2", 0)
	show("i3", false)
	settle("two new, one hidden")
	upsert("n1", 0.5) // another vector
	upsert("n3", -1)
	show("i3", true)
	show("n2", false)
	settle("one changed, one new, one shown, one hidden")
	for i := range 40 { // beyond the bundle's capacity of 32
		upsert(fmt.Sprint("m", i), 0)
	}
	settle("more items than the bundle has room for")
	for _, id := range []string{"m0", "m1", "i5", "n3"} {
		x.Remove(id)
		c.shown[id] = false
	}
	settle("four removed")
	upsert("m0", 1)
	show("m0", true)
	show("i5", true)
	settle("two came back")
}

func TestTrainedItemsKeepTheirVectors(t *testing.T) {
	b := openTiny(t)
	x := openIndex(t, b, byHand)
	other := make([]float32, b.Dim())
	if err := x.Upsert("i4", other, 9); err != nil {
		t.Fatal(err)
	}
	if v, kind := x.Vector("i4"); kind != freshet.Trained || !slices.Equal(v, b.row(4)) {
		t.Errorf("i4 is %v %v", kind, v)
	}
	agree(t, x, catalogueOf(b), "after an upsert of a trained item")
}

func TestVectorSaysWhichKindItIs(t *testing.T) {
	b := openTiny(t)
	x := openIndex(t, b, byHand)
	if v, kind := x.Vector("new"); kind != freshet.Unknown || !slices.Equal(v, b.row(0)) {
		t.Errorf("an unknown item is %v %v", kind, v)
	}
	vector := randomVectors(rand.New(rand.NewPCG(5, 6)), 1, b.Dim())
	if err := x.Upsert("new", vector, 0); err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"upserted", "hidden", "removed", "settled"} {
		switch when {
		case "hidden":
			x.SetRecommendable("new", false)
		case "removed":
			x.Remove("new")
		case "settled":
			if err := x.Settle(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		if v, kind := x.Vector("new"); kind != freshet.Tower || !slices.Equal(v, vector) {
			t.Errorf("%s: %v %v", when, kind, v)
		}
	}
}

func TestServingRecommendsOnlyWhatTheCatalogueNames(t *testing.T) {
	b := openTiny(t)
	x := openIndex(t, b, IndexConfig{RewriteAfter: -1})
	query := randomVectors(rand.New(rand.NewPCG(7, 8)), 1, b.Dim())
	first := func() string {
		h, err := x.Search(context.Background(), query, 1)
		if err != nil {
			t.Fatal(err)
		}
		return h.Items[0]
	}
	if id := first(); id != "" || x.Len() != 0 {
		t.Errorf("%q is recommended of %d before the catalogue named any", id, x.Len())
	}
	if !x.SetRecommendable("i7", true) || first() != "i7" {
		t.Error("i7 is not recommended though the catalogue named it")
	}
	if err := x.Upsert("new", make([]float32, b.Dim()), 100); err != nil || first() != "i7" {
		t.Errorf("a new item is recommended before it is named (%v)", err)
	}
	if !x.SetRecommendable("new", true) || first() != "new" {
		t.Error("a new item is not recommended at once")
	}
	if x.SetRecommendable("nobody", true) || x.Remove("nobody") {
		t.Error("an item without a vector is said to be known")
	}
}

func TestEqualScoresComeInOrderOfArrival(t *testing.T) {
	b := openTiny(t)
	x := openIndex(t, b, IndexConfig{RewriteAfter: -1})
	var want []string
	for i := range 30 {
		id := fmt.Sprint("t", (i*7)%30)
		if err := x.Upsert(id, slices.Repeat([]float32{1}, b.Dim()), 0); err != nil {
			t.Fatal(err)
		}
		x.SetRecommendable(id, true)
		want = append(want, id)
		if i == 11 {
			if err := x.Settle(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, when := range []string{"half beside", "all in the matrix"} {
		h, err := x.Search(context.Background(), slices.Repeat([]float32{0.25}, b.Dim()), 30)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(h.Items, want) {
			t.Errorf("%s: %v, want %v", when, h.Items, want)
		}
		if err := x.Settle(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestScoreIsWhatSearchSays(t *testing.T) {
	b := openTiny(t)
	x := openIndex(t, b, byHand)
	query := randomVectors(rand.New(rand.NewPCG(9, 1)), 1, b.Dim())
	h, err := x.Search(context.Background(), query, 19)
	if err != nil {
		t.Fatal(err)
	}
	refs, scores := make([]freshet.Ref, len(h.Items)), make([]float32, len(h.Items))
	for i, id := range h.Items {
		if h.Numbers[i] != x.Number(id) || h.Numbers[i] == 0 {
			t.Errorf("%s has number %d in the search, and %d", id, h.Numbers[i], x.Number(id))
		}
		refs[i] = freshet.Ref{ItemID: id, Number: h.Numbers[i] * int32(i%2)} // with and without
	}
	x.Score(query, refs, scores)
	for i, s := range scores {
		if math.Abs(float64(s-h.Scores[i])) > 1e-5 {
			t.Errorf("%s scores %v, in the search %v", h.Items[i], s, h.Scores[i])
		}
	}
	if x.Score(query, []freshet.Ref{{ItemID: "nobody"}}, scores); !math.IsInf(float64(scores[0]), -1) {
		t.Errorf("an item without a vector scores %v", scores[0])
	}
	if v, norm := x.VectorOf(refs[1]); math.Abs(float64(norm)-math.Sqrt(float64(freshet.Dot(v, v)))) > 1e-6 {
		t.Errorf("%s is said to be %v long", refs[1].ItemID, norm)
	}
}

// Searches run while items arrive, change, vanish and the matrix is rewritten: every search must return the item that never
// changes, once, and nothing twice.
func TestSearchDuringRewrites(t *testing.T) {
	b := openTiny(t)
	x := openIndex(t, b, IndexConfig{Recommendable: All, Newest: 8, RewriteAfter: 1})
	d := b.Dim()
	if err := x.Upsert("anchor", slices.Repeat([]float32{9}, d), 0); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			var h freshet.Hits
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := x.SearchInto(context.Background(), slices.Repeat([]float32{1}, 3*d), 20, &h); err != nil {
					t.Error(err)
					return
				}
				if h.Items[0] != "anchor" || h.Items[20] != "anchor" || slices.Contains(h.Items[1:20], "anchor") {
					t.Errorf("hits %v", h.Items[:20])
					return
				}
				x.Vector("w3")
			}
		})
	}
	r := rand.New(rand.NewPCG(2, 9))
	for i := range 400 {
		id := fmt.Sprint("w", i%50)
		if err := x.Upsert(id, randomVectors(r, 1, d), 0); err != nil {
			t.Fatal(err)
		}
		if i%5 == 0 {
			x.Remove(id)
		}
		if i%40 == 0 {
			if err := x.Settle(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	close(stop)
	readers.Wait()
}

// While a catalogue is loaded nothing is rewritten, and everything is found; afterwards one rewrite takes it all in.
func TestAHeldIndexIsNotRewritten(t *testing.T) {
	b := openTiny(t)
	x := openIndex(t, b, IndexConfig{Recommendable: All, RewriteAfter: time.Millisecond, Newest: 4})
	x.Hold()
	before := x.current.Load().generation
	r := rand.New(rand.NewPCG(4, 2))
	for i := range 100 {
		if err := x.Upsert(fmt.Sprintf("new%d", i), randomVectors(r, 1, b.Dim()), 0); err != nil {
			t.Fatal(err)
		}
	}
	v, _ := x.Vector("new42")
	long := slices.Clone(v)
	for i := range long {
		long[i] *= 100
	}
	hits, err := x.Search(context.Background(), long, 1)
	if err != nil || hits.Items[0] != "new42" || x.current.Load().generation != before {
		t.Fatalf("%v, %v; rewritten: %v", hits.Items, err, x.current.Load().generation != before)
	}
	x.Release()
	for x.current.Load().generation == before || len(x.current.Load().newest) > 0 {
		runtime.Gosched()
	}
}

func TestIndexRefusesBrokenVectors(t *testing.T) {
	b := openTiny(t)
	x := openIndex(t, b, byHand)
	inf := float32(math.Inf(1))
	for name, f := range map[string]func() error{
		"short vector": func() error { return x.Upsert("n", make([]float32, 7), 0) },
		"infinite":     func() error { return x.Upsert("n", slices.Repeat([]float32{inf}, 8), 0) },
		"bias":         func() error { return x.Upsert("n", make([]float32, 8), inf) },
		"no id":        func() error { return x.Upsert("", make([]float32, 8), 0) },
		"short query":  func() error { _, err := x.Search(context.Background(), make([]float32, 9), 1); return err },
		"no hits":      func() error { _, err := x.Search(context.Background(), make([]float32, 8), 0); return err },
	} {
		if f() == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestIndexIsUselessOnceClosed(t *testing.T) {
	x := openIndex(t, openTiny(t), byHand)
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := x.Search(context.Background(), make([]float32, 8), 1); !errors.Is(err, ErrClosed) {
		t.Errorf("search: %v", err)
	}
	if err := x.Settle(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("settle: %v", err)
	}
	if err := x.Close(); !errors.Is(err, ErrClosed) {
		t.Errorf("close: %v", err)
	}
}
