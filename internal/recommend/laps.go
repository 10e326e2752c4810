package recommend

import "time"

// laps adds up what each part of ranking takes over a batch, to be reported once: a clock read costs less than what it measures, a metric
// would not.
type laps struct {
	last time.Time
	took [lapParts]time.Duration
}

// The parts of ranking, in their order.
const (
	lapSearch  = iota // the model's sources propose: its search
	lapVote           // all others propose
	lapScore          // every source scores what others proposed
	lapFuse           // scores become one
	lapChoose         // rules, caps, diversity, exploration
	lapExplain        // shares, and the items behind them
	lapEncode         // the records
	lapParts
)

var lapNames = [lapParts]string{"search", "vote", "score", "fuse", "choose", "explain", "encode"}

func (l *laps) begin() { l.last = time.Now() }

func (l *laps) end(part int) {
	now := time.Now()
	l.took[part] += now.Sub(l.last)
	l.last = now
}

func (l *laps) report(obs Observer) {
	for part, name := range lapNames {
		obs.Stage(name, l.took[part])
	}
}
