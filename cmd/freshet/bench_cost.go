package main

import (
	"bufio"
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// benchPoint is what the process, and the machine, have used up to a moment.
type benchPoint struct {
	at       time.Time
	own      time.Duration // user and system time of this process
	machine  time.Duration // busy time of all cores, everybody's; 0 where the system does not say
	mallocs  uint64
	bytes    uint64
	handled  int64
	lists    int64
	switches int64 // voluntary context switches of this process
}

func takePoint() benchPoint {
	var use syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &use) // cannot fail for oneself
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return benchPoint{at: time.Now(), own: time.Duration(use.Utime.Nano() + use.Stime.Nano()), machine: machineBusy(), mallocs: m.Mallocs, bytes: m.TotalAlloc,
		switches: use.Nvcsw}
}

// machineBusy reads /proc/stat: all ticks of 10 ms that were neither idle nor waiting.
func machineBusy() time.Duration {
	f, err := os.Open("/proc/stat")
	if err != nil {
		return 0
	}
	defer f.Close()
	line, _ := bufio.NewReader(f).ReadString('\n')
	var busy int64
	for i, field := range strings.Fields(line) {
		if v, err := strconv.ParseInt(field, 10, 64); err == nil && i >= 1 && i <= 8 && i != 4 && i != 5 {
			busy += v
		}
	}
	return time.Duration(busy) * 10 * time.Millisecond
}

// benchCost is what one event took between two points.
type benchCost struct {
	PerSecond float64 `json:"events_per_s"`
	Own       float64 `json:"cpu_us_per_event"`         // this process
	Machine   float64 `json:"machine_cpu_us_per_event"` // this process, the servers, everybody else
	Mallocs   float64 `json:"allocs_per_event"`
	Bytes     float64 `json:"alloc_bytes_per_event"`
	Lists     float64 `json:"lists_per_event"`
}

func costBetween(a, b benchPoint) benchCost {
	n := float64(max(b.handled-a.handled, 1))
	us := func(d time.Duration) float64 { return round(float64(d.Nanoseconds())/1000/n, 2) }
	return benchCost{PerSecond: round(n/b.at.Sub(a.at).Seconds(), 0), Own: us(b.own - a.own), Machine: us(b.machine - a.machine),
		Mallocs: round(float64(b.mallocs-a.mallocs)/n, 1), Bytes: round(float64(b.bytes-a.bytes)/n, 0), Lists: round(float64(b.lists-a.lists)/n, 3)}
}

// benchWindow measures from the event after `from` handled ones to the event that makes `to`. It is safe for concurrent use.
type benchWindow struct {
	from, to int64
	profile  string // file of the CPU profile of the window; "" = none

	handled, lists atomic.Int64
	once           [2]sync.Once
	begin, end     benchPoint
	err            error
	done           chan struct{}
}

func newBenchWindow(from, to int64, profile string) *benchWindow {
	return &benchWindow{from: from, to: to, profile: profile, done: make(chan struct{})}
}

// passed takes in that a batch is through.
func (w *benchWindow) passed(events, lists int) {
	l := w.lists.Add(int64(lists))
	n := w.handled.Add(int64(events))
	if n >= w.from {
		w.once[0].Do(func() {
			w.err = w.startProfile()
			w.begin = takePoint()
			w.begin.handled, w.begin.lists = n, l
		})
	}
	if n >= w.to {
		w.once[1].Do(func() {
			w.end = takePoint()
			w.end.handled, w.end.lists = n, l
			if w.profile != "" {
				pprof.StopCPUProfile()
			}
			close(w.done)
		})
	}
}

func (w *benchWindow) startProfile() error { return startProfile(w.profile) }

// startProfile writes a CPU profile to a file; "" = none.
func startProfile(path string) error {
	if path == "" {
		return nil
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return pprof.StartCPUProfile(f) // the file is closed by the end of the program
}

func (w *benchWindow) cost() benchCost { return costBetween(w.begin, w.end) }

// round keeps a figure to some decimals: more would claim a precision that no measurement here has.
func round(v float64, decimals int) float64 {
	f, err := strconv.ParseFloat(strconv.FormatFloat(v, 'f', decimals, 64), 64)
	if err != nil {
		return v
	}
	return f
}
