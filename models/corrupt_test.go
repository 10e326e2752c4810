package models

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"freshet"
)

// copyTiny copies the bundle of testdata, to be broken.
func copyTiny(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(tiny)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// edit rewrites one file of a bundle.
func edit(t *testing.T, dir, name string, f func([]byte) []byte) {
	t.Helper()
	path := filepath.Join(dir, name)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, f(raw), 0o600); err != nil {
		t.Fatal(err)
	}
}

// editManifest rewrites fields of the manifest, then signs the folder anew: what a careless exporter would write.
func editManifest(t *testing.T, dir string, f func(map[string]any)) {
	t.Helper()
	edit(t, dir, manifestFile, func(raw []byte) []byte {
		var m map[string]any
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatal(err)
		}
		files := m["files"].(map[string]any)
		for name := range files {
			content, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				continue
			}
			sum := sha256.Sum256(content)
			files[name] = hex.EncodeToString(sum[:])
		}
		if f != nil {
			f(m)
		}
		m["fingerprint"] = strings.Repeat("0", 64)
		out, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(out)
		return bytes.Replace(out, bytes.Repeat([]byte("0"), 64), []byte(hex.EncodeToString(sum[:])), 1)
	})
}

// set returns an editor of one field of the manifest.
func set(field string, value any) func(map[string]any) {
	return func(m map[string]any) { m[field] = value }
}

// float returns an editor of one float32 of a file.
func float(at int, value float32) func([]byte) []byte {
	return func(raw []byte) []byte {
		binary.LittleEndian.PutUint32(raw[4*at:], math.Float32bits(value))
		return raw
	}
}

// replace returns an editor of text.
func replace(old, new string) func([]byte) []byte {
	return func(raw []byte) []byte { return bytes.Replace(raw, []byte(old), []byte(new), 1) }
}

func cutHalf(raw []byte) []byte { return raw[:len(raw)/2] }

