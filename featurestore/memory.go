package featurestore

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"freshet"
)

// Memory is a store in this process with the same answers as Redis: for evaluation, and for tests of whatever uses a store. It
// has no servers, so it has neither lanes, sentinels nor an inspection.
type Memory struct {
	cfg  Config
	keys keys
	now  func() time.Time
	data *memoryData
}

type memoryData struct {
	mu     sync.Mutex
	values map[string]memoryValue
	items  map[string]freshet.Item
	sets   map[string]map[string]float64
}

type memoryValue struct {
	bytes   []byte
	expires time.Time // zero = never
}

// NewMemory opens an empty store. Of the configuration it uses prefix, lane, owner, cv, lifetimes and the settings of transitions.
// now is the clock by which values expire.
func NewMemory(cfg Config, now func() time.Time) (*Memory, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	return &Memory{cfg: cfg, keys: keysOf(cfg), now: now, data: &memoryData{
		values: map[string]memoryValue{}, items: map[string]freshet.Item{}, sets: map[string]map[string]float64{},
	}}, nil
}

// Share opens the same data for another lane, or for another owner of the public records.
func (m *Memory) Share(cfg Config) (*Memory, error) {
	other, err := NewMemory(cfg, m.now)
	if err != nil {
		return nil, err
	}
	other.data = m.data
	return other, nil
}

// Clear forgets everything, as FLUSHALL does.
func (m *Memory) Clear() {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	clear(m.data.values)
	clear(m.data.items)
	clear(m.data.sets)
}

// TTLs are the remaining lifetimes of a user's profile and of his lists on these surfaces, in that order; 0 = not stored.
func (m *Memory) TTLs(user string, surfaces ...string) []time.Duration {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	names := []string{m.keys.profile(user)}
	for _, s := range surfaces {
		names = append(names, m.keys.record(freshet.PlaceConfigured, user, s))
	}
	ttls := make([]time.Duration, len(names))
	for i, name := range names {
		if m.get(name) != nil {
			ttls[i] = m.data.values[name].expires.Sub(m.now())
		}
	}
	return ttls
}

// Load is Redis.Load.
func (m *Memory) Load(ctx context.Context, users []string) ([][]byte, error) {
	return m.read(ctx, len(users), func(i int) string { return m.keys.profile(users[i]) })
}

// Records is Redis.Records.
func (m *Memory) Records(ctx context.Context, list []RecordKey) ([][]byte, error) {
	return m.read(ctx, len(list), func(i int) string { return m.keys.record(list[i].Place, list[i].UserID, list[i].Surface) })
}

func (m *Memory) read(ctx context.Context, n int, key func(i int) string) ([][]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", freshet.ErrUnavailable, err)
	}
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	values := make([][]byte, n)
	for i := range values {
		values[i] = bytes.Clone(m.get(key(i)))
	}
	return values, nil
}

func (m *Memory) get(key string) []byte {
	v, ok := m.data.values[key]
	if ok && !v.expires.IsZero() && !m.now().Before(v.expires) {
		delete(m.data.values, key)
		return nil
	}
	return v.bytes
}

func (m *Memory) set(key string, value []byte, life time.Duration) {
	if len(value) == 0 {
		delete(m.data.values, key)
		return
	}
	v := memoryValue{bytes: bytes.Clone(value)}
	if life > 0 {
		v.expires = m.now().Add(life)
	}
	m.data.values[key] = v
}

// Save is Redis.Save.
func (m *Memory) Save(ctx context.Context, updates []freshet.Update) ([]freshet.SaveResult, error) {
	results := make([]freshet.SaveResult, len(updates))
	for i := range updates {
		if err := checkUpdate(&updates[i]); err != nil {
			return nil, fmt.Errorf("save %d profiles: %w", len(updates), err)
		}
		results[i] = freshet.Retry
	}
	if err := ctx.Err(); err != nil {
		return results, fmt.Errorf("save %d profiles: %w: %w", len(updates), freshet.ErrUnavailable, err)
	}
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	for i := range updates {
		results[i] = m.save(&updates[i])
	}
	return results, nil
}

