package recommend

import (
	"encoding/json"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/vm"

	"freshet"
)

// RuleError says which rule of which surface cannot be meant.
type RuleError struct {
	Surface string
	Rule    string // the field and, in a list, its place: "boosts[1].where"
	Err     error
}

func (e *RuleError) Error() string {
	return fmt.Sprintf("surfaces.%s.%s: %v", e.Surface, e.Rule, e.Err)
}

func (e *RuleError) Unwrap() error { return e.Err }

// Boost multiplies the likelihood of the items that an expression holds for: above 1 they rise, below 1 they are buried.
type Boost struct {
	Where  string
	Factor float64
}

// Rebuy lets items that the user has bought come back after a time: consumables.
type Rebuy struct {
	Where string // expression over the item; "" = every item
	After time.Duration
}

// scene is what an expression sees.
type scene struct {
	Item itemScene `expr:"item"`
	Now  time.Time `expr:"now"`
}

type itemScene struct {
	ID          string         `expr:"id"`
	Title       string         `expr:"title"`
	Description string         `expr:"description"`
	Categories  []string       `expr:"categories"`
	Domain      string         `expr:"domain"`
	Brand       string         `expr:"brand"`
	Price       float64        `expr:"price"`
	Currency    string         `expr:"currency"`
	PublishedAt time.Time      `expr:"published_at"`
	ExpiresAt   time.Time      `expr:"expires_at"`
	AgeDays     float64        `expr:"age_days"` // since published_at; a million without one
	Attributes  map[string]any `expr:"attributes"`
}

func sceneOf(item *freshet.Item, now time.Time) scene {
	s := scene{Now: now, Item: itemScene{ID: item.ItemID, Title: item.Title, Description: item.Description, Categories: item.Categories, Domain: item.Domain,
		Brand: item.Brand, Price: item.Price, Currency: item.Currency, AgeDays: 1e6, Attributes: map[string]any{}}}
	if item.PublishedAt != nil {
		s.Item.PublishedAt, s.Item.AgeDays = *item.PublishedAt, now.Sub(*item.PublishedAt).Hours()/24
	}
	if item.ExpiresAt != nil {
		s.Item.ExpiresAt = *item.ExpiresAt
	}
	if len(item.Attributes) > 0 && json.Unmarshal(item.Attributes, &s.Item.Attributes) != nil {
		s.Item.Attributes = map[string]any{} // attributes that are no object have no fields to ask for
	}
	return s
}

func compile(surface, rule, source string) (*vm.Program, error) {
	if source == "" {
		return nil, nil
	}
	p, err := expr.Compile(source, expr.Env(scene{}), expr.AsBool())
	if err != nil {
		return nil, &RuleError{surface, rule, fmt.Errorf("%w (an expression is about item.price, item.brand, item.categories, item.attributes.NAME, item.age_days, now)", err)}
	}
	return p, nil
}

// clockwise tells whether what an expression says may change though the item does not: it asks for the time, or for an age.
func clockwise(p *vm.Program) bool {
	if p == nil {
		return false
	}
	node := p.Node()
	seen := &clockSeeker{}
	ast.Walk(&node, seen)
	return seen.found
}

type clockSeeker struct{ found bool }

// Visit implements ast.Visitor.
func (c *clockSeeker) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.IdentifierNode:
		c.found = c.found || n.Value == "now"
	case *ast.StringNode: // a field is named by a string
		c.found = c.found || n.Value == "age_days" || n.Value == "AgeDays"
	case *ast.BuiltinNode:
		c.found = c.found || n.Name == "now"
	case *ast.CallNode:
		if id, ok := n.Callee.(*ast.IdentifierNode); ok {
			c.found = c.found || id.Value == "now"
		}
	}
}

// holds runs an expression. One that fails on an item (an attribute that it has not got) does not hold for it.
func holds(p *vm.Program, s *scene) bool {
	v, err := expr.Run(p, *s)
	if err != nil {
		return false
	}
	yes, _ := v.(bool)
	return yes
}

// verdict is what a surface's rules about items make of one item. It is worked out once for each version of the item.
type verdict struct {
	rule  string        // that keeps the item out; "" = none
	boost float64       // log of the factors
	rebuy time.Duration // a purchase hides the item for so long; negative = for ever
}

// facts are the verdicts of all surfaces on one version of an item.
type facts struct {
	item     *freshet.Item
	as       atomic.Uint64 // Config.ItemsVersion when the item was last seen to be the same
	until    int64         // Unix milliseconds; rules may look at the clock
	verdicts []verdict
}

// holdsAt tells whether facts found before need no look at the catalogue, and none at the clock.
func (f *facts) holdsAt(version uint64) bool {
	return version > 0 && f.until == math.MaxInt64 && f.as.Load() == version
}

// verdictFor is how long a verdict holds where an expression looks at the clock. Others hold as long as the version of the item.
const verdictFor = time.Second

// version is that of the items, 0 = nobody counts their changes.
func (e *Engine) version() uint64 {
	if e.cfg.ItemsVersion == nil {
		return 0
	}
	return e.cfg.ItemsVersion()
}