func TestBrokenBundlesAreRefusedWithTheReason(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	tests := []struct {
		name   string
		file   string // to be edited by f
		f      func([]byte) []byte
		signed func(map[string]any) // edits the manifest after; with a file alone, hashes are made to fit
		stale  bool                 // leave the manifest as it was
		want   string
	}{
		{name: "unknown format", signed: set("format", 2), want: "manifest.json: format: 2"},
		{name: "unknown field", signed: set("quantised", true), want: `manifest.json: json: unknown field "quantised"`},
		{name: "no JSON", file: manifestFile, f: cutHalf, stale: true, want: "manifest.json: unexpected EOF"},
		{name: "trailing data", file: manifestFile, f: func(b []byte) []byte { return append(b, '1') }, stale: true, want: "something follows"},
		{name: "name", signed: set("name", "a/b"), want: "name: "},
		{name: "no dim", signed: set("dim", 0), want: "dim: 0"},
		{name: "huge dim", signed: set("dim", 1<<40), want: "dim: "},
		{name: "other dim", signed: set("dim", 9), want: "items.f32: 1024 bytes, want 1152"},
		{name: "state type", signed: set("state", map[string]any{"size": 12, "dtype": "int8"}), want: "state.dtype"},
		{name: "state size", signed: set("state", map[string]any{"size": 13, "dtype": "float32"}), want: "step.onnx: input state is float32 [-1 12], want float32 [-1 13]"},
		{name: "history", signed: set("max_history", 1000), want: "max_history: 1000"},
		{name: "items", signed: set("items", 40), want: "capacity: 32"},
		{name: "capacity", signed: set("capacity", 33), want: "items.f32: 1024 bytes, want 1056"},
		{name: "types", signed: set("event_types", []string{"view"}), want: "event_types: the first"},
		{name: "types twice", signed: set("event_types", []string{"", "view", "view"}), want: "event_types[2]"},
		{name: "task", signed: set("tasks", []string{"click", "like"}), want: "step.onnx: no output query_like"},
		{name: "opset", signed: set("opset", 18), want: "search.onnx: opset 17, the manifest says 18"},
		{name: "no parity listed", signed: func(m map[string]any) { delete(m["files"].(map[string]any), parityFile) }, want: "files: parity.json is missing"},
		{name: "path", signed: func(m map[string]any) { m["files"].(map[string]any)["../x"] = strings.Repeat("1", 64) }, want: `files: "../x"`},
		{name: "hash", signed: func(m map[string]any) { m["files"].(map[string]any)["x"] = "12" }, want: "files: x"},
		{name: "listed and missing", signed: func(m map[string]any) { m["files"].(map[string]any)["x"] = strings.Repeat("1", 64) }, want: "x: open"},
		{name: "changed manifest", file: manifestFile, f: replace(`"max_history": 50`, `"max_history": 51`), stale: true, want: "fingerprint: the manifest was changed"},
		{name: "changed graph", file: stepFile, f: replace("w_x", "w_y"), stale: true, want: "step.onnx: the file's SHA-256 is"},
		{name: "changed search", file: searchFile, f: cutHalf, stale: true, want: "search.onnx: the file's SHA-256 is"},
		{name: "changed bias", file: biasFile, f: float(3, 9), stale: true, want: "items_bias.f32: the file's SHA-256 is"},
		{name: "truncated graph", file: stepFile, f: cutHalf, want: "step.onnx: not an ONNX model"},
		{name: "another graph", file: stepFile, f: func([]byte) []byte { return read(t, towerFile) }, want: "step.onnx: no input item"},
		{name: "another search", file: searchFile, f: func([]byte) []byte { return read(t, towerFile) }, want: "search.onnx: no output scores"},
		{name: "graph that does not load", file: stepFile, f: replace("Sigmoid", "Sigmoit"), want: "open step.onnx"},
		{name: "truncated matrix", file: matrixFile, f: cutHalf, want: "items.f32: 512 bytes, want 1024"},
		{name: "NaN in the matrix", file: matrixFile, f: float(9, nan), want: "items.f32: value 9: NaN is not finite"},
		{name: "infinite bias", file: biasFile, f: float(2, inf), want: "items_bias.f32: value 2: +Inf is not finite"},
		{name: "unused rows", file: matrixFile, f: float(20*8, 1), want: "items.f32: row 20: not zero"},
		{name: "id twice", file: idsFile, f: replace(`"i2"`, `"i3"`), want: "items.json: ids[3]"},
		{name: "id missing", file: idsFile, f: replace(`"i2", `, ``), want: "items.json: ids: 19, the manifest says 20"},
		{name: "no unknown item", file: idsFile, f: replace(`""`, `"i0"`), want: "items.json: ids[0]"},
		{name: "drifted parity", file: parityFile, f: drift, want: "parity.json: sequences[0].queries.click[0]: step.onnx differs from the full pass by"},
		{name: "another model", file: stepFile, f: replace("Tanh", "Relu"), want: "step.onnx differs from the full pass by"},
		{name: "no parity", file: parityFile, f: func([]byte) []byte { return []byte(`{"tolerance": 0.0001, "sequences": []}`) }, want: "parity.json: sequences: empty"},
		{name: "generous parity", file: parityFile, f: replace("0.0001", "10"), want: "parity.json: tolerance: 10"},
		{name: "parity row", file: parityFile, f: replace(`"rows": [`, `"rows": [77, `), want: "parity.json: sequences[0].rows"},
	}
	b := openTiny(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := copyTiny(t)
			if test.file != "" {
				edit(t, dir, test.file, test.f)
			}
			if !test.stale {
				editManifest(t, dir, test.signed)
			}
			bad, err := OpenBundle(testRuntime(t), dir)
			if err == nil {
				t.Fatalf("opened: %s", bad.ID())
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("refused with %q, want %q", err, test.want)
			}
		})
	}
	s := &freshet.Steps{Items: make([]float32, 8), Types: make([]int64, 1), Gaps: make([]float32, 1), States: make([]float32, 12)}
	if err := b.Advance(context.Background(), s); err != nil {
		t.Errorf("the bundle that was open does not serve any more: %v", err)
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(tiny, name))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// drift moves the first value of the first query by a hundredth.
func drift(raw []byte) []byte {
	var p parity
	if err := json.Unmarshal(raw, &p); err != nil {
		panic(err)
	}
	p.Sequences[0].Queries["click"][0][0] += 0.01
	out, err := json.Marshal(p)
	if err != nil {
		panic(err)
	}
	return out
}

