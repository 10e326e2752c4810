package models

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"sync"
	"time"

	"freshet"

	"go.uber.org/zap"
)

// The files of a bundle.
const (
	manifestFile = "manifest.json"
	stepFile     = "step.onnx"
	searchFile   = "search.onnx"
	towerFile    = "item_tower.onnx"
	matrixFile   = "items.f32"
	biasFile     = "items_bias.f32"
	idsFile      = "items.json"
	parityFile   = "parity.json"
)

// Bundle is a trained model, opened. All methods may be called by several goroutines at once.
type Bundle struct {
	rt          *Runtime
	dir         string
	manifest    *Manifest
	fingerprint uint64
	types       map[string]int64
	ids         []string  // row -> item id; row 0 is ""
	matrix      []float32 // [items, dim]
	bias        []float32 // [items]

	step        *session
	inputs      []string // of the step graph, in order
	outputs     []string
	tower       *session // nil without text
	searchGraph []byte   // search.onnx as it lies in the folder
	padding     padding
	scratch     sync.Pool // *stepScratch
	closed      sync.Once
}

// OpenBundle opens a folder that models/training wrote. It refuses, with the file and the field in the error, whatever is not
// exactly what was exported: a file whose hash differs, a shape that does not fit, a value that is not finite, a step graph that
// no longer computes what the trainer computed.
func OpenBundle(rt *Runtime, dir string) (*Bundle, error) {
	start := time.Now()
	b := &Bundle{rt: rt, dir: dir}
	if err := b.load(); err != nil {
		return nil, fmt.Errorf("open bundle %s: %w", dir, errors.Join(err, b.Close()))
	}
	rt.log.Info("bundle opened", zap.String("model", b.ID()), zap.String("architecture", b.manifest.Architecture),
		zap.Int("items", b.manifest.Items-1), zap.Int("dim", b.Dim()), zap.Int("state", b.StateSize()),
		zap.String("batches", b.padding.String()), zap.Duration("took", time.Since(start)))
	return b, nil
}

func (b *Bundle) load() error {
	raw, err := os.ReadFile(filepath.Join(b.dir, manifestFile))
	if err != nil {
		return err
	}
	if b.manifest, err = ParseManifest(raw); err != nil {
		return fmt.Errorf("%s: %w", manifestFile, err)
	}
	digest, _ := hex.DecodeString(b.manifest.Fingerprint) // judged by ParseManifest
	b.fingerprint = binary.BigEndian.Uint64(digest)
	b.types = make(map[string]int64, len(b.manifest.EventTypes))
	for i, name := range b.manifest.EventTypes {
		b.types[name] = int64(i)
	}
	for _, step := range []struct {
		file string
		load func() error
	}{
		{"", b.verifyOthers}, {idsFile, b.loadIDs}, {matrixFile, b.loadMatrix}, {biasFile, b.loadBias}, {searchFile, b.loadSearch},
		{stepFile, b.loadStep}, {towerFile, b.loadTower}, {parityFile, b.loadParity},
	} {
		if err := step.load(); err != nil {
			if step.file != "" {
				err = fmt.Errorf("%s: %w", step.file, err)
			}
			return err
		}
	}
	return nil
}

// file reads one of the bundle's files and holds it to its hash.
func (b *Bundle) file(name string) ([]byte, error) {
	raw, err := os.ReadFile(filepath.Join(b.dir, name))
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(raw)
	return raw, b.verifyHash(name, sum[:])
}

func (b *Bundle) verifyHash(name string, sum []byte) error {
	if got := hex.EncodeToString(sum); got != b.manifest.Files[name] {
		return fmt.Errorf("the file's SHA-256 is %s, the manifest says %s", got, b.manifest.Files[name])
	}
	return nil
}

