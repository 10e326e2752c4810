package telemetry

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"

	"freshet"
)

// Metrics implements what the engine and the stream of one lane report to. The names are a contract (docs/contracts.md). The lane
// that every deployment has, live, reports without a label; every other one says `lane`.
type Metrics struct {
	Registry *prometheus.Registry // of this lane

	*process
	eventToRecs prometheus.Histogram
	events      *prometheus.CounterVec
	tooLate     prometheus.Counter
	stages      *prometheus.HistogramVec
	batch       prometheus.Histogram
	refolds     *prometheus.CounterVec
	fenced      *prometheus.CounterVec
	shares      *prometheus.SummaryVec
	weights     *prometheus.GaugeVec
	lag         *prometheus.GaugeVec
	lagSeconds  *prometheus.GaugeVec
	committed   *prometheus.GaugeVec
	applied     *prometheus.GaugeVec
	rebalances  prometheus.Counter
	gaps        prometheus.Counter
	rollbacks   prometheus.Counter
	misrouted   prometheus.Counter
	letters     *prometheus.CounterVec
	retries     *prometheus.CounterVec
	online      online

	// Applied, when set, hears of every event that changed a profile.
	Applied func()
}

// process is what a process reports once.
type process struct {
	device    *prometheus.GaugeVec
	catalogue prometheus.Gauge
	shown     *prometheus.CounterVec
	clicked   *prometheus.CounterVec
	examples  prometheus.Counter
	arms      *prometheus.GaugeVec
	joinLag   *prometheus.GaugeVec

	mu    sync.Mutex
	lanes map[string]*Metrics
}

var byPartition = []string{"topic", "partition"}

