// Command oracle reads an events topic from its beginning, one event after the other, and writes what freshet must hold: every
// user's profile and lists, and the records that must lie among the dead letters. It is a program of its own and shares no code
// with freshet's fold; package expect holds the rules.
//
//	go run ./internal/chaos/oracle --brokers 127.0.0.1:9092 --bundle internal/chaos/testdata/chain --surface home=20 > expected.json
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"

	"freshet/internal/chaos/expect"
	"freshet/internal/chaos/topic"
)

func main() {
	brokers := flag.String("brokers", "127.0.0.1:9092", "host:port of some brokers, comma-separated")
	events := flag.String("topic", "events", "the events topic")
	bundle := flag.String("bundle", "", "folder of the model bundle; a chain-hash is computed here, any other is run step by step")
	var surfaces surfaceFlags
	flag.Var(&surfaces, "surface", "NAME=K of a list to expect; repeatable")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, strings.Split(*brokers, ","), *events, *bundle, surfaces); err != nil {
		fmt.Fprintln(os.Stderr, "oracle:", err)
		os.Exit(1)
	}
}

// surfaceFlags reads NAME=K.
type surfaceFlags []expect.Surface

func (s *surfaceFlags) String() string { return fmt.Sprint(*s) }

func (s *surfaceFlags) Set(text string) error {
	name, number, _ := strings.Cut(text, "=")
	k, err := strconv.Atoi(number)
	if err != nil || name == "" || k < 1 {
		return fmt.Errorf("%q is not NAME=K", text)
	}
	*s = append(*s, expect.Surface{Name: name, K: k})
	return nil
}

func run(ctx context.Context, brokers []string, events, bundle string, surfaces []expect.Surface) error {
	model, done, err := open(bundle)
	if err != nil {
		return err
	}
	defer done()
	found, err := topic.Read(ctx, brokers, events)
	if err != nil {
		return err
	}
	records := make([]expect.Record, len(found))
	for i, r := range found {
		records[i] = expect.Record{Partition: r.Partition, Offset: r.Offset, Time: r.Timestamp.UnixMilli(), Key: r.Key, Value: r.Value}
	}
	expect.Sort(records)
	log := expect.NewLog(model)
	for i := range records {
		log.Take(&records[i])
	}
	x, err := log.Finish(surfaces)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(x)
}

// open takes the arithmetic of package expect for a chain-hash, and the bundle's own graph for any other architecture.
func open(dir string) (expect.Model, func(), error) {
	chain, err := expect.OpenChain(dir)
	if err == nil {
		return chain, func() {}, nil
	}
	b, bundleErr := openBundle(dir)
	if bundleErr != nil {
		return nil, nil, fmt.Errorf("%w; %w", err, bundleErr)
	}
	return b, b.close, nil
}
