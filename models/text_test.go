package models

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func encoderDir(t testing.TB) string {
	t.Helper()
	return locate(t, "FRESHET_ENCODER", "encoder/all-MiniLM-L6-v2")
}

func openEncoder(t testing.TB, cfg TextConfig) *TextEncoder {
	t.Helper()
	cfg.Dir = encoderDir(t)
	e, err := OpenTextEncoder(testRuntime(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// golden is a line of testdata/text.jsonl, which make_text.py writes.
type golden struct {
	Text   string    `json:"text"`
	IDs    []int64   `json:"ids"`
	Vector []float32 `json:"vector"`
}

func goldens(t testing.TB) (rows []golden) {
	t.Helper()
	raw, err := os.ReadFile("testdata/text.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var g golden
		if err := json.Unmarshal(lines.Bytes(), &g); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, g)
	}
	if len(rows) < 200 {
		t.Fatalf("%d texts, want at least 200", len(rows))
	}
	return rows
}

func TestTokenIDsAreHuggingFaces(t *testing.T) {
	w, err := openWordPiece(filepath.Join(encoderDir(t), tokenizerFile))
	if err != nil {
		t.Fatal(err)
	}
	texts, tokens, wrong := goldens(t), 0, 0
	for _, g := range texts {
		ids, err := w.encode(g.Text)
		if err != nil {
			t.Fatalf("%q: %v", g.Text, err)
		}
		tokens += len(ids)
		if !slices.Equal(ids, g.IDs) {
			if wrong++; wrong <= 20 {
				t.Errorf("%q\n got %v\nwant %v", g.Text, ids, g.IDs)
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%d texts differ", wrong)
	}
	t.Logf("%d texts, %d tokens, %d texts differ", len(texts), tokens, wrong)
}

func TestVectorsAreThePublishedNetworks(t *testing.T) {
	e := openEncoder(t, TextConfig{})
	if e.Hash() != "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db" || e.Dim() != 384 {
		t.Skipf("the encoder is another one (%s...); the references are of all-MiniLM-L6-v2", e.Hash()[:8])
	}
	var texts []string
	var want [][]float32
	for _, g := range goldens(t) {
		if g.Vector != nil {
			texts, want = append(texts, g.Text), append(want, g.Vector)
		}
	}
	got, err := e.Encode(context.Background(), texts)
	if err != nil {
		t.Fatal(err)
	}
	worst := 0.
	for i := range texts {
		d := distance(got[i], want[i])
		if !(d < 1e-4) {
			t.Errorf("%q: differs by %.2g", texts[i], d)
		}
		worst = max(worst, d)
	}
	t.Logf("%d vectors, the farthest %.2g off", len(texts), worst)
}

func TestVectorsDoNotDependOnTheBatch(t *testing.T) {
	alone, together, batched := openEncoder(t, TextConfig{Workers: 1}), openEncoder(t, TextConfig{Workers: 2}), openEncoder(t, TextConfig{BatchTokens: 512})
	var texts []string
	for i, g := range goldens(t) {
		if i%4 == 0 && len(g.IDs) < 40 {
			texts = append(texts, g.Text)
		}
	}
	x, err := alone.Encode(context.Background(), texts)
	if err != nil {
		t.Fatal(err)
	}
	calls, last := 0, 0
	y, err := together.EncodeWith(context.Background(), texts, func(done, total int) {
		if done <= last || total != len(texts) {
			t.Errorf("progress %d of %d after %d", done, total, last)
		}
		calls, last = calls+1, done
	})
	if err != nil {
		t.Fatal(err)
	}
	if calls == 0 || last != len(texts) {
		t.Errorf("progress ended at %d of %d after %d calls", last, len(texts), calls)
	}
	z, err := batched.Encode(context.Background(), texts)
	if err != nil {
		t.Fatal(err)
	}
	for i := range texts {
		if differentBits(x[i], y[i]) >= 0 {
			t.Errorf("%q: other bits with two workers", texts[i])
		}
		if d := distance(x[i], z[i]); !(d < 1e-5) {
			t.Errorf("%q: batched, it differs by %.2g", texts[i], d)
		}
	}
}

func TestEmptyTextHasNoDirection(t *testing.T) {
	e := openEncoder(t, TextConfig{})
	v, err := e.Encode(context.Background(), []string{"", "boots"})
	if err != nil {
		t.Fatal(err)
	}
	if firstNonZero(v[0]) >= 0 || firstNonZero(v[1]) < 0 {
		t.Error("want the zero vector for the empty text and another for boots")
	}
}

func TestTextThroughTheTowerIsAnItemVector(t *testing.T) {
	e, b := openEncoder(t, TextConfig{}), openTiny(t)
	if err := e.Fits(b); err != nil {
		t.Fatal(err)
	}
	texts, err := e.Encode(context.Background(), []string{"boots", "a lamp", "boots"})
	if err != nil {
		t.Fatal(err)
	}
	items, err := b.ItemVectors(context.Background(), texts)
	if err != nil {
		t.Fatal(err)
	}
	if len(items) != 3 || len(items[0]) != b.Dim() || differentBits(items[0], items[2]) >= 0 || differentBits(items[0], items[1]) < 0 {
		t.Errorf("item vectors %v", items)
	}
	if _, err := b.ItemVectors(context.Background(), [][]float32{make([]float32, 3)}); err == nil {
		t.Error("a text vector of another length was taken")
	}
}

func TestLongTextsAreCut(t *testing.T) {
	e := openEncoder(t, TextConfig{MaxTokens: 16})
	ids, err := e.words.encode(strings.Repeat("boots ", 50))
	if err != nil {
		t.Fatal(err)
	}
	if len(ids) != 16 || ids[0] != 101 || ids[15] != 102 {
		t.Errorf("ids %v", ids)
	}
}