// NewMetrics makes the metrics of a process and of the lane live.
func NewMetrics() *Metrics {
	m := newLane("")
	m.process = &process{lanes: map[string]*Metrics{freshet.LiveLane: m}}
	m.device = gauges("freshet_device", "1 for the execution provider that runs the model.", "provider")
	m.catalogue = prometheus.NewGauge(prometheus.GaugeOpts{Name: "freshet_catalogue_items", Help: "Items that can be recommended."})
	m.shown = counters("freshet_shown_total", "Items that users were shown, by what proposed them; unknown = the list had been replaced.", "lane", "surface", "source")
	m.clicked = counters("freshet_clicked_total", "Shown items that the user then did something with.", "lane", "surface", "source")
	m.examples = counter("freshet_training_examples_total", "Lists joined with what the user did next.")
	m.joinLag = gauges("freshet_feedback_lag_records", "Records that wait to be joined.", byPartition...)
	m.arms = gauges("freshet_arm_ratio", "How well the lists of a lane's users did since users last changed lanes, all workers together, with 95 % confidence bounds.",
		"lane", "measure", "bound")
	m.Registry.MustRegister(m.arms, m.shown, m.clicked, m.examples, m.joinLag)
	m.Registry.MustRegister(m.device, m.catalogue, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Lane gives the metrics of a lane. They are reported until Drop.
func (m *Metrics) Lane(name string) *Metrics {
	p := m.process
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.lanes[name]
	if l == nil {
		l = newLane(name)
		l.process = p
		p.lanes[name] = l
	}
	return l
}

// Drop ends the reports of a lane that does not run here any more.
func (m *Metrics) Drop(name string) {
	m.process.mu.Lock()
	defer m.process.mu.Unlock()
	if name != freshet.LiveLane {
		delete(m.process.lanes, name)
	}
}

// Gather implements prometheus.Gatherer for all lanes of the process.
func (m *Metrics) Gather() ([]*dto.MetricFamily, error) {
	m.process.mu.Lock()
	all := make(prometheus.Gatherers, 0, len(m.process.lanes))
	for _, name := range slices.Sorted(maps.Keys(m.process.lanes)) {
		all = append(all, m.process.lanes[name].Registry)
	}
	m.process.mu.Unlock()
	return all.Gather()
}

// newLane registers what a lane reports on a registry of its own, under its name if it has one.
func newLane(name string) *Metrics {
	m := &Metrics{Registry: prometheus.NewRegistry()}
	fine := []float64{.0005, .001, .002, .003, .005, .0075, .01, .015, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
	m.eventToRecs = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "freshet_event_to_recs_seconds",
		Help: "From an event's record timestamp until its user's new list is in the store.", Buckets: fine})
	m.events = counters("freshet_events_total", "Events by type and what became of them.", "type", "outcome")
	m.tooLate = counter("freshet_too_late_total", "Events older than a full window's first entry.")
	m.stages = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "freshet_stage_seconds",
		Help: "Time of each stage of a batch.", Buckets: prometheus.ExponentialBuckets(.00005, 2, 18)}, []string{"stage"})
	m.batch = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "freshet_batch_size",
		Help: "Events handled as one batch.", Buckets: prometheus.ExponentialBuckets(1, 2, 13)})
	m.refolds = counters("freshet_state_refolds_total", "States folded anew from their checkpoint.", "reason")
	m.fenced = counters("freshet_fence_rejected_total", "Saves that the store refused.", "reason")
	m.shares = prometheus.NewSummaryVec(prometheus.SummaryOpts{Name: "freshet_source_share",
		Help: "Share of a list's score that came from a source."}, []string{"source"})
	m.weights = gauges("freshet_source_weight", "Weight of a source in a surface whose weights follow users, as lists are made now.", "surface", "source")
	m.lag = gauges("freshet_consumer_lag_records", "Records that wait to be applied.", byPartition...)
	m.lagSeconds = gauges("freshet_consumer_lag_seconds", "Age of the last record applied while others wait behind it.", byPartition...)
	m.committed = gauges("freshet_committed_offset", "Offset committed in the consumer group.", byPartition...)
	m.applied = gauges("freshet_applied_offset", "Next offset to apply.", byPartition...)
	m.rebalances = counter("freshet_rebalances_total", "Generations of the consumer group that this worker joined.")
	m.gaps = counter("freshet_offset_gap_records_total", "Records that the log deleted before they were read.")
	m.rollbacks = counter("freshet_state_rollback_total", "Times the store turned out to hold less than was saved to it.")
	m.misrouted = counter("freshet_misrouted_total", "Events in another partition than murmur2 of their key.")
	m.letters = counters("freshet_dlq_total", "Records sent to the dead letters, by what is wrong with them.", "reason")
	m.retries = counters("freshet_retries_total", "Attempts that failed for a passing reason and were made again.", "stage")
	var to prometheus.Registerer = m.Registry
	if name != "" {
		to = prometheus.WrapRegistererWith(prometheus.Labels{"lane": name}, to)
	}
	m.online.register(to, name)
	to.MustRegister(m.eventToRecs, m.events, m.tooLate, m.stages, m.batch, m.refolds, m.fenced, m.shares, m.weights, m.lag, m.lagSeconds,
		m.committed, m.applied, m.rebalances, m.gaps, m.rollbacks, m.misrouted, m.letters, m.retries)
	return m
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
}

// Device names the execution provider that runs the model.
func (m *Metrics) Device(provider string) {
	m.device.Reset()
	m.device.WithLabelValues(provider).Set(1)
}

// Catalogue reports how many items can be recommended.
func (m *Metrics) Catalogue(items int) { m.catalogue.Set(float64(items)) }

// Event implements the engine's Observer.
func (m *Metrics) Event(eventType string, o freshet.Outcome) {
	m.events.WithLabelValues(eventType, o.String()).Inc()
	if o == freshet.TooLate {
		m.tooLate.Inc()
	}
	if o == freshet.Applied && m.Applied != nil {
		m.Applied()
	}
}

// Refold implements the engine's Observer.
func (m *Metrics) Refold(reason string) { m.refolds.WithLabelValues(reason).Inc() }

// Fenced implements the engine's Observer.
func (m *Metrics) Fenced(reason string) { m.fenced.WithLabelValues(reason).Inc() }

// Visible implements the engine's Observer.
func (m *Metrics) Visible(since time.Time) {
	m.eventToRecs.Observe(time.Since(since).Seconds())
}

// Shares implements the engine's Observer.
func (m *Metrics) Shares(source string, share float64) {
	m.shares.WithLabelValues(source).Observe(share)
}

// Weight reports the weight that a source has in a surface now.
func (m *Metrics) Weight(surface, source string, weight float64) {
	m.weights.WithLabelValues(surface, source).Set(weight)
}

// Stage implements both Observers.
func (m *Metrics) Stage(stage string, took time.Duration) {
	m.stages.WithLabelValues(stage).Observe(took.Seconds())
}

