package freshet

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
)

func TestProfileSurvivesItsBytes(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 3))
		rules := testRules(t, 1+r.IntN(50))
		p := &Profile{UserID: "u", Fingerprint: r.Uint64(), Half: seed%2 == 0, Mixed: seed%3 == 0}
		for _, e := range randomEvents(r, 100) {
			p.Apply(e, rules)
		}
		settleChain(p, Reorder)
		if p.Half {
			QuantizeHalf(p.State)
			QuantizeHalf(p.Checkpoint)
		}
		b := mustEncode(t, p)
		back, err := DecodeProfile("u", b)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if again := mustEncode(t, back); string(again) != string(b) {
			t.Fatalf("seed %d: decoding and encoding changed the bytes", seed)
		}
		if !reflect.DeepEqual(normalised(back), normalised(p)) {
			t.Fatalf("seed %d:\n%+v\n%+v", seed, p, back)
		}
		if VersionOf(b).Rev() != p.Rev {
			t.Fatalf("version says rev %d, profile %d", VersionOf(b).Rev(), p.Rev)
		}
	}
}

// normalised makes nil and empty lists alike, which bytes cannot tell apart.
func normalised(p *Profile) Profile {
	n := *p
	n.way = nil // is not stored
	if len(n.Window) == 0 {
		n.Window = nil
	}
	if len(n.Recent) == 0 {
		n.Recent = nil
	}
	if len(n.Owned) == 0 {
		n.Owned = nil
	}
	if len(n.Dismissed) == 0 {
		n.Dismissed = nil
	}
	return n
}

func TestEveryDamagedByteIsNoticed(t *testing.T) {
	b := mustEncode(t, fullProfile(t, "i%07d", 4, false, true))
	for i := range b {
		damaged := append([]byte(nil), b...)
		damaged[i] ^= 1 << (i % 8)
		if _, err := DecodeProfile("u", damaged); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("byte %d of %d damaged: %v", i, len(b), err)
		}
	}
	for n := range b {
		if _, err := DecodeProfile("u", b[:n]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut to %d of %d bytes: %v", n, len(b), err)
		}
	}
}

func TestOwedStepsAreNotStored(t *testing.T) {
	p := &Profile{UserID: "u"}
	rules := testRules(t, 5)
	p.Apply(viewAt(0, "a", 0), rules)
	settleChain(p, Reorder)
	p.Apply(viewAt(1, "b", 1), rules)
	if _, err := p.AppendBinary(nil); err == nil {
		t.Fatal("a profile whose state lags its window was encoded")
	}
}

// fullProfile is a user with a full window of 50, his item ids made by that format, and a state of that size.
func fullProfile(t testing.TB, id string, size int, half, checkpoint bool) *Profile {
	r := rand.New(rand.NewPCG(7, 7))
	p := &Profile{UserID: "u", Fingerprint: r.Uint64(), Half: half}
	rules := testRules(t, 50)
	offset, at := int64(1_000_000), int64(0)
	for range 60 {
		offset += r.Int64N(2000)
		at += r.Int64N(600_000)
		e := viewAt(at, fmt.Sprintf(id, r.IntN(100_000)), offset)
		e.ID = fmt.Sprint(r.Uint64())
		p.Apply(e, rules)
	}
	p.Folded()
	p.State = make([]float32, size)
	if checkpoint {
		p.Checkpoint = make([]float32, size)
	}
	for i := range size {
		p.State[i] = float32(r.NormFloat64())
	}
	return p
}

// The memory budgets of docs/state.md, without what Redis adds (about 100 bytes and rounding up to its size classes).
func TestProfileStaysWithinItsBudget(t *testing.T) {
	for _, c := range []struct {
		name             string
		half, checkpoint bool
		most             int
	}{
		{"fp32/reorder", false, true, 5120 - 6},
		{"fp16/reorder", true, true, 3072 - 6},
		{"fp16/append", true, false, 2048 - 6},
	} {
		for _, id := range []string{"i%07d", "%08d", "sku-%08d"} {
			n := len(mustEncode(t, fullProfile(t, id, 512, c.half, c.checkpoint)))
			t.Logf("%s, ids like %s: %d bytes", c.name, fmt.Sprintf(id, 42), n)
			if n > c.most {
				t.Errorf("%s with ids like %s takes %d bytes, at most %d", c.name, fmt.Sprintf(id, 42), n, c.most)
			}
		}
	}
}

func TestHalfRoundsLikeIEEE754(t *testing.T) {
	for bits := range 1 << 16 {
		h := uint16(bits)
		f := HalfFloat(h)
		if f != f {
			continue
		}
		if back := HalfBits(f); back != h {
			t.Fatalf("%04x is %v, which became %04x", h, f, back)
		}
	}
	for f, want := range map[float32]uint16{0: 0, 1: 0x3c00, -2: 0xc000, 65504: 0x7bff, 65520: 0x7c00, 1e9: 0x7c00,
		1 + 1.0/2048: 0x3c00, 1 + 3.0/2048: 0x3c02, 6e-8: 1, 1e-9: 0, float32(math.Inf(-1)): 0xfc00} {
		if got := HalfBits(f); got != want {
			t.Errorf("HalfBits(%v) = %04x, want %04x", f, got, want)
		}
	}
}

func FuzzDecodeProfile(f *testing.F) {
	f.Add(mustEncode(f, fullProfile(f, "i%07d", 4, false, true)))
	f.Add(mustEncode(f, fullProfile(f, "%08d", 4, true, false)))
	f.Add(mustEncode(f, &Profile{UserID: "u", ErasedAt: 5, Positions: []Position{{Source: Source{Topic: "events"}, Offset: 3}}}))
	f.Add([]byte{codecVersion})
	f.Fuzz(func(t *testing.T, b []byte) {
		// With a right checksum the fuzzer reaches the parser.
		if len(b) > headerBytes {
			sum := checksum(b)
			b[9], b[10], b[11], b[12] = byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum)
		}
		p, err := DecodeProfile("u", b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%v does not wrap ErrCorrupt", err)
			}
			return
		}
		again, err := p.AppendBinary(nil)
		if err != nil {
			return // more types than one window can name
		}
		q, err := DecodeProfile("u", again)
		if err != nil {
			t.Fatalf("what decodes must encode to what decodes: %v", err)
		}
		if twice, err := q.AppendBinary(nil); err != nil || !bytes.Equal(twice, again) { // bytes: a state may hold a NaN
			t.Fatalf("%v: encoded to %x, and again to %x", err, again, twice)
		}
	})
}

func BenchmarkProfileEncode(b *testing.B) {
	p := fullProfile(b, "i%07d", 512, false, true)
	buf := make([]byte, 0, 8192)
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = p.AppendBinary(buf[:0])
	}
}

func BenchmarkProfileDecode(b *testing.B) {
	raw := mustEncode(b, fullProfile(b, "i%07d", 512, false, true))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeProfile("u", raw); err != nil {
			b.Fatal(err)
		}
	}
}