// verifyOthers holds the files that freshet does not read to their hashes too: the fingerprint covers the whole folder.
func (b *Bundle) verifyOthers() error {
	read := map[string]bool{idsFile: true, matrixFile: true, biasFile: true, searchFile: true, stepFile: true, parityFile: true, towerFile: b.manifest.Text != nil}
	for name := range b.manifest.Files {
		if read[name] {
			continue
		}
		if _, err := b.file(name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (b *Bundle) loadIDs() error {
	raw, err := b.file(idsFile)
	if err != nil {
		return err
	}
	var list struct {
		IDs []string `json:"ids"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return err
	}
	if len(list.IDs) != b.manifest.Items {
		return fmt.Errorf("ids: %d, the manifest says %d items", len(list.IDs), b.manifest.Items)
	}
	if list.IDs[0] != "" {
		return fmt.Errorf("ids[0]: %q, want the empty id of the unknown item", list.IDs[0])
	}
	for i, id := range list.IDs {
		if len(id) > freshet.MaxItemID {
			return fmt.Errorf("ids[%d]: %d bytes, at most %d", i, len(id), freshet.MaxItemID)
		}
	}
	b.ids = list.IDs
	return distinct("ids", list.IDs)
}

func (b *Bundle) loadMatrix() error {
	all, err := b.floats(matrixFile, b.manifest.Capacity*b.manifest.Dim)
	if err != nil {
		return err
	}
	used := b.manifest.Items * b.manifest.Dim
	if i := firstNonZero(all[used:]); i >= 0 {
		return fmt.Errorf("row %d: not zero, rows from %d on are unused", (used+i)/b.manifest.Dim, b.manifest.Items)
	}
	b.matrix = all[:used:used]
	return nil
}

func (b *Bundle) loadBias() error {
	all, err := b.floats(biasFile, b.manifest.Capacity)
	if err != nil {
		return err
	}
	b.bias = all[:b.manifest.Items]
	return nil
}

func firstNonZero(v []float32) int {
	for i, x := range v {
		if x != 0 {
			return i
		}
	}
	return -1
}

// floats reads a file of n little-endian float32, all of them finite, and holds it to its hash.
func (b *Bundle) floats(name string, n int) ([]float32, error) {
	f, err := os.Open(filepath.Join(b.dir, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() != 4*int64(n) {
		if err == nil {
			err = fmt.Errorf("%d bytes, want %d (4 bytes for each of %d values)", info.Size(), 4*n, n)
		}
		return nil, err
	}
	hash := sha256.New()
	values, err := readFloats(io.TeeReader(f, hash), n)
	if err != nil {
		return nil, err
	}
	return values, b.verifyHash(name, hash.Sum(nil))
}

func readFloats(r io.Reader, n int) ([]float32, error) {
	values := make([]float32, n)
	buffer := make([]byte, 1<<16)
	for at := 0; at < n; {
		part := buffer[:min(len(buffer), 4*(n-at))]
		if _, err := io.ReadFull(r, part); err != nil {
			return nil, err
		}
		for i := 0; i < len(part); i += 4 {
			x := math.Float32frombits(binary.LittleEndian.Uint32(part[i:]))
			if x-x != 0 { // NaN or infinite
				return nil, fmt.Errorf("value %d: %v is not finite", at, x)
			}
			values[at] = x
			at++
		}
	}
	return values, nil
}

// graph reads an ONNX file of the bundle and holds it to its hash and its opset.
func (b *Bundle) graph(name string) (*graph, []byte, error) {
	raw, err := b.file(name)
	if err != nil {
		return nil, nil, err
	}
	g, err := parseGraph(raw)
	if err != nil {
		return nil, nil, err
	}
	if g.opset != b.manifest.Opset {
		return nil, nil, fmt.Errorf("opset %d, the manifest says %d", g.opset, b.manifest.Opset)
	}
	return g, raw, nil
}

func (b *Bundle) loadSearch() error {
	g, raw, err := b.graph(searchFile)
	if err != nil {
		return err
	}
	if _, err := checkSearch(g, b.manifest.Capacity, b.Dim()); err != nil {
		return err
	}
	if len(g.external) != 1 || g.external[0].location != matrixFile || g.external[0].offset != 0 || !sameShape(g.external[0].shape, []int{b.manifest.Capacity, b.Dim()}) {
		return fmt.Errorf("want one external constant, %s with %d rows of %d; the graph has %+v", matrixFile, b.manifest.Capacity, b.Dim(), g.external)
	}
	b.searchGraph = raw
	return nil
}

var searchInputs, searchOutputs = []string{"query", "mask", "k"}, []string{"scores", "rows"}

func checkSearch(g *graph, capacity, dim int) ([]string, error) {
	if _, err := check("output", g.outputs, []want{
		{name: "scores", elem: elemFloat32, shape: []int{anySize, anySize}}, {name: "rows", elem: elemInt64, shape: []int{anySize, anySize}},
	}, false); err != nil {
		return nil, err
	}
	return check("input", g.inputs, []want{
		{name: "query", elem: elemFloat32, shape: []int{anySize, dim}}, {name: "mask", elem: elemFloat32, shape: []int{capacity}}, {name: "k", elem: elemInt64, shape: []int{1}},
	}, true)
}

func (b *Bundle) loadStep() error {
	g, _, err := b.graph(stepFile)
	if err != nil {
		return err
	}
	b.inputs, err = check("input", g.inputs, []want{
		{name: "item", elem: elemFloat32, shape: []int{anySize, b.Dim()}},
		{name: "type", elem: elemInt64, shape: []int{anySize}, optional: true},
		{name: "gap", elem: elemFloat32, shape: []int{anySize}, optional: true},
		{name: "state", elem: elemFloat32, shape: []int{anySize, b.StateSize()}},
	}, true)
	if err != nil {
		return err
	}
	wants := []want{{name: "state_out", elem: elemFloat32, shape: []int{anySize, b.StateSize()}}}
	for _, task := range b.manifest.Tasks {
		wants = append(wants, want{name: "query_" + task, elem: elemFloat32, shape: []int{anySize, b.Dim()}})
	}
	if b.outputs, err = check("output", g.outputs, wants, false); err != nil {
		return err
	}
	if len(g.external) > 0 {
		return fmt.Errorf("constant %s lies in another file, want all inside", g.external[0].name)
	}
	b.step, err = b.rt.openFile(filepath.Join(b.dir, stepFile), stepFile, b.inputs, b.outputs)
	return err
}

// loadParity replays the trainer's sequences, then finds out which batches give the same bits.
func (b *Bundle) loadParity() error {
	p, err := b.readParity()
	if err != nil {
		return err
	}
	if _, err := b.replay(p); err != nil {
		return err
	}
	return b.choosePadding()
}

// ID names the model in records and logs: name@first 8 digits of the fingerprint.
func (b *Bundle) ID() string { return b.manifest.Name + "@" + b.manifest.Fingerprint[:8] }

// Fingerprint stamps states: the first 8 bytes of the fingerprint, big-endian.
func (b *Bundle) Fingerprint() uint64 { return b.fingerprint }

// Dim is the length of item and query vectors.
func (b *Bundle) Dim() int { return b.manifest.Dim }

// StateSize is how many float32 the model remembers of a user.
func (b *Bundle) StateSize() int { return b.manifest.State.Size }

// Tasks are what the model has a query for, in the order of freshet.Steps.Queries.
func (b *Bundle) Tasks() []string { return b.manifest.Tasks }

// TypeIndex is how the model numbers an event type; 0 for one it was not trained on.
func (b *Bundle) TypeIndex(name string) int64 { return b.types[name] }

// MaxHistory is how many entries a profile's window holds.
func (b *Bundle) MaxHistory() int { return b.manifest.MaxHistory }

// Items lists the ids of the items that training knew, in the order of their rows. It must not be changed.
func (b *Bundle) Items() []string { return b.ids[1:] }

// Manifest is what the trainer wrote. It must not be changed.
func (b *Bundle) Manifest() *Manifest { return b.manifest }

// Device names what the step runs on now: cpu or cuda.
func (b *Bundle) Device() string { return b.step.runsOn() }

// Mixed tells that the step runs on another device than it was opened on: a state from before is from then on equal to its fold
// within rounding, not bit for bit.
func (b *Bundle) Mixed() bool { return b.step.runsOn() != b.step.device }

// Close frees the sessions; runs under way end first.
func (b *Bundle) Close() (err error) {
	b.closed.Do(func() {
		for _, s := range []*session{b.step, b.tower} {
			if s != nil {
				err = errors.Join(err, s.close())
			}
		}
	})
	return err
}
