package models

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sugarme/tokenizer"
	"github.com/sugarme/tokenizer/model"
	"github.com/sugarme/tokenizer/model/wordpiece"
	"github.com/sugarme/tokenizer/normalizer"
	"github.com/sugarme/tokenizer/pretokenizer"
	"go.uber.org/zap"
)

// This file is the only one that knows the tokenizer library. The library ends the process on some failures of its truncation,
// padding and training; none of that is used here.

// The files of an encoder's folder.
const (
	encoderFile   = "model.onnx"
	tokenizerFile = "tokenizer.json"
	weightsFile   = "model.safetensors"
)

var encoderInputs, encoderOutputs = []string{"input_ids", "attention_mask", "token_type_ids"}, []string{"sentence_embedding"}

// TextConfig says which text encoder, and how it works.
type TextConfig struct {
	Dir         string // folder with model.onnx and tokenizer.json; required
	MaxTokens   int    // longer texts are cut; default: as tokenizer.json says, else as many as the graph has positions for
	BatchTokens int    // tokens in one run, at most (one text always fits); default: one text a run on a CPU, where a vector then has the same bits whichever texts came along, and it costs nothing; 16384 on CUDA
	Workers     int    // runs at a time; default: one for each core Go may use on a CPU, 1 on CUDA
}

// Validate names the field that cannot be used.
func (c TextConfig) Validate() error {
	switch {
	case c.Dir == "":
		return errors.New("dir: empty, give the text encoder's folder")
	case c.MaxTokens < 0 || c.BatchTokens < 0 || c.Workers < 0:
		return fmt.Errorf("max_tokens %d, batch_tokens %d, workers %d: want none negative", c.MaxTokens, c.BatchTokens, c.Workers)
	}
	return nil
}

// TextEncoder turns texts into vectors of length 1: a WordPiece tokenizer in front of a BERT-class network. Token ids are those of
// the encoder's own tokenizer, vectors those of its published network within 1e-4. It may be used concurrently.
type TextEncoder struct {
	cfg     TextConfig
	words   *wordPiece
	session *session
	hash    string
	dim     int
	closed  sync.Once
}

// OpenTextEncoder opens a folder of the text encoder's files.
func OpenTextEncoder(rt *Runtime, cfg TextConfig) (*TextEncoder, error) {
	start := time.Now()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure the text encoder: %w", err)
	}
	e := &TextEncoder{cfg: cfg}
	if err := e.load(rt); err != nil {
		return nil, fmt.Errorf("open text encoder %s: %w", cfg.Dir, errors.Join(err, e.Close()))
	}
	rt.log.Info("text encoder opened", zap.String("encoder", filepath.Base(cfg.Dir)), zap.String("sha256", e.hash[:8]), zap.Int("dim", e.dim),
		zap.Int("max_tokens", e.words.max), zap.Duration("took", time.Since(start)))
	return e, nil
}

func (e *TextEncoder) load(rt *Runtime) (err error) {
	if e.words, err = openWordPiece(filepath.Join(e.cfg.Dir, tokenizerFile)); err != nil {
		return fmt.Errorf("%s: %w", tokenizerFile, err)
	}
	if e.session, err = rt.openFile(filepath.Join(e.cfg.Dir, encoderFile), encoderFile, encoderInputs, encoderOutputs); err != nil {
		return err
	}
	positions, err := e.session.number("max_tokens")
	if err != nil {
		return err
	}
	if e.dim, err = e.session.number("dim"); err != nil {
		return err
	}
	if e.cfg.MaxTokens > 0 {
		e.words.max = e.cfg.MaxTokens
	}
	e.words.max = min(e.words.max, positions)
	if e.words.max <= len(e.words.prefix)+len(e.words.suffix) {
		return fmt.Errorf("max_tokens: %d leaves no room for a text", e.words.max)
	}
	e.setDefaults()
	return e.identify()
}

func (e *TextEncoder) setDefaults() {
	batch, workers := 1, runtime.GOMAXPROCS(0)
	if e.session.device != CPU {
		batch, workers = 16384, 1
	}
	if e.cfg.BatchTokens == 0 {
		e.cfg.BatchTokens = batch
	}
	if e.cfg.Workers == 0 {
		e.cfg.Workers = workers
	}
}

// number reads a positive number that the graph's maker noted.
func (s *session) number(key string) (int, error) {
	value, err := s.metadata(key)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%s: metadata %s is %q, want a positive number; build the graph anew", s.what, key, value)
	}
	return n, nil
}