// save does what scripts/save.lua does.
func (m *Memory) save(u *freshet.Update) freshet.SaveResult {
	stored := freshet.VersionOf(m.get(m.keys.profile(u.UserID)))
	switch {
	case stored == u.Base:
	case stored == "" || u.Base != "" && stored.Rev() < u.Base.Rev():
		return freshet.Lost
	default:
		return freshet.Newer
	}
	life := m.cfg.lifetime(u)
	m.set(m.keys.profile(u.UserID), u.Profile, life)
	place, result := m.keys.place(u.Place), freshet.Saved
	for _, record := range u.Records {
		key := m.keys.record(place, u.UserID, record.Surface)
		if place != freshet.PlaceOwn && outranks(m.get(key), record.Value, m.cfg.cvOf(u)) {
			result = freshet.Outranked
		} else {
			m.set(key, record.Value, life)
		}
		if place == freshet.PlaceBoth {
			m.set(m.keys.record(freshet.PlaceOwn, u.UserID, record.Surface), record.Value, life)
		}
	}
	return result
}

// outranks tells whether a stored public record must not give way to a value, or to a deletion by the lane that owns it since cv.
func outranks(stored, value []byte, cv uint64) bool {
	oldCV, oldRev, ok := rank(stored)
	if !ok {
		return false
	}
	if len(value) == 0 {
		return oldCV > cv
	}
	newCV, newRev, ok := rank(value)
	return ok && (oldCV > newCV || oldCV == newCV && oldRev > newRev)
}

// rank reads (cv, rev) from the head of a record.
func rank(record []byte) (cv, rev uint64, ok bool) {
	rest, ok := strings.CutPrefix(string(record[:min(64, len(record))]), `{"v":1,"cv":`)
	if !ok {
		return 0, 0, false
	}
	first, rest, ok1 := strings.Cut(rest, `,"rev":`)
	second, _, ok2 := strings.Cut(rest, ",")
	cv, err1 := strconv.ParseUint(first, 10, 64)
	rev, err2 := strconv.ParseUint(second, 10, 64)
	return cv, rev, ok1 && ok2 && err1 == nil && err2 == nil
}

// PutItems is Redis.PutItems.
func (m *Memory) PutItems(_ context.Context, items []freshet.Item) error {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	for _, item := range items {
		m.data.items[item.ItemID] = item
	}
	return nil
}

// DeleteItems is Redis.DeleteItems.
func (m *Memory) DeleteItems(_ context.Context, ids []string) error {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	for _, id := range ids {
		delete(m.data.items, id)
		delete(m.data.values, m.keys.vector(id))
		delete(m.data.sets, m.keys.similar(id))
	}
	return nil
}

// Item is Redis.Item.
func (m *Memory) Item(ctx context.Context, id string) (*freshet.Item, error) {
	items, err := m.Items(ctx, []string{id})
	return items[0], err
}

// Items is Redis.Items.
func (m *Memory) Items(_ context.Context, ids []string) ([]*freshet.Item, error) {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	items := make([]*freshet.Item, len(ids))
	for i, id := range ids {
		if item, ok := m.data.items[id]; ok {
			items[i] = &item
		}
	}
	return items, nil
}

// PutVectors is Redis.PutVectors.
func (m *Memory) PutVectors(_ context.Context, vectors []ItemVector) error {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	for i := range vectors {
		m.set(m.keys.vector(vectors[i].ItemID), encodeVector(&vectors[i]), 0)
	}
	return nil
}

// Vectors is Redis.Vectors.
func (m *Memory) Vectors(ctx context.Context, ids []string) ([]ItemVector, error) {
	values, err := m.read(ctx, len(ids), func(i int) string { return m.keys.vector(ids[i]) })
	if err != nil {
		return nil, err
	}
	vectors := make([]ItemVector, len(ids))
	for i, b := range values {
		if vectors[i], err = decodeVector(ids[i], b); err != nil {
			return nil, err
		}
	}
	return vectors, nil
}

// SetPopular is Redis.SetPopular.
func (m *Memory) SetPopular(_ context.Context, domain string, items []Scored) error {
	return m.replace(m.keys.popular(domain), items)
}

