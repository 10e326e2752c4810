package models

import (
	"context"
	"fmt"
	"path/filepath"

	"freshet"
)

// Report is what Verify found.
type Report struct {
	Model       string   `json:"model"`
	Fingerprint string   `json:"fingerprint"`
	Device      string   `json:"device"`
	Batches     string   `json:"batches"`     // which the step runs in: any, or how it is padded
	Drift       float64  `json:"drift"`       // largest difference from the trainer's full pass, over parity.json
	Tolerance   float64  `json:"tolerance"`   // what the bundle allows
	Compared    []int    `json:"compared"`    // batch sizes
	Threads     []int    `json:"threads"`     // of a session
	Differences []string `json:"differences"` // one for each number of threads with which a batch changes bits; empty = none
}

// OK tells whether the folder is what was exported and results do not depend on batches or threads.
func (r *Report) OK() bool { return len(r.Differences) == 0 }

// verifyThreads are the numbers of threads that must give the same bits.
var verifyThreads = []int{1, 2}

// Verify does again what opening did, and more: every file's hash, the parity sequences, and every row's bits in batches of many
// sizes, in order and shuffled, with one thread and with two, against the same row alone on one thread. On CUDA it compares
// nothing bit for bit; the drift says how far off the device is. An error means that the bundle could not be judged or is not what
// was exported.
func (b *Bundle) Verify(ctx context.Context) (*Report, error) {
	for name := range b.manifest.Files {
		if _, err := b.file(name); err != nil {
			return nil, fmt.Errorf("verify %s: %s: %w", b.ID(), name, err)
		}
	}
	p, err := b.readParity()
	if err != nil {
		return nil, fmt.Errorf("verify %s: %s: %w", b.ID(), parityFile, err)
	}
	r := &Report{Model: b.ID(), Fingerprint: b.manifest.Fingerprint, Device: b.Device(), Batches: b.padding.String(), Tolerance: p.Tolerance}
	if r.Drift, err = b.replay(p); err != nil {
		return nil, fmt.Errorf("verify %s: %s: %w", b.ID(), parityFile, err)
	}
	if b.Device() != CPU {
		return r, nil
	}
	r.Compared, r.Threads = trialSizes, verifyThreads
	if err := b.verifyBits(ctx, r); err != nil {
		return nil, fmt.Errorf("verify %s: %w", b.ID(), err)
	}
	return r, nil
}

func (b *Bundle) verifyBits(ctx context.Context, r *Report) error {
	trial, err := b.trial()
	if err != nil {
		return err
	}
	var alone *freshet.Steps
	for i, threads := range r.Threads {
		if err := ctx.Err(); err != nil {
			return err
		}
		s, err := b.rt.openFileWith(filepath.Join(b.dir, stepFile), stepFile, b.inputs, b.outputs, threads)
		if err != nil {
			return err
		}
		if i == 0 {
			alone, err = b.runTrial(s, b.padding, trial, identity(trialRows), 1)
		}
		difference := ""
		if err == nil {
			difference, err = b.compareTrials(s, b.padding, trial, alone)
		}
		if closed := s.close(); err == nil {
			err = closed
		}
		if err != nil {
			return err
		}
		if difference != "" {
			r.Differences = append(r.Differences, fmt.Sprintf("%d threads: %s", threads, difference))
		}
	}
	return nil
}