// identify finds the hash of the weights: what the graph says it was built from, else that of the weights' file, else the graph's.
func (e *TextEncoder) identify() (err error) {
	if e.hash, err = e.session.metadata("weights_sha256"); err != nil || isSHA256(e.hash) {
		return err
	}
	if e.hash, err = hashFile(filepath.Join(e.cfg.Dir, weightsFile)); errors.Is(err, os.ErrNotExist) {
		e.hash, err = hashFile(filepath.Join(e.cfg.Dir, encoderFile))
	}
	return err
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Hash is the SHA-256 of the encoder's weights, hex: a bundle's text.sha256 must equal it.
func (e *TextEncoder) Hash() string { return e.hash }

// Dim is the length of the vectors.
func (e *TextEncoder) Dim() int { return e.dim }

// Fits refuses an encoder that the bundle's item tower was not trained on.
func (e *TextEncoder) Fits(b *Bundle) error {
	if t := b.manifest.Text; t != nil && (t.SHA256 != e.hash || t.Dim != e.dim) {
		return fmt.Errorf("bundle %s was trained on text encoder %s (sha256 %s..., dim %d), this one is %s..., dim %d", b.ID(), t.Encoder, t.SHA256[:8], t.Dim, e.hash[:8], e.dim)
	}
	return nil
}

// Encode returns one vector for each text. An empty text has no meaning and the zero vector.
func (e *TextEncoder) Encode(ctx context.Context, texts []string) ([][]float32, error) {
	return e.EncodeWith(ctx, texts, nil)
}

// EncodeWith is Encode with a callback after each run: how many of the texts are done. It is never called twice at a time.
func (e *TextEncoder) EncodeWith(ctx context.Context, texts []string, progress func(done, total int)) ([][]float32, error) {
	vectors := make([][]float32, len(texts))
	batches, empty, err := e.batches(ctx, texts)
	if err != nil {
		return nil, fmt.Errorf("tokenize %d texts: %w", len(texts), err)
	}
	for _, i := range empty {
		vectors[i] = make([]float32, e.dim)
	}
	if err := e.runAll(ctx, batches, vectors, len(empty), progress); err != nil {
		return nil, fmt.Errorf("encode %d texts: %w", len(texts), err)
	}
	return vectors, nil
}

// textBatch is one run: texts of the same number of tokens, so that nothing is padded and no vector depends on its neighbours'
// length.
type textBatch struct {
	tokens int     // of each text
	ids    []int64 // [texts, tokens]
	who    []int   // index of each text
}

// batches tokenizes and groups. Longest first: workers then end together.
func (e *TextEncoder) batches(ctx context.Context, texts []string) (batches []*textBatch, empty []int, err error) {
	open := map[int]*textBatch{}
	for i, text := range texts {
		if text == "" {
			empty = append(empty, i)
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		ids, err := e.words.encode(text)
		if err != nil {
			return nil, nil, fmt.Errorf("text %d: %w", i, err)
		}
		b := open[len(ids)]
		if b == nil || len(b.ids)+len(ids) > e.cfg.BatchTokens {
			b = &textBatch{tokens: len(ids)}
			open[len(ids)] = b
			batches = append(batches, b)
		}
		b.ids, b.who = append(b.ids, ids...), append(b.who, i)
	}
	slices.SortStableFunc(batches, func(a, b *textBatch) int { return b.tokens - a.tokens })
	return batches, empty, nil
}

func (e *TextEncoder) runAll(ctx context.Context, batches []*textBatch, vectors [][]float32, done int, progress func(done, total int)) error {
	var (
		workers sync.WaitGroup
		next    atomic.Int64
		mu      sync.Mutex // guards done and failed
		failed  error
	)
	work := func() {
		for {
			i := int(next.Add(1)) - 1
			if i >= len(batches) {
				return
			}
			err := ctx.Err()
			if err == nil {
				err = e.run(batches[i], vectors)
			}
			mu.Lock()
			if err != nil {
				failed = errors.Join(failed, err)
				next.Store(int64(len(batches)))
			} else if done += len(batches[i].who); progress != nil {
				progress(done, len(vectors))
			}
			mu.Unlock()
		}
	}
	for range min(e.cfg.Workers, len(batches)) {
		workers.Go(work)
	}
	workers.Wait()
	return failed
}

func (e *TextEncoder) run(b *textBatch, vectors [][]float32) error {
	n := len(b.who)
	mask, kinds, out := slices.Repeat([]int64{1}, len(b.ids)), make([]int64, len(b.ids)), make([]float32, n*e.dim)
	t, err := newTensors(ints(b.ids, n, b.tokens), ints(mask, n, b.tokens), ints(kinds, n, b.tokens), floats(out, n, e.dim))
	if err != nil {
		return err
	}
	defer t.free()
	if err := e.session.run(t, len(encoderInputs)); err != nil {
		return err
	}
	for i, text := range b.who {
		vectors[text] = out[i*e.dim : (i+1)*e.dim : (i+1)*e.dim]
	}
	return nil
}

// Close frees the session; runs under way end first.
func (e *TextEncoder) Close() (err error) {
	e.closed.Do(func() {
		if e.session != nil {
			err = e.session.close()
		}
	})
	return err
}

// wordPiece is a tokenizer.json of the BERT kind.
type wordPiece struct {
	tokenizer      *tokenizer.Tokenizer
	verbatim       []tokenizer.TokenConfig // tokens found in the text as it stands, like [SEP]
	prefix, suffix []int64                 // what stands before and after a text: [CLS], [SEP]
	max            int                     // tokens of a text, prefix and suffix among them
}

// tokenizerSpec is what freshet reads of a tokenizer.json.
type tokenizerSpec struct {
	Truncation *struct {
		MaxLength int `json:"max_length"`
	} `json:"truncation"`
	AddedTokens []tokenizer.TokenConfig `json:"added_tokens"`
	Normalizer  struct {
		Type string `json:"type"`
		bertNormaliser
	} `json:"normalizer"`
	PreTokenizer struct {
		Type string `json:"type"`
	} `json:"pre_tokenizer"`
	PostProcessor postProcessor `json:"post_processor"`
	Model         struct {
		Type     string      `json:"type"`
		Unknown  string      `json:"unk_token"`
		Prefix   string      `json:"continuing_subword_prefix"`
		MaxChars int         `json:"max_input_chars_per_word"`
		Vocab    model.Vocab `json:"vocab"`
	} `json:"model"`
}

// postProcessor says what stands around a text, in either of the two forms that BERT-class tokenizers have.
type postProcessor struct {
	Type   string `json:"type"`
	Single []struct {
		SpecialToken *struct {
			ID string `json:"id"`
		} `json:"SpecialToken"`
		Sequence *struct {
			TypeID int `json:"type_id"`
		} `json:"Sequence"`
	} `json:"single"`
	SpecialTokens map[string]struct {
		IDs []int64 `json:"ids"`
	} `json:"special_tokens"`
	CLS []any `json:"cls"` // ["[CLS]", 101]
	SEP []any `json:"sep"`
}

func openWordPiece(path string) (*wordPiece, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var spec tokenizerSpec
	if err := json.Unmarshal(raw, &spec); err != nil {
		return nil, err
	}
	if err := spec.validate(); err != nil {
		return nil, err
	}
	w := &wordPiece{max: math.MaxInt, tokenizer: spec.build()}
	for _, a := range spec.AddedTokens {
		if !a.Normalized {
			w.verbatim = append(w.verbatim, a)
		}
	}
	if spec.Truncation != nil {
		w.max = spec.Truncation.MaxLength
	}
	w.prefix, w.suffix, err = spec.PostProcessor.around()
	return w, err
}

func (s *tokenizerSpec) validate() error {
	switch {
	case s.Model.Type != "WordPiece":
		return fmt.Errorf("model.type: %q, want WordPiece", s.Model.Type)
	case s.Normalizer.Type != "BertNormalizer":
		return fmt.Errorf("normalizer.type: %q, want BertNormalizer", s.Normalizer.Type)
	case s.PreTokenizer.Type != "BertPreTokenizer":
		return fmt.Errorf("pre_tokenizer.type: %q, want BertPreTokenizer", s.PreTokenizer.Type)
	case s.Model.Prefix != "##":
		return fmt.Errorf("model.continuing_subword_prefix: %q, want ##", s.Model.Prefix)
	case s.Model.MaxChars < 1:
		return fmt.Errorf("model.max_input_chars_per_word: %d, want 1 or more", s.Model.MaxChars)
	case s.Truncation != nil && s.Truncation.MaxLength < 1:
		return fmt.Errorf("truncation.max_length: %d, want 1 or more", s.Truncation.MaxLength)
	}
	if _, ok := s.Model.Vocab[s.Model.Unknown]; !ok {
		return fmt.Errorf("model.vocab: lacks the unknown token %q", s.Model.Unknown)
	}
	for _, t := range s.AddedTokens {
		if id, ok := s.Model.Vocab[t.Content]; !ok || int64(id) != t.Id {
			return fmt.Errorf("added_tokens: %q is not the vocabulary's token %d", t.Content, t.Id)
		}
		if t.SingleWord || t.Content == "" {
			return fmt.Errorf("added_tokens: %q: empty, or single_word, which freshet does not know", t.Content)
		}
	}
	return nil
}

// build puts the library's parts together: its vocabulary of added tokens, our normaliser, words parted by blanks, its WordPiece.
func (s *tokenizerSpec) build() *tokenizer.Tokenizer {
	pieces := wordpiece.NewWordPieceBuilder().Vocab(&s.Model.Vocab).UnkToken(s.Model.Unknown).MaxInputCharsPerWord(s.Model.MaxChars).Build()
	t := tokenizer.NewTokenizer(pieces)
	t.WithNormalizer(libraryNormaliser{&s.Normalizer.bertNormaliser})
	t.WithPreTokenizer(pretokenizer.NewWhitespaceSplit())
	var added []tokenizer.AddedToken
	for _, a := range s.AddedTokens {
		if a.Normalized {
			added = append(added, tokenizer.NewAddedToken(a.Content, a.Special, tokenizer.WithLStrip(a.Lstrip), tokenizer.WithRStrip(a.Rstrip)))
		}
	}
	if len(added) > 0 {
		t.AddTokens(added)
	}
	return t
}

// libraryNormaliser puts ours into the library's pipeline. Offsets into the original text are not kept: nobody asks for them.
type libraryNormaliser struct{ ours *bertNormaliser }

// Normalize is how the library calls it.
func (n libraryNormaliser) Normalize(s *normalizer.NormalizedString) (*normalizer.NormalizedString, error) {
	return normalizer.NewNormalizedFrom(n.ours.normalise(s.GetNormalized())), nil
}

// around says which ids stand before and after a text.
func (p *postProcessor) around() (prefix, suffix []int64, err error) {
	switch p.Type {
	case "BertProcessing":
		if len(p.CLS) != 2 || len(p.SEP) != 2 {
			return nil, nil, errors.New("post_processor: want cls and sep as [token, id]")
		}
		cls, ok1 := p.CLS[1].(float64)
		sep, ok2 := p.SEP[1].(float64)
		if !ok1 || !ok2 {
			return nil, nil, errors.New("post_processor: want cls and sep as [token, id]")
		}
		return []int64{int64(cls)}, []int64{int64(sep)}, nil
	case "TemplateProcessing":
		return p.template()
	}
	return nil, nil, fmt.Errorf("post_processor.type: %q, want TemplateProcessing or BertProcessing", p.Type)
}

func (p *postProcessor) template() (prefix, suffix []int64, err error) {
	texts := 0
	for _, part := range p.Single {
		switch {
		case part.Sequence != nil:
			if texts++; part.Sequence.TypeID != 0 {
				return nil, nil, errors.New("post_processor.single: the text's type_id is not 0")
			}
		case part.SpecialToken != nil:
			special, ok := p.SpecialTokens[part.SpecialToken.ID]
			if !ok {
				return nil, nil, fmt.Errorf("post_processor.special_tokens: no %q", part.SpecialToken.ID)
			}
			if texts == 0 {
				prefix = append(prefix, special.IDs...)
			} else {
				suffix = append(suffix, special.IDs...)
			}
		}
	}
	if texts != 1 {
		return nil, nil, fmt.Errorf("post_processor.single: the text stands there %d times, want once", texts)
	}
	return prefix, suffix, nil
}

// encode returns a text's token ids, with what stands around it, cut to the limit.
func (w *wordPiece) encode(text string) ([]int64, error) {
	room := w.max - len(w.prefix) - len(w.suffix)
	ids := slices.Clone(w.prefix)
	for text != "" && len(ids) < len(w.prefix)+room {
		at, token := w.nextVerbatim(text)
		var err error
		if ids, err = w.appendWords(ids, text[:at]); err != nil {
			return nil, err
		}
		if text = text[at:]; token != nil {
			ids, text = append(ids, token.Id), text[len(token.Content):]
		}
	}
	return append(ids[:min(len(ids), len(w.prefix)+room)], w.suffix...), nil
}

// nextVerbatim finds the first token that stands in the text as it is; the longest where two begin at the same place. The library
// looks for them too, but misses some where several follow each other.
func (w *wordPiece) nextVerbatim(text string) (at int, token *tokenizer.TokenConfig) {
	at = len(text)
	for i := range w.verbatim {
		v := &w.verbatim[i]
		if found := strings.Index(text, v.Content); found >= 0 && (found < at || found == at && token != nil && len(v.Content) > len(token.Content)) {
			at, token = found, v
		}
	}
	return at, token
}

// appendWords adds the ids of a text's words. The library panics on some input that it does not expect; that is this text's error,
// not the process's end.
func (w *wordPiece) appendWords(ids []int64, text string) (_ []int64, err error) {
	if text == "" {
		return ids, nil
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the tokenizer library panicked: %v", r)
		}
	}()
	encoding, err := w.tokenizer.EncodeSingle(text, false)
	if err != nil {
		return nil, err
	}
	for _, id := range encoding.Ids {
		ids = append(ids, int64(id))
	}
	return ids, nil
}
