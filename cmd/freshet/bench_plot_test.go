package main

import (
	"strings"
	"testing"
)

func TestPipelineFigure(t *testing.T) {
	b := &pipelineBench{cfg: DefaultConfig(), o: pipelineOptions{users: 50_000, late: .01}, model: "bench@0123", items: 3706,
		full: benchCost{PerSecond: 13_267, Own: 86.1, Lists: .98},
		floors: map[string]benchCost{"consume": {PerSecond: 1_188_455, Own: 1.4}, "save": {PerSecond: 29_223, Own: 18.1},
			"publish": {PerSecond: 22_112, Own: 20.3}},
		rungs: []*rung{{Rate: 6633, P50: 19, P90: 60, P99: 169, P999: 180}, {Rate: 1000, P50: 2.2, P90: 5, P99: 80, P999: 85}, {Rate: 3000, P50: 3.2, P90: 9, P99: 95, P999: 140}}}
	wantInPlot(t, drawn(t, "pipeline", b.figure()), "bench pipeline: bench@0123, 3,706 items, 50,000 users, history 50", "1 % of the events late",
		"1,188,455<", "1.40 us", "+ publish", "everything", "13,267<", "86.1 us", "p99.9", "2.2<", "169<", "6,633<", "events/s<")
	b.floors, b.rungs = nil, b.rungs[:1]
	one := drawn(t, "pipeline-one", b.figure())
	wantInPlot(t, one, "everything", "6,633", "19<")
	if strings.Contains(one, "floor") {
		t.Error("a floor that was not measured")
	}
	b.rungs = nil
	wantInPlot(t, drawn(t, "pipeline-none", b.figure()), "everything")
}

func TestStepFigure(t *testing.T) {
	r := stepResult{History: 10_000, BaseHistory: 51, Cost: 60.7, BaseCost: 61.2, Ratio: .99, Interval: [2]float64{.954, 1.019}, ProfileBytes: 4726, BaseBytes: 4724,
		Step: 6.6, Reencode: 864, Window: 200, Times: 131, Late: .05, Pairs: 1000, model: "bench@0123", items: 3706}
	wantInPlot(t, drawn(t, "step", stepFigure(16, []stepResult{r})), "bench step: bench@0123, 3,706 items, 16 users, history 10,000", "1,000 pairs; 5 % late", "0.990", "4,726", "0.95<", "1.05<", "history<")
	short := r
	short.History, short.Ratio, short.Interval, short.ProfileBytes, short.Cost = 10, .771, [2]float64{.743, .833}, 2400, 47.3
	wantInPlot(t, drawn(t, "step-many", stepFigure(16, []stepResult{short, r, r, r, r})), "0.771", "0.990", "10<", "47.3 / 61.2 us", "2,400")
}

func TestIndexFigure(t *testing.T) {
	r := indexResult{Items: 200_000, PerSecond: 2129, Recall: .9946, Exact: 596, Own: 190, ExactOwn: 657, Cells: 902, Probes: 22, Build: 17, Batch: 128, model: "shop@0123",
		ByProbes: []probesResult{{1, .41}, {2, .6}, {4, .8}, {8, .93}, {16, .987}, {32, .998}, {64, 1}}}
	wantInPlot(t, drawn(t, "index", indexFigure(r)), "bench index: vectors of the width of shop@0123, 200,000 made-up items", "exact", "in cells", "2,129", "190 us", "22: 0.9946", "cells looked into, of 902")
	r.Cells, r.Probes, r.ByProbes, r.Recall = 0, 0, nil, 1
	whole := drawn(t, "index-whole", indexFigure(r))
	wantInPlot(t, whole, "as served", "the 100 best in batches of 128; so few items")
	if strings.Contains(whole, "in cells<") {
		t.Error("cells where there are none")
	}
}
