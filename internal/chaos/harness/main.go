// Command harness is the chaos suite: it starts a real Kafka, a real Redis and several `freshet serve` processes, sends a stream
// with everything in it that goes wrong in production, breaks the processes and the servers meanwhile, and then compares every
// byte that must be exact with what the oracle, a program of its own, made of the same log.
//
// deployments/chaos/run builds what it needs and starts it; `make chaos-short` and `make chaos` are the two forms.
//
//	main.go      the story of one run
//	plan.go      how many events and which faults, from the seed
//	stream.go    the stream: duplicates, late events, poison, erasures
//	send.go      sends it, at a pace that lasts as long as the faults
//	servers.go   Kafka, Redis and the proxies in front of them
//	members.go   the worker processes
//	faults.go    one function a fault
//	soak.go      memory and goroutines over half an hour
//	probe.go     and lists that are looked at meanwhile
//	verdict.go   what is stored and published against what the oracle expects
//	report.go    the table and the last line
//
// The stream and the order of the faults follow from the seed. When exactly a fault meets which event does not: that is the
// machine's, and it is the same for no two runs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// options are the command line.
type options struct {
	root     string // of the project
	work     string // folder of this run: logs, configurations, snapshots
	freshet  string // the binary under test
	oracle   string // the oracle's binary
	bundle   string
	name     string // of the pair of local servers
	form     string // short or long
	faults   string // CLASS=N,... in place of the form's
	events   int
	users    int
	members  int
	seed     uint64
	soak     time.Duration // 0 = none
	rate     int           // records a second of a soak
	unfenced bool
	keep     bool
}

func main() {
	var o options
	flag.StringVar(&o.root, "root", ".", "folder of the project")
	flag.StringVar(&o.work, "work", "", "folder for logs and snapshots of this run")
	flag.StringVar(&o.freshet, "freshet", "bin/freshet", "the binary under test")
	flag.StringVar(&o.oracle, "oracle", "", "the oracle's binary")
	flag.StringVar(&o.bundle, "bundle", "internal/chaos/testdata/chain", "folder of the model bundle")
	flag.StringVar(&o.name, "name", "chaos", "name of the pair of local servers (FRESHET_LOCAL_NAME)")
	flag.StringVar(&o.form, "form", "short", "short or long")
	flag.StringVar(&o.faults, "faults", "", "faults in place of the form's, as CLASS=N,...: "+strings.Join(classNames(), ", "))
	flag.IntVar(&o.events, "events", 0, "records to send (default: the form's)")
	flag.IntVar(&o.users, "users", 0, "users (default: the form's)")
	flag.IntVar(&o.members, "members", 3, "worker processes")
	flag.Uint64Var(&o.seed, "seed", 1, "of the stream and the faults")
	flag.DurationVar(&o.soak, "soak", 0, "a steady load for so long, with a fault every 20 s, and figures of memory")
	flag.IntVar(&o.rate, "rate", 400, "records a second of a soak: half of what the workers can take")
	flag.BoolVar(&o.unfenced, "unfenced", false, "the binary was built without the fence: wrong users are what is asked for")
	flag.BoolVar(&o.keep, "keep", false, "leave the servers up and the folder there")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ok, err := run(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
	}
	if err != nil || !ok {
		stop()
		os.Exit(1)
	}
}

// catchUp bounds how long the workers may take for what is left when the last fault is over.
const catchUp = 3 * time.Minute

// run is one run from the first server to the verdict.
func run(ctx context.Context, o options) (ok bool, err error) {
	plan, err := newPlan(o)
	if err != nil {
		return false, err
	}
	for _, path := range []*string{&o.root, &o.work, &o.freshet, &o.oracle, &o.bundle} {
		if *path, err = filepath.Abs(*path); err != nil {
			return false, err
		}
	}
	fmt.Printf("chaos: seed %d, %d records, %d users, %d members, %d partitions, %s\n", plan.seed, plan.events, plan.users, o.members, partitions, plan)
	servers, err := startServers(ctx, o)
	if err != nil {
		return false, err
	}
	defer servers.stop(o.keep)
	team, err := startMembers(ctx, o, servers)
	if err != nil {
		return false, err
	}
	defer team.stop()
	r := newReport(plan)
	c := &chaos{o: o, plan: plan, servers: servers, team: team, report: r}
	if c.sender, err = newSender(ctx, plan, servers); err != nil {
		return false, err
	}
	defer c.sender.close()
	if o.soak > 0 {
		r.gauge = &gauge{member: team.members[0], start: time.Now()}
		r.probes = newProbes(c.sender, team, servers.redis)
	}
	settled := r.observe(ctx)
	defer settled()
	if err := c.play(ctx); err != nil {
		return false, err
	}
	settled()
	start := time.Now()
	if err := servers.caughtUp(ctx, catchUp); err != nil {
		return false, errors.Join(err, team.tail())
	}
	fmt.Printf("chaos: lag 0 after %.1f s more; asking the oracle\n", time.Since(start).Seconds())
	team.stop()
	if err := judge(ctx, o, servers, c.sender, r); err != nil {
		return false, err
	}
	r.crashes = team.crashes()
	return r.print(o), nil
}