// verdictOn gives a surface's verdict on an item; a nil item means that the catalogue does not know it.
func (e *Engine) verdictOn(s *Surface, named freshet.Ref) (verdict, *freshet.Item) {
	version := e.version() // before the item: what changes after it is noticed the next time
	if f := e.judged.at(named.Number); f != nil && f.holdsAt(version) {
		return f.verdicts[s.place], f.item
	}
	id := named.ItemID
	item, ok := e.cfg.Item(id)
	if !ok {
		if s.itemRules {
			return verdict{rule: "unknown item", rebuy: -1}, nil
		}
		return verdict{rebuy: -1}, nil
	}
	now := e.cfg.Now()
	if f, ok := e.judged.byID.Load(id); ok {
		if f := f.(*facts); f.item == item && now.UnixMilli() < f.until {
			f.as.Store(version)
			e.judged.put(named.Number, f)
			return f.verdicts[s.place], item
		}
	}
	f := &facts{item: item, until: math.MaxInt64, verdicts: make([]verdict, len(e.cfg.Surfaces))}
	sc := sceneOf(item, now)
	for i := range e.cfg.Surfaces {
		f.verdicts[i] = e.cfg.Surfaces[i].verdict(item, &sc)
		if e.cfg.Surfaces[i].clockwise {
			f.until = now.Add(verdictFor).UnixMilli()
		}
	}
	f.as.Store(version)
	e.judged.byID.Store(id, f)
	e.judged.put(named.Number, f)
	return f.verdicts[s.place], item
}

func (s *Surface) verdict(item *freshet.Item, sc *scene) verdict {
	v := verdict{rebuy: -1}
	switch {
	case s.Domain != "" && item.Domain != s.Domain:
		v.rule = "domain"
	case len(s.Categories) > 0 && !overlap(s.Categories, item.Categories):
		v.rule = "category"
	case s.filter != nil && !holds(s.filter, sc):
		v.rule = "filter"
	}
	for i, p := range s.boosts {
		if holds(p, sc) {
			v.boost += math.Log(s.Boosts[i].Factor)
		}
	}
	for i, p := range s.rebuys {
		if p == nil || holds(p, sc) {
			v.rebuy = s.Rebuys[i].After
			break
		}
	}
	return v
}

func overlap(a, b []string) bool {
	for _, x := range a {
		for _, y := range b {
			if x == y {
				return true
			}
		}
	}
	return false
}

// forbids gives the rule that keeps an item from this user's list; "" = none does. The cheap ones are asked first.
func (e *Engine) forbids(s *Surface, who *freshet.Subject, item freshet.Ref, flags uint8) string {
	id := item.ItemID
	switch hit := flags & s.hides; {
	case hit&flagDismissed != 0:
		return "dismissed"
	case hit&flagSeen != 0:
		return "seen"
	case hit&flagPurchased != 0 && !e.due(s, who, item):
		return "purchased"
	case e.cfg.Available != nil && !e.cfg.Available(id):
		return "unavailable"
	case e.cfg.Excluded != nil && e.cfg.Excluded(who.Profile.UserID, id):
		return "excluded"
	case !s.itemRules:
		return ""
	}
	v, _ := e.verdictOn(s, item)
	return v.rule
}

// due tells whether a bought item may be recommended again.
func (e *Engine) due(s *Surface, who *freshet.Subject, item freshet.Ref) bool {
	if len(s.Rebuys) == 0 {
		return false
	}
	v, _ := e.verdictOn(s, item)
	if v.rebuy < 0 {
		return false
	}
	for i := range who.Profile.Owned {
		if d := &who.Profile.Owned[i]; d.ItemID == item.ItemID {
			return who.Now-d.Time >= v.rebuy.Milliseconds()
		}
	}
	return true
}

// judgements is a cache of facts, by item id and, for the many looks of one list, by number.
type judgements struct {
	byID     sync.Map
	growing  sync.Mutex
	byNumber atomic.Pointer[[]atomic.Pointer[facts]]
}

func (j *judgements) at(number int32) *facts {
	if list := j.byNumber.Load(); list != nil && number > 0 && int(number) < len(*list) {
		return (*list)[number].Load()
	}
	return nil
}

func (j *judgements) put(number int32, f *facts) {
	if number <= 0 {
		return
	}
	list := j.byNumber.Load()
	if list == nil || int(number) >= len(*list) {
		list = j.grow(int(number))
	}
	(*list)[number].Store(f)
}

// grow makes room. What somebody puts into the old list meanwhile is missed, and put again.
func (j *judgements) grow(number int) *[]atomic.Pointer[facts] {
	j.growing.Lock()
	defer j.growing.Unlock()
	before := j.byNumber.Load()
	if before != nil && number < len(*before) {
		return before
	}
	larger := make([]atomic.Pointer[facts], max(1024, number+number/4+1))
	if before != nil {
		for i := range *before {
			larger[i].Store((*before)[i].Load())
		}
	}
	j.byNumber.Store(&larger)
	return &larger
}