// SetTrending is Redis.SetTrending.
func (m *Memory) SetTrending(_ context.Context, items []Scored) error {
	return m.replace(m.keys.trending(), items)
}

// SetSimilar is Redis.SetSimilar.
func (m *Memory) SetSimilar(_ context.Context, item string, similar []Scored) error {
	return m.replace(m.keys.similar(item), similar)
}

// Popular is Redis.Popular.
func (m *Memory) Popular(_ context.Context, domain string, n int) ([]Scored, error) {
	return m.best(m.keys.popular(domain), n), nil
}

// Trending is Redis.Trending.
func (m *Memory) Trending(_ context.Context, n int) ([]Scored, error) {
	return m.best(m.keys.trending(), n), nil
}

// Similar is Redis.Similar.
func (m *Memory) Similar(_ context.Context, item string, n int) ([]Scored, error) {
	return m.best(m.keys.similar(item), n), nil
}

// SetDefault is Redis.SetDefault.
func (m *Memory) SetDefault(_ context.Context, surface string, record []byte) error {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	m.set(m.keys.fallback(surface), record, 0)
	return nil
}

// Default is Redis.Default.
func (m *Memory) Default(ctx context.Context, surface string) ([]byte, error) {
	values, err := m.read(ctx, 1, func(int) string { return m.keys.fallback(surface) })
	if err != nil {
		return nil, err
	}
	return values[0], nil
}

func (m *Memory) replace(key string, items []Scored) error {
	if err := finite(items); err != nil {
		return err
	}
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	set := make(map[string]float64, len(items))
	for _, s := range items {
		set[s.ItemID] = s.Score
	}
	m.data.sets[key] = set
	return nil
}

func (m *Memory) best(key string, n int) []Scored {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	return ranked(m.data.sets[key], n)
}

// ranked gives the n highest, equal ones in falling order of their ids, as a sorted set reads backwards.
func ranked(set map[string]float64, n int) []Scored {
	list := make([]Scored, 0, len(set))
	for _, id := range slices.Sorted(maps.Keys(set)) {
		list = append(list, Scored{ItemID: id, Score: set[id]})
	}
	slices.Reverse(list)
	sort.SliceStable(list, func(a, b int) bool { return list[a].Score > list[b].Score })
	return list[:max(0, min(n, len(list)))]
}

// AddTransitions is Redis.AddTransitions.
func (m *Memory) AddTransitions(_ context.Context, deltas []Transition) error {
	list, err := addUp(deltas, m.cfg.HalfLife)
	if err != nil {
		return fmt.Errorf("add %d transitions: %w", len(deltas), err)
	}
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	for i := range list {
		m.addSteps(&list[i])
	}
	return nil
}

// addSteps does what scripts/transitions.lua does, but for expiry: a weight that old is as good as gone.
func (m *Memory) addSteps(s *steps) {
	key := m.keys.covisit(s.from)
	set := m.data.sets[key]
	if top := ranked(set, 1); len(top) == 0 || top[0].Score > s.ceiling(m.now(), m.cfg.HalfLife) {
		set = map[string]float64{}
		m.data.sets[key] = set
	}
	for _, add := range s.to {
		if old, ok := set[add.ItemID]; ok {
			add.Score = logAdd(old, add.Score)
		}
		set[add.ItemID] = add.Score
	}
	if len(set) > m.cfg.TransitionKeep {
		for _, weak := range ranked(set, len(set))[m.cfg.TransitionKeep:] {
			delete(set, weak.ItemID)
		}
	}
}

// Transitions is Redis.Transitions.
func (m *Memory) Transitions(_ context.Context, items []string, n int, now time.Time) ([][]Scored, error) {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	lists := make([][]Scored, len(items))
	if n <= 0 {
		return lists, nil
	}
	for i, id := range items {
		lists[i] = ranked(m.data.sets[m.keys.covisit(id)], n)
		for j := range lists[i] {
			lists[i][j].Score = math.Exp2(lists[i][j].Score - halfLives(now.UnixMilli(), m.cfg.HalfLife))
		}
	}
	return lists, nil
}
