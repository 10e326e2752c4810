package stream

import (
	"time"

	"freshet"
)

// Stages of a batch, as Observer.Stage names them.
const (
	StageFetch   = "fetch"
	StageDecode  = "decode"
	StageHandle  = "handle"
	StagePublish = "publish"
)

// Progress is where a partition stands.
type Progress struct {
	Applied   int64         // next offset to apply: everything below is saved and published
	Committed int64         // committed in the group; -1 = nothing yet
	End       int64         // the log's end when it was last read
	Lag       time.Duration // age of the last record applied while others wait behind it; 0 when none wait
}

// Records is how many records wait.
func (p Progress) Records() int64 { return max(0, p.End-p.Applied) }

// Observer is told what moves. Its methods are called from the partition loops and must not block.
type Observer interface {
	DeadLetter(stage, reason string)             // reason: the field that is wrong, or "handle"
	Rebalanced(partitions int)                   // a generation began with that many partitions of ours
	Moved(source freshet.Source, p Progress)     // after each batch and commit, and about twice a second when idle
	Left(source freshet.Source)                  // the partition is not ours any more
	Gap(source freshet.Source, records int64)    // records that the log deleted before they were read
	Rollback(source freshet.Source)              // the store lost data; reading again from the committed offset
	Misrouted(source freshet.Source)             // an event that murmur2 of its key would have put elsewhere
	Batch(source freshet.Source, events int)     // events handed over at once
	Stage(stage string, took time.Duration)      // StageFetch (only fetches that brought something) .. StagePublish
	Retried(source freshet.Source, stage string) // an attempt that failed for a passing reason
}

// Unobserved is an Observer that looks away.
type Unobserved struct{}

// The methods do nothing.
func (Unobserved) DeadLetter(string, string)      {}
func (Unobserved) Rebalanced(int)                 {}
func (Unobserved) Moved(freshet.Source, Progress) {}
func (Unobserved) Left(freshet.Source)            {}
func (Unobserved) Gap(freshet.Source, int64)      {}
func (Unobserved) Rollback(freshet.Source)        {}
func (Unobserved) Misrouted(freshet.Source)       {}
func (Unobserved) Batch(freshet.Source, int)      {}
func (Unobserved) Stage(string, time.Duration)    {}
func (Unobserved) Retried(freshet.Source, string) {}