func TestAMissingFileIsNamed(t *testing.T) {
	for _, name := range []string{manifestFile, stepFile, searchFile, towerFile, matrixFile, biasFile, idsFile, parityFile} {
		dir := copyTiny(t)
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenBundle(testRuntime(t), dir); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is missing: %v", name, err)
		}
	}
}

func TestASignedCopyOpens(t *testing.T) {
	dir := copyTiny(t)
	editManifest(t, dir, nil)
	if b := openBundle(t, dir); b.Fingerprint() == openTiny(t).Fingerprint() {
		t.Error("a manifest of other bytes has the same fingerprint")
	}
}

// A bundle of a trainer that knew no text has no tower, and may leave out inputs that its model does not use.
func TestABundleWithoutTextOpens(t *testing.T) {
	dir := copyTiny(t)
	editManifest(t, dir, func(m map[string]any) {
		delete(m, "text")
		delete(m["files"].(map[string]any), towerFile)
	})
	b := openBundle(t, dir)
	if b.TextDim() != 0 {
		t.Errorf("text dim %d", b.TextDim())
	}
	if _, err := b.ItemVectors(context.Background(), nil); err == nil {
		t.Error("item vectors without a tower")
	}
}

func FuzzManifest(f *testing.F) {
	raw, err := os.ReadFile(filepath.Join(tiny, manifestFile))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"format":1,"name":"x","fingerprint":"","files":{"..":""}}`))
	f.Add(bytes.Replace(raw, []byte(`"dim": 8`), []byte(`"dim": -8`), 1))
	f.Add(bytes.Replace(raw, []byte(`"capacity": 32`), []byte(`"capacity": 9223372036854775807`), 1))
	f.Fuzz(func(t *testing.T, raw []byte) {
		raw = signed(raw)
		m, err := ParseManifest(raw)
		if err != nil {
			if m == nil && err.Error() == "" {
				t.Error("refused without a reason")
			}
			return
		}
		if m.Dim < 1 || m.Capacity < m.Items || m.State.Size < 1 || m.State.Size > maxState || len(m.Tasks) == 0 || m.Capacity*m.Dim <= 0 {
			t.Errorf("taken: %+v", m)
		}
		for name := range m.Files {
			if filepath.Base(name) != name {
				t.Errorf("file %q leaves the folder", name)
			}
		}
		again, err := ParseManifest(raw)
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("read again: %+v, %v\nfirst: %+v", again, err, m)
		}
		for i := 0; i < len(raw); i += 1 + len(raw)/8 { // the fingerprint covers every byte
			raw[i] ^= 1
			if _, err := ParseManifest(raw); err == nil {
				t.Errorf("byte %d was changed and nobody noticed", i)
			}
			raw[i] ^= 1
		}
	})
}

var fingerprintField = regexp.MustCompile(`"fingerprint"\s*:\s*"([^"]*)"`)

// signed gives a manifest the fingerprint of its bytes, so that the fuzzer gets past it.
func signed(raw []byte) []byte {
	at := fingerprintField.FindSubmatchIndex(raw)
	if at == nil {
		return bytes.Clone(raw)
	}
	digits := bytes.Repeat([]byte("0"), 2*sha256.Size)
	zeroed := slices.Concat(raw[:at[2]], digits, raw[at[3]:])
	sum := sha256.Sum256(zeroed)
	hex.Encode(digits, sum[:])
	return slices.Concat(raw[:at[2]], digits, raw[at[3]:])
}

func FuzzGraph(f *testing.F) {
	for _, name := range []string{stepFile, searchFile, towerFile} {
		raw, err := os.ReadFile(filepath.Join(tiny, name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := parseGraph(raw); err != nil {
			return
		}
		out, err := resize(raw, matrixFile, 32, 64, 8)
		if err != nil {
			return
		}
		g, err := parseGraph(out)
		if err != nil {
			t.Fatalf("a resized graph does not parse: %v", err)
		}
		for _, e := range g.external {
			if e.location == matrixFile && (len(e.shape) != 2 || e.shape[0] != 64) {
				t.Errorf("resized to %v", e.shape)
			}
		}
	})
}
