package featurestore_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"freshet"
	"freshet/featurestore"
)

// fullProfile is what a busy user looks like: a full window over one partition, a state of 512 values (two blocks of d=64 with
// real and imaginary parts) and, where late events are put in their place, a checkpoint as large.
func fullProfile(t testing.TB, late freshet.LatePolicy, half bool, id func(n int) string, recent, owned int) []byte {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	source := freshet.Source{Topic: "events", Incarnation: 1, Partition: 3}
	p := freshet.Profile{UserID: "u", Rev: 1234, Fingerprint: rng.Uint64(), Half: half, State: make([]float32, 512)}
	for i := range p.State {
		p.State[i] = float32(rng.NormFloat64())
	}
	if late == freshet.Reorder {
		p.Checkpoint = append([]float32(nil), p.State...)
		p.CheckpointTime = noon.Add(-30 * 24 * time.Hour).UnixMilli()
	}
	when, offset := noon.Add(-29*24*time.Hour).UnixMilli(), int64(5_000_000)
	for range 50 {
		when += rng.Int64N(20 * time.Hour.Milliseconds())
		offset += rng.Int64N(200_000)
		p.Window = append(p.Window, freshet.Entry{ItemID: id(rng.IntN(90_000_000)), Type: []string{"view", "cart", "purchase"}[rng.IntN(3)],
			Time: when, Position: freshet.Position{Source: source, Offset: offset}, Event: rng.Uint64()})
	}
	p.Positions = []freshet.Position{{Source: source, Offset: offset}}
	for range recent {
		p.Recent = append(p.Recent, rng.Uint64())
	}
	for range owned {
		p.Owned = append(p.Owned, freshet.Dated{ItemID: id(rng.IntN(90_000_000)), Time: when})
	}
	p.Folded()
	b, err := p.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// digitIDs are ids as shops number them, textIDs of any characters; both of n bytes.
func digitIDs(n int) func(int) string {
	return func(i int) string { return fmt.Sprintf("%0*d", n, i%pow10(n)) }
}

func textIDs(n int) func(int) string {
	return func(i int) string {
		b := make([]byte, n)
		for at := range b {
			b[at] = "bcdfghjklmnpqrstvwxz-_BCDFGHJKLM"[(i>>(at%6*5)+at)&31]
		}
		return string(b)
	}
}

func pow10(n int) int {
	p := 1
	for range min(n, 9) {
		p *= 10
	}
	return p
}

const (
	kb = 1 << 10
	// redisOverhead is what a server adds to the block that holds the value: key, dictionary entry, expiry, object header.
	redisOverhead = 112
)

// sizeClass is the block that jemalloc gives for n bytes: above 1 KB there are four between two powers of two. This rounding, not
// the codec, is most of what MEMORY USAGE shows above the encoded bytes.
func sizeClass(n int) int {
	power := kb
	for power < n {
		power *= 2
	}
	step := power / 8
	return (n + step - 1) / step * step
}

// TestMemoryOfAProfile holds what Redis makes of a profile to the budgets, for ids that are numbers, and prints it for others.
func TestMemoryOfAProfile(t *testing.T) {
	s := startServer(t)
	r := open(t, featurestore.Config{Addrs: []string{s.addr}})
	usage := func(user string, profile []byte) int64 {
		t.Helper()
		mustSave(t, r, freshet.Update{UserID: user, Profile: profile})
		n, err := r.MemoryUsage(t.Context(), user)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	modes := []struct {
		name   string
		late   freshet.LatePolicy
		half   bool
		budget int // 5.9, 3.3 and 2.2 KB in bytes, at 8-byte ids and 50 entries
	}{{"fp32 reorder", freshet.Reorder, false, 6041}, {"fp16 reorder", freshet.Reorder, true, 3379}, {"fp16 append", freshet.AppendLate, true, 2252}}
	for _, m := range modes {
		for kind, id := range map[string]func(int) string{"digits": digitIDs(8), "text": textIDs(8)} {
			b := fullProfile(t, m.late, m.half, id, 0, 0)
			used := int(usage(m.name+kind, b))
			t.Logf("%s, 8-byte ids of %s: %d bytes, MEMORY USAGE %d, budget %d: %+d", m.name, kind, len(b), used, m.budget, used-m.budget)
			if kind == "digits" && used > m.budget {
				t.Errorf("%s: %d bytes take %d in Redis, budget %d", m.name, len(b), used, m.budget)
			}
			if step := sizeClass(len(b) + 6); used > step+redisOverhead {
				t.Errorf("%s: MEMORY USAGE %d for %d bytes, want at most a block of %d and %d", m.name, used, len(b), step, redisOverhead)
			}
		}
	}
	t.Log("bytes by id length (digits | text), MEMORY USAGE in KB:")
	for _, n := range []int{4, 8, 12, 16, 24, 36} {
		line := fmt.Sprintf("id of %2d bytes:", n)
		for _, m := range modes {
			d, x := fullProfile(t, m.late, m.half, digitIDs(n), 0, 0), fullProfile(t, m.late, m.half, textIDs(n), 0, 0)
			line += fmt.Sprintf("  %s %d | %d (%.2f | %.2f)", m.name, len(d), len(x),
				float64(usage(fmt.Sprint(m.name, n, "d"), d))/1024, float64(usage(fmt.Sprint(m.name, n, "t"), x))/1024)
		}
		t.Log(line)
	}
	for _, extra := range [][2]int{{64, 0}, {0, 16}, {64, 128}} {
		b := fullProfile(t, freshet.Reorder, false, digitIDs(8), extra[0], extra[1])
		t.Logf("fp32 reorder with %d recent hashes and %d purchases: %d bytes, %.2f KB", extra[0], extra[1], len(b), float64(usage(fmt.Sprint("extra", extra), b))/1024)
	}
}

// Usage finds every key, under the word that says what it holds.
func TestUsageAddsUpByKind(t *testing.T) {
	s := startServer(t)
	r := open(t, featurestore.Config{Addrs: []string{s.addr}, Owner: true, CV: 1})
	for _, user := range []string{"a", "b", "c:d"} {
		mustSave(t, r, freshet.Update{UserID: user, Profile: fullProfile(t, freshet.Reorder, false, digitIDs(8), 0, 0),
			Records: []freshet.Record{{Surface: freshet.HomeSurface, Value: []byte(`{"v":1,"cv":1,"rev":1234,"rec_id":"x"}`)}}})
	}
	if err := r.PutItems(t.Context(), []freshet.Item{{ItemID: "i1"}}); err != nil {
		t.Fatal(err)
	}
	usage, err := r.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	one, err := r.MemoryUsage(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if u := usage["profile"]; u.Keys != 3 || u.Bytes < 3*one || u.Bytes > 3*one+64 {
		t.Errorf("profiles: %+v, one takes %d", u, one)
	}
	if usage["recs"].Keys != 3 || usage["item"].Keys != 1 || len(usage) != 3 {
		t.Errorf("%+v", usage)
	}
}
