package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"freshet/models"
)

type textOptions struct {
	tokens, batches []int
	each            time.Duration
	seed            uint64
}

func newBenchTextCommand(g *globals, asJSON *bool) *cobra.Command {
	o := textOptions{tokens: []int{8, 32, 128, 256}, batches: []int{1, 8, 32}, each: 3 * time.Second, seed: 1}
	cmd := &cobra.Command{Use: "text", Short: "Measure the text encoder: texts per second by length and by texts in a run",
		Long: "Encodes made-up texts of so many tokens, that many in a run of the network; a worker does one a run on a CPU, where more bring little and\n" +
			"a text's bits would depend on its neighbours. As many runs at a time as there are cores on a CPU, one on CUDA. No server is needed.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := g.load()
			if err != nil {
				return err
			}
			for _, n := range o.tokens {
				if n < 3 {
					return errors.New("--tokens: at least 3, of which two stand around every text")
				}
			}
			for _, n := range o.batches {
				if n < 1 {
					return errors.New("--batches: at least 1")
				}
			}
			out, err := benchText(cmd.Context(), cfg, o, log)
			if err != nil {
				return err
			}
			return printText(cmd.OutOrStdout(), out, *asJSON)
		}}
	f := cmd.Flags()
	f.IntSliceVar(&o.tokens, "tokens", o.tokens, "lengths of texts, in tokens")
	f.IntSliceVar(&o.batches, "batches", o.batches, "texts in a run")
	f.DurationVar(&o.each, "for", o.each, "how long each of them is measured")
	f.Uint64Var(&o.seed, "seed", o.seed, "seed of the texts")
	return cmd
}

// textResult is what scripts read.
type textResult struct {
	Device string    `json:"device"`
	Dim    int       `json:"dim"`
	Rows   []textRow `json:"rows"`
}

type textRow struct {
	Tokens    int     `json:"tokens"`
	Batch     int     `json:"batch"`
	PerSecond float64 `json:"texts_per_s"`
	Own       float64 `json:"cpu_ms_per_text"`
	Flops     float64 `json:"gflop_per_s"` // of the matrix products alone
}

func benchText(ctx context.Context, cfg Config, o textOptions, log *zap.Logger) (out textResult, err error) {
	if cfg.Model.Encoder == "" {
		return out, errors.New("model.encoder: no text encoder was found: run `make setup`, or name its folder in FRESHET_ENCODER")
	}
	rt, err := models.NewRuntime(models.Config{Library: cfg.Model.Library, Device: cfg.Model.Device, Threads: cfg.Model.Threads, FallBack: cfg.Model.FallBack}, log)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, rt.Close()) }()
	out.Device = rt.Device()
	for _, tokens := range o.tokens {
		for _, batch := range o.batches {
			row, dim, err := benchTexts(ctx, rt, cfg.Model.Encoder, tokens, batch, o)
			if err != nil {
				return out, err
			}
			out.Dim, out.Rows = dim, append(out.Rows, row)
		}
	}
	return out, nil
}

// benchTexts measures one length and one size of runs.
func benchTexts(ctx context.Context, rt *models.Runtime, dir string, tokens, batch int, o textOptions) (row textRow, dim int, err error) {
	e, err := models.OpenTextEncoder(rt, models.TextConfig{Dir: dir, BatchTokens: tokens * batch})
	if err != nil {
		return row, 0, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	const runs = 4 // texts of so many runs at a time, which the encoder's workers share
	texts := benchSentences(tokens, runs*batch, o.seed)
	if _, err := e.Encode(ctx, texts); err != nil { // warms up
		return row, 0, err
	}
	n, before := 0, takePoint()
	for n == 0 || time.Since(before.at) < o.each {
		if _, err := e.Encode(ctx, texts); err != nil {
			return row, 0, err
		}
		n += len(texts)
	}
	after := takePoint()
	took := after.at.Sub(before.at).Seconds()
	row = textRow{Tokens: tokens, Batch: batch, PerSecond: round(float64(n)/took, 1), Own: round(float64((after.own-before.own).Microseconds())/1000/float64(n), 3)}
	row.Flops = round(miniLMFlops(tokens, e.Dim())*float64(n)/took/1e9, 2)
	return row, e.Dim(), nil
}

// miniLMFlops is what the matrix products of one text take in a BERT of 6 layers whose inner width is four times its width, as
// all-MiniLM-L6-v2 is: 24 width^2 a token for the projections, 4 width tokens for attention, in each layer.
func miniLMFlops(tokens, width int) float64 {
	t, w := float64(tokens), float64(width)
	return 6 * (24*w*w*t + 4*w*t*t)
}

// commonWords are one token each in any English vocabulary.
var commonWords = strings.Fields("red blue light dark small large water stone wood house garden kitchen table chair boot tent lamp book music paper winter summer city road")

// benchSentences makes texts of so many tokens, two of which the encoder puts around each.
func benchSentences(tokens, n int, seed uint64) []string {
	r := rand.New(rand.NewPCG(seed, 0x7e47))
	out := make([]string, n)
	for i := range out {
		words := make([]string, tokens-2)
		for j := range words {
			words[j] = commonWords[r.IntN(len(commonWords))]
		}
		out[i] = strings.Join(words, " ")
	}
	return out
}

func printText(w io.Writer, r textResult, asJSON bool) error {
	if asJSON {
		return printJSON(w, r)
	}
	fmt.Fprintf(w, "on %s, vectors of %d\n%8s %8s %12s %14s %10s\n", r.Device, r.Dim, "tokens", "a run", "texts/s", "CPU ms a text", "GFLOP/s")
	for _, row := range r.Rows {
		fmt.Fprintf(w, "%8d %8d %12.1f %14.3f %10.2f\n", row.Tokens, row.Batch, row.PerSecond, row.Own, row.Flops)
	}
	return nil
}
