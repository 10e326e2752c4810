package demo

import (
	"strings"
	"sync"
	"time"

	"freshet"
)

// Follow is one shopper as the screen tells of him.
type Follow struct {
	UserID string
	Clicks []Click // newest first
	// Before and After are his list before and after the event that After answers; both empty until the first list.
	Before, After []Place
	Answers       Click         // the event that led to After
	Freshness     time.Duration // its record's timestamp -> After visible
	Lists         int           // how many lists he has had; a change means that After is new
}

// Click is one event of the followed shopper.
type Click struct {
	EventID string
	Verb    string // "viewed", "bought"
	Items   []Product
}

// Product is an item in words.
type Product struct {
	ItemID   string
	Title    string // the id when the catalogue has no title
	Domain   string
	Price    float64
	Currency string
}

// Place is one place of a list.
type Place struct {
	Product
	Why string // the strongest reason, in words
}

// verbs say what a shopper did.
var verbs = map[string]string{
	"view": "viewed", "click": "clicked", "cart": "put into the cart", "purchase": "bought", "like": "liked", "play": "played",
	"rating": "rated", "dislike": "disliked", "remove": "took out of the cart", "impression": "was shown",
}

const keptClicks = 12

// Story collects what happens to the followed shopper. It is safe for concurrent use.
type Story struct {
	mu     sync.Mutex
	items  map[string]freshet.Item
	did    map[string]string // item -> what he last did with it
	follow Follow
}

// NewStory starts the story of one shopper; the items give titles and prices.
func NewStory(userID string, items []freshet.Item) *Story {
	s := &Story{items: make(map[string]freshet.Item, len(items)), did: map[string]string{}, follow: Follow{UserID: userID}}
	for i := range items {
		s.items[items[i].ItemID] = items[i]
	}
	return s
}

// Happened takes an event of the shopper in. Events of others and impressions are left out.
func (s *Story) Happened(e freshet.Event) {
	if e.UserID != s.follow.UserID || e.Type == "impression" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := Click{EventID: e.ID, Verb: verbs[e.Type]}
	if c.Verb == "" {
		c.Verb = e.Type
	}
	for _, it := range e.Items {
		c.Items = append(c.Items, s.product(it.ItemID))
		s.did[it.ItemID] = c.Verb
	}
	clicks := append([]Click{c}, s.follow.Clicks...)
	s.follow.Clicks = clicks[:min(len(clicks), keptClicks)]
}

// Listed takes a list of the shopper in. A list that was published before (same rec_id) or of another surface changes nothing.
func (s *Story) Listed(r freshet.Recommendation, freshness time.Duration) {
	if r.UserID != s.follow.UserID || r.Surface != freshet.HomeSurface {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.follow.Lists > 0 && s.follow.Answers.EventID == r.Event.EventID {
		return
	}
	s.follow.Before, s.follow.After = s.follow.After, make([]Place, len(r.Items))
	for i, it := range r.Items {
		p := s.product(it.ItemID)
		s.follow.After[i] = Place{Product: p, Why: s.why(p, it.Reasons)}
	}
	s.follow.Answers = Click{EventID: r.Event.EventID}
	for _, c := range s.follow.Clicks {
		if c.EventID == r.Event.EventID {
			s.follow.Answers = c
		}
	}
	s.follow.Freshness = freshness
	s.follow.Lists++
}

// Follow gives the story so far. The caller must not change what it holds.
func (s *Story) Follow() Follow {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.follow
}

func (s *Story) product(id string) Product {
	it := s.items[id]
	p := Product{ItemID: id, Title: it.Title, Domain: it.Domain, Price: it.Price, Currency: it.Currency}
	if p.Title == "" {
		p.Title = id
	}
	return p
}

// why puts the strongest reason into words: the source's own, and the item of the history that it names.
func (s *Story) why(p Product, reasons []freshet.Reason) string {
	if len(reasons) == 0 {
		return ""
	}
	best := reasons[0]
	for _, r := range reasons[1:] {
		if r.Share > best.Share {
			best = r
		}
	}
	if best.Because != "" {
		verb := s.did[best.Because]
		if verb == "" {
			verb = "viewed"
		}
		return "because you " + verb + " " + s.product(best.Because).Title
	}
	switch best.Source {
	case "sequence":
		return "follows from what you did lately"
	case "covisit":
		return "often viewed together with yours"
	case "content":
		return "reads like what you looked at"
	case "popular":
		return strings.TrimSuffix("popular in "+p.Domain, " in ")
	case "trending":
		return strings.TrimSuffix("trending in "+p.Domain, " in ")
	case "new":
		return strings.TrimSuffix("new in "+p.Domain, " in ")
	}
	return "from " + best.Source
}
