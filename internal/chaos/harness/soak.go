package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The soak: a steady load for half an hour, a fault every 20 s, and one member that is never restarted, whose memory and goroutines
// must be at the end what they were at the beginning. What lists it leaves meanwhile is watched in probe.go.
const (
	soakEvery  = 20 * time.Second
	soakSample = 2 * time.Second
	soakWarm   = 2 * time.Minute // before the first figure counts: every user is known, every path was taken
	soakWindow = 3 * time.Minute // at both ends
	soakDrift  = 0.10
)

// soakFaults are those of the soak. None takes the store's data: that would have everything read again, which is another load.
var soakFaults = []string{"kill", "bounce", "stop", "redis-kill", "script-flush", "oom", "latency", "broker", "stop-save", "stop-publish"}

// arrangeSoak fills the time with faults.
func (p *plan) arrangeSoak(lasts time.Duration, rate int) {
	p.soak, p.counts = lasts, map[string]int{}
	p.events = int(lasts.Seconds()) * rate
	for at := soakEvery; at < lasts; at += soakEvery {
		class := soakFaults[p.rnd.IntN(len(soakFaults))]
		p.steps = append(p.steps, step{class: class, times: 1})
		p.counts[class]++
	}
}

// sample is what the member that is never restarted uses at one moment.
type sample struct {
	after      time.Duration
	heap       float64 // bytes
	goroutines float64
}

// gauge samples a member until it is told to stop.
type gauge struct {
	member *member
	start  time.Time

	mu   sync.Mutex
	list []sample
}

func (g *gauge) run(ctx context.Context) {
	for sleep(ctx, soakSample) == nil {
		s, err := g.look(ctx)
		if err != nil {
			continue // stopped, or busy: the next one
		}
		g.mu.Lock()
		g.list = append(g.list, s)
		g.mu.Unlock()
	}
}

func (g *gauge) look(ctx context.Context) (sample, error) {
	s := sample{after: time.Since(g.start)}
	now, err := g.member.scrape(ctx)
	if err != nil {
		return s, err
	}
	if s.heap, s.goroutines = now["go_memstats_heap_alloc_bytes"], now["go_goroutines"]; s.heap == 0 || s.goroutines == 0 {
		return s, fmt.Errorf("the metrics of member %d say nothing of heap and goroutines", g.member.id)
	}
	return s, nil
}

// scrape reads the member's metrics: name and labels -> value.
func (m *member) scrape(ctx context.Context) (map[string]float64, error) {
	url, err := m.metrics()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, soakSample)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	out := map[string]float64{}
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		if name, value, ok := strings.Cut(lines.Text(), " "); ok && name != "#" {
			if v, err := strconv.ParseFloat(value, 64); err == nil {
				out[name] = v
			}
		}
	}
	return out, lines.Err()
}

// metrics finds the member's listener in its log.
func (m *member) metrics() (string, error) {
	raw, err := os.ReadFile(m.log)
	if err != nil {
		return "", err
	}
	url := ""
	for _, line := range bytes.Split(raw, []byte("\n")) {
		var said struct{ Msg, URL string }
		if json.Unmarshal(line, &said) == nil && said.Msg == "metrics and health" {
			url = said.URL
		}
	}
	if url == "" {
		return "", fmt.Errorf("member %d has no listener yet", m.id)
	}
	return url, nil
}

// verdict compares both ends. A heap is measured at its lowest within a window: right after a collection.
func (g *gauge) verdict() (text string, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.list) == 0 {
		return "no sample of memory was had", false
	}
	end := g.list[len(g.list)-1].after
	first, last := g.between(soakWarm, soakWarm+soakWindow), g.between(end-soakWindow, end)
	if len(first) == 0 || end < soakWarm+2*soakWindow {
		return fmt.Sprintf("too short for a figure: %v", end), false
	}
	lowest := func(list []sample) float64 {
		return slices.MinFunc(list, func(a, b sample) int { return int(a.heap - b.heap) }).heap
	}
	typical := func(list []sample) float64 {
		sorted := slices.SortedFunc(slices.Values(list), func(a, b sample) int { return int(a.goroutines - b.goroutines) })
		return sorted[len(sorted)/2].goroutines
	}
	h1, h2, g1, g2 := lowest(first), lowest(last), typical(first), typical(last)
	ok = h2 <= h1*(1+soakDrift) && g2 <= g1*(1+soakDrift)
	return fmt.Sprintf("heap %.1f MB at first, %.1f MB at last (%+.1f %%); goroutines %.0f and %.0f; %d samples over %v of a member that was never restarted",
		h1/1e6, h2/1e6, 100*(h2/h1-1), g1, g2, len(g.list), end.Round(time.Second)), ok
}

func (g *gauge) between(from, to time.Duration) []sample {
	var list []sample
	for _, s := range g.list {
		if s.after >= from && s.after <= to {
			list = append(list, s)
		}
	}
	return list
}
