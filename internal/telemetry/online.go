package telemetry

import (
	"math"
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"freshet"
)

// onlineHalfLife is after how many judged behaviours a hit counts half.
const onlineHalfLife = 5000

var onlineCuts = [...]int{1, 5, 10, 20}

// online is how well a lane's lists foresee what users do next, as means over the latest behaviours: each counts 2^(-n/5000), n = how
// many came after it.
type online struct {
	judged prometheus.Counter
	ratio  [len(onlineCuts)]prometheus.Gauge
	ndcg   [len(onlineCuts)]prometheus.Gauge

	mu     sync.Mutex
	weight float64
	hits   [len(onlineCuts)]float64
	gains  [len(onlineCuts)]float64
}

// register makes the gauges. The contract has them named by lane for every lane, live too.
func (o *online) register(to prometheus.Registerer, lane string) {
	var labels prometheus.Labels
	if lane == "" {
		labels = prometheus.Labels{"lane": freshet.LiveLane}
	}
	ratio := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "freshet_online_hit_ratio", ConstLabels: labels,
		Help: "Share of what users did next that stood among the first k of their list, over the latest behaviours."}, []string{"k"})
	ndcg := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "freshet_online_ndcg", ConstLabels: labels,
		Help: "NDCG at k of what users did next in the list that stood, over the latest behaviours."}, []string{"k"})
	o.judged = prometheus.NewCounter(prometheus.CounterOpts{Name: "freshet_online_judged_total", ConstLabels: labels,
		Help: "Behaviours whose rank in the list that stood was looked up."})
	for i, k := range onlineCuts {
		o.ratio[i], o.ndcg[i] = ratio.WithLabelValues(strconv.Itoa(k)), ndcg.WithLabelValues(strconv.Itoa(k))
	}
	to.MustRegister(ratio, ndcg, o.judged)
}

// Judged implements the engine's Judge: rank from 1, 0 = the item was not in the list.
func (m *Metrics) Judged(_ string, rank int) {
	o := &m.online
	o.judged.Inc()
	decay := math.Exp2(-1.0 / onlineHalfLife)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.weight = o.weight*decay + 1
	for i, k := range onlineCuts {
		o.hits[i], o.gains[i] = o.hits[i]*decay, o.gains[i]*decay
		if rank > 0 && rank <= k {
			o.hits[i]++
			o.gains[i] += 1 / math.Log2(float64(rank)+1)
		}
		o.ratio[i].Set(o.hits[i] / o.weight)
		o.ndcg[i].Set(o.gains[i] / o.weight)
	}
}
