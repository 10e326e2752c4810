package shop

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"freshet"
)

// Domains of the shop.
const (
	Outdoor = "outdoor"
	Books   = "books"
)

const (
	perKind  = 15 // items of one outdoor kind
	perShelf = 13 // books of one theme and genre
	levels   = 3  // price levels: every kind has items of each
)

// product is an item with what shoppers know about it.
type product struct {
	item  freshet.Item
	shelf int // index into catalogue.shelves
	level int // price level, 0 = cheap
}

// shelf is one kind of product: all hiking boots, or all guidebooks about hiking.
type shelf struct {
	slug    string
	domain  string
	byLevel [levels][]int // products, most popular first; shoppers who compare walk along a ring of these
}

// catalogue is the shop's stock and the paths that interests take through it.
type catalogue struct {
	products []product
	shelves  []shelf
	paths    [][]int // per theme: shelves in the order in which people come to need them
	nextDoor [][]int // per theme: themes that people move on to
}

func words(s string) []string { return strings.Split(s, "|") }

func pick(r *rand.Rand, s string) string {
	w := words(s)
	return w[r.IntN(len(w))]
}

// newCatalogue composes the stock. It is a function of the seed alone.
func newCatalogue(seed int64) *catalogue {
	r := rand.New(rand.NewPCG(uint64(seed), 0xca7a109))
	c := &catalogue{}
	titles := make(map[string]bool)
	byKind := make(map[string]int, len(outdoorKinds))
	for i := range outdoorKinds {
		byKind[outdoorKinds[i].slug] = len(c.shelves)
		c.addShelf(outdoorKinds[i].slug, Outdoor, perKind, titles, func(n int) freshet.Item { return gear(r, &outdoorKinds[i], n%levels) })
	}
	books := len(c.shelves)
	for i := range themes {
		for g := range genres {
			c.addShelf(themes[i].slug+"-"+genres[g].slug, Books, perShelf, titles, func(n int) freshet.Item { return book(r, &themes[i], &genres[g], n%levels) })
		}
	}
	c.decorate(r)
	c.connect(byKind, books)
	return c
}

// addShelf fills a shelf with n items of unique titles; item n has price level n mod levels.
func (c *catalogue) addShelf(slug, domain string, n int, titles map[string]bool, make func(n int) freshet.Item) {
	s := shelf{slug: slug, domain: domain}
	for i := 0; i < n; {
		it := make(i)
		if titles[it.Title] {
			continue // the lists allow hundreds of titles a shelf, so this ends
		}
		titles[it.Title] = true
		it.Domain = domain
		it.ItemID = fmt.Sprintf("%c%04d", domain[0], len(c.products)+1)
		s.byLevel[i%levels] = append(s.byLevel[i%levels], len(c.products))
		c.products = append(c.products, product{item: it, shelf: len(c.shelves), level: i % levels})
		i++
	}
	c.shelves = append(c.shelves, s)
}

// gear composes an item of the outdoor domain: "Larkfell Skarn Waterproof Trekking Boot".
func gear(r *rand.Rand, k *kind, level int) freshet.Item {
	allBrands, allLines := words(brands), words(lines)
	perLevel := len(allBrands) / levels
	b := level*perLevel + r.IntN(perLevel)
	ofBrand := len(allLines) / len(allBrands) // lines are a brand's own
	line := allLines[b*ofBrand+r.IntN(ofBrand)]
	trait, noun := pick(r, k.traits), pick(r, k.nouns)
	use := usesOf(k.slug)
	return freshet.Item{
		Title:       strings.Join([]string{allBrands[b], line, trait, noun}, " "),
		Description: describe(r, fmt.Sprintf("%s from the %s line, for %s.", sentence(trait+" "+noun), line, use), k.points),
		Categories:  words(k.category),
		Brand:       allBrands[b],
		Price:       price(r, k.low, k.high, level),
		Attributes:  fmt.Appendf(nil, `{"colour":%q,"line":%q}`, pick(r, colours), line),
	}
}

// usesOf says what a kind is for: the themes whose path it lies on.
func usesOf(slug string) string {
	var uses []string
	for i := range themes {
		if strings.Contains("|"+themes[i].path+"|", "|"+slug+"|") && len(uses) < 3 {
			uses = append(uses, themes[i].doing)
		}
	}
	if len(uses) < 2 {
		return strings.Join(uses, "")
	}
	return strings.Join(uses[:len(uses)-1], ", ") + " and " + uses[len(uses)-1]
}

