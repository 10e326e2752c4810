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
	switches int64           // voluntary context switches of this process
	servers  []time.Duration // user and system time of other processes, in the order of their ids
	loopback int64           // bytes that went over the machine's loopback, everybody's; 0 where the system does not say
}

func takePoint() benchPoint {
	var use syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &use) // cannot fail for oneself
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return benchPoint{at: time.Now(), own: time.Duration(use.Utime.Nano() + use.Stime.Nano()), machine: machineBusy(), mallocs: m.Mallocs, bytes: m.TotalAlloc,
		switches: use.Nvcsw, loopback: loopbackBytes()}
}

// loopbackBytes reads what the loopback device has carried. Each byte is received once.
func loopbackBytes() int64 {
	b, err := os.ReadFile("/proc/net/dev")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if name, counts, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "lo" {
			received, err := strconv.ParseInt(strings.Fields(counts)[0], 10, 64)
			if err != nil {
				return 0
			}
			return received
		}
	}
	return 0
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

// timesOf reads what processes have used, in ticks of 10 ms; 0 for one that is not there.
func timesOf(pids []int) []time.Duration {
	out := make([]time.Duration, len(pids))
	for i, pid := range pids {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil {
			continue
		}
		// The second field is the command in parentheses and may hold anything: count from its end.
		fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		for _, f := range fields[11:13] {
			ticks, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				continue
			}
			out[i] += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	return out
}

// benchCost is what one event took between two points.
type benchCost struct {
	PerSecond float64   `json:"events_per_s"`
	Own       float64   `json:"cpu_us_per_event"`         // this process
	Machine   float64   `json:"machine_cpu_us_per_event"` // this process, the servers, everybody else
	Mallocs   float64   `json:"allocs_per_event"`
	Bytes     float64   `json:"alloc_bytes_per_event"`
	Lists     float64   `json:"lists_per_event"`
	Servers   []float64 `json:"servers_cpu_us_per_event,omitempty"` // of each process that was named
	Network   float64   `json:"loopback_bytes_per_event"`           // between this process, the servers, and everybody else on the machine
}

func costBetween(a, b benchPoint) benchCost {
	n := float64(max(b.handled-a.handled, 1))
	us := func(d time.Duration) float64 { return round(float64(d.Nanoseconds())/1000/n, 2) }
	var servers []float64
	for i := range b.servers {
		servers = append(servers, us(b.servers[i]-a.servers[i]))
	}
	return benchCost{Servers: servers, PerSecond: round(n/b.at.Sub(a.at).Seconds(), 0), Own: us(b.own - a.own), Machine: us(b.machine - a.machine),
		Mallocs: round(float64(b.mallocs-a.mallocs)/n, 1), Bytes: round(float64(b.bytes-a.bytes)/n, 0), Lists: round(float64(b.lists-a.lists)/n, 3),
		Network: round(float64(b.loopback-a.loopback)/n, 0)}
}

// benchWindow measures from the event after `from` handled ones to the event that makes `to`. It is safe for concurrent use.
type benchWindow struct {
	from, to int64
	profile  string // file of the CPU profile of the window; "" = none
	servers  []int  // ids of processes whose time is taken too

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
			w.begin.servers = timesOf(w.servers)
			w.begin.handled, w.begin.lists = n, l
		})
	}
	if n >= w.to {
		w.once[1].Do(func() {
			w.end = takePoint()
			w.end.servers = timesOf(w.servers)
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