// StageSeconds gives the time that each stage took so far, all batches together.
func (m *Metrics) StageSeconds() map[string]float64 {
	collected := make(chan prometheus.Metric, 64)
	go func() { m.stages.Collect(collected); close(collected) }()
	out := map[string]float64{}
	for c := range collected {
		var d dto.Metric
		if c.Write(&d) != nil {
			continue
		}
		for _, l := range d.Label {
			if l.GetName() == "stage" {
				out[l.GetValue()] += d.Histogram.GetSampleSum()
			}
		}
	}
	return out
}

// index is the number in items[3].item_id, which would make a label per place.
var index = regexp.MustCompile(`\[\d+\]`)

// DeadLetter implements the stream's Observer.
func (m *Metrics) DeadLetter(_, reason string) {
	m.letters.WithLabelValues(index.ReplaceAllString(reason, "[]")).Inc()
}

// Rebalanced implements the stream's Observer.
func (m *Metrics) Rebalanced(int) { m.rebalances.Inc() }

// Gap implements the stream's Observer.
func (m *Metrics) Gap(_ freshet.Source, records int64) { m.gaps.Add(float64(records)) }

// Rollback implements the stream's Observer.
func (m *Metrics) Rollback(freshet.Source) { m.rollbacks.Inc() }

// Misrouted implements the stream's Observer.
func (m *Metrics) Misrouted(freshet.Source) { m.misrouted.Inc() }

// Batch implements the stream's Observer.
func (m *Metrics) Batch(_ freshet.Source, events int) { m.batch.Observe(float64(events)) }

// Retried implements the stream's Observer.
func (m *Metrics) Retried(_ freshet.Source, stage string) { m.retries.WithLabelValues(stage).Inc() }

// Moved tells where a partition stands.
func (m *Metrics) Moved(s freshet.Source, applied, committed, waiting int64, lag time.Duration) {
	p := strconv.Itoa(int(s.Partition))
	m.applied.WithLabelValues(s.Topic, p).Set(float64(applied))
	m.committed.WithLabelValues(s.Topic, p).Set(float64(committed))
	m.lag.WithLabelValues(s.Topic, p).Set(float64(waiting))
	m.lagSeconds.WithLabelValues(s.Topic, p).Set(lag.Seconds())
}

// Left implements the stream's Observer: the partition's gauges are somebody else's now.
func (m *Metrics) Left(s freshet.Source) {
	p := strconv.Itoa(int(s.Partition))
	for _, g := range []*prometheus.GaugeVec{m.applied, m.committed, m.lag, m.lagSeconds} {
		g.DeleteLabelValues(s.Topic, p)
	}
}

// Shown implements the join's Observer.
func (m *Metrics) Shown(lane, surface, source string) {
	m.shown.WithLabelValues(lane, surface, source).Inc()
}

// Clicked implements the join's Observer.
func (m *Metrics) Clicked(lane, surface, source string) {
	m.clicked.WithLabelValues(lane, surface, source).Inc()
}

// Arm reports how well a lane's users were served: hit_ratio_10, ndcg_10 or click_through, with its confidence bounds.
func (m *Metrics) Arm(lane, measure string, value, low, high float64) {
	for bound, v := range map[string]float64{"value": value, "low": low, "high": high} {
		m.arms.WithLabelValues(lane, measure, bound).Set(v)
	}
}

// ArmGone ends the reports of Arm on a lane of which nothing is known in the present period.
func (m *Metrics) ArmGone(lane, measure string) {
	m.arms.DeletePartialMatch(prometheus.Labels{"lane": lane, "measure": measure})
}

// Examples implements the join's Observer.
func (m *Metrics) Examples(n int) { m.examples.Add(float64(n)) }

// FeedbackLag tells how many records of a partition wait to be joined.
func (m *Metrics) FeedbackLag(s freshet.Source, waiting int64) {
	m.joinLag.WithLabelValues(s.Topic, strconv.Itoa(int(s.Partition))).Set(float64(waiting))
}

// FeedbackLeft drops the gauge of a partition that somebody else joins now.
func (m *Metrics) FeedbackLeft(s freshet.Source) {
	m.joinLag.DeleteLabelValues(s.Topic, strconv.Itoa(int(s.Partition)))
}