// book composes an item of the books domain: "Around Lofoten: A Ski Touring Companion".
func book(r *rand.Rand, t *theme, g *genre, level int) freshet.Item {
	place, thing := pick(r, t.places), pick(r, t.things)
	other := pick(r, t.things)
	for other == thing {
		other = pick(r, t.things)
	}
	season := pick(r, seasons)
	title := strings.NewReplacer("{Doing}", t.Doing, "{place}", place, "{thing}", thing, "{other}", other, "{season}", season,
		"{what}", pick(r, lessons), "{num}", fmt.Sprint(10*(2+r.IntN(6))+r.IntN(2)*2)).Replace(pick(r, g.titles))
	author := pick(r, firstNames) + " " + pick(r, lastNames)
	about := fmt.Sprintf("%s on %s in and around %s, by %s.", sentence(strings.TrimSuffix(strings.ToLower(g.category), "s")), t.doing, place, author)
	if g.slug == "story" {
		about = fmt.Sprintf("A story about %s and %s, by %s.", t.doing, place, author)
	}
	return freshet.Item{
		Title:       sentence(title),
		Description: describe(r, about, g.points),
		Categories:  []string{"Books", t.shelf, g.category},
		Brand:       pick(r, publishers),
		Price:       price(r, g.low, g.high, level),
		Attributes:  fmt.Appendf(nil, `{"author":%q,"pages":%d}`, author, 96+r.IntN(420)),
	}
}

func describe(r *rand.Rand, first, points string) string {
	a := words(points)
	i := r.IntN(len(a))
	j := (i + 1 + r.IntN(len(a)-1)) % len(a)
	return strings.Join([]string{first, a[i], a[j]}, " ")
}

// sentence starts with a capital letter.
func sentence(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// price draws one from the level's third of the range and ends it as shops do.
func price(r *rand.Rand, low, high float64, level int) float64 {
	p := low + (high-low)*(float64(level)+r.Float64())/levels
	if p < 40 {
		return math.Floor(p) + 0.95
	}
	return math.Max(1, math.Round(p/5)*5-0.05*float64(r.IntN(2)*20)) // 145 or 144
}

// decorate sets what all items have: currency, the day of publication, and one in a hundred sold out.
func (c *catalogue) decorate(r *rand.Rand) {
	first := time.Date(2022, 1, 10, 8, 0, 0, 0, time.UTC)
	for i := range c.products {
		it := &c.products[i].item
		it.Currency = "EUR"
		at := first.AddDate(0, 0, r.IntN(1400))
		it.PublishedAt = &at
		if c.shelves[c.products[i].shelf].domain == Outdoor && r.IntN(3) == 0 {
			it.Description += " " + pick(r, householdTip)
		}
		if i%100 == 57 {
			no := false
			it.Available = &no
		}
	}
	for s := range c.shelves {
		for l := range c.shelves[s].byLevel {
			ring := c.shelves[s].byLevel[l]
			sold := ring[:0]
			for _, p := range ring {
				if c.products[p].item.Available == nil {
					sold = append(sold, p)
				}
			}
			r.Shuffle(len(sold), func(i, j int) { sold[i], sold[j] = sold[j], sold[i] })
			c.shelves[s].byLevel[l] = sold
		}
	}
}

// connect lays the paths: a guidebook after the first two things, a handbook half-way, a story at the end.
func (c *catalogue) connect(byKind map[string]int, books int) {
	index := make(map[string]int, len(themes))
	for i := range themes {
		index[themes[i].slug] = i
	}
	for i := range themes {
		guide := books + i*len(genres)
		var path []int
		kinds := words(themes[i].path)
		for n, k := range kinds {
			s, ok := byKind[k]
			if !ok {
				panic("shop: the path of " + themes[i].slug + " names no kind " + k)
			}
			path = append(path, s)
			switch n {
			case 1:
				path = append(path, guide)
			case len(kinds) / 2:
				path = append(path, guide+1)
			}
		}
		c.paths = append(c.paths, append(path, guide+2))
		var next []int
		for _, n := range words(themes[i].nextDoor) {
			t, ok := index[n]
			if !ok {
				panic("shop: " + themes[i].slug + " lies next to no theme " + n)
			}
			next = append(next, t)
		}
		c.nextDoor = append(c.nextDoor, next)
	}
}

// popular draws a product of a shelf and level; the first of the ring is the best seller.
func (c *catalogue) popular(r *rand.Rand, shelf, level int) int {
	ring := c.shelves[shelf].byLevel[level]
	i := 0
	for i < len(ring)-1 && r.IntN(100) < 55 {
		i++
	}
	return ring[i]
}

// companion is what goes with a product: the one of that shelf and of its level that stands for it. Buyers of the same boot are
// led to the same sock.
func (c *catalogue) companion(product, shelf int) int {
	ring := c.shelves[shelf].byLevel[c.products[product].level]
	h := uint64(product)*0x9e3779b97f4a7c15 + uint64(shelf)*0xbf58476d1ce4e5b9
	h ^= h >> 29
	return ring[h*0x94d049bb133111eb>>33%uint64(len(ring))]
}

// beside is the product that comparing shoppers look at next: steps further along the ring.
func (c *catalogue) beside(product, steps int) int {
	ring := c.shelves[c.products[product].shelf].byLevel[c.products[product].level]
	for i, p := range ring {
		if p == product {
			return ring[(i+steps)%len(ring)]
		}
	}
	return ring[0]
}
