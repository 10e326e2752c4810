package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"freshet"
	"freshet/featurestore"
	"freshet/internal/telemetry"
)

// A start waits for a server that is away, tells health why, and gives up at once on what waiting does not mend.
func TestAStartWaitsForServersThatAreAway(t *testing.T) {
	s := &start{}
	w := newWorker(DefaultConfig(), telemetry.NewMetrics(), zap.NewNop())
	w.held = s.held
	away := fmt.Errorf("open 127.0.0.1:1: %w: connection refused", freshet.ErrUnavailable)
	tries := 0
	err := w.patiently(t.Context(), func(context.Context) error {
		if tries++; tries < 3 {
			return away
		}
		if got := s.checks()[0]; got.Liveness || got.Probe(t.Context()) == nil || !strings.Contains(got.Probe(t.Context()).Error(), "connection refused") {
			t.Errorf("health while it waits: %v", got.Probe(t.Context()))
		}
		return nil
	})
	if err != nil || tries != 3 {
		t.Errorf("after %d tries: %v, want 3 and nil", tries, err)
	}
	missing := errors.New("model.bundle: no such folder")
	tries = 0
	if err := w.patiently(t.Context(), func(context.Context) error { tries++; return missing }); !errors.Is(err, missing) || tries != 1 {
		t.Errorf("what waiting does not mend: %v after %d tries", err, tries)
	}
	w.held = nil // every verb but serve
	if err := w.patiently(t.Context(), func(context.Context) error { return away }); !errors.Is(err, away) {
		t.Errorf("without patience: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	w.held = s.held
	if err := w.patiently(ctx, func(context.Context) error { return away }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("told to stop: %v", err)
	}
}

// What a server answers decides whether a start waits for it.
func TestWhatAServerAnswersTellsWhetherWaitingMendsIt(t *testing.T) {
	for answer, passing := range map[string]bool{
		"LOADING Redis is loading the dataset in memory":           true,
		"CLUSTERDOWN The cluster is down":                          true,
		"WRONGPASS invalid username-password pair":                 false,
		"NOPERM User frontend has no permissions":                  false,
		"NOAUTH Authentication required.":                          false,
		"MASTERDOWN Link with MASTER is down and replica-serve-..": true,
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					for in := bufio.NewReader(c); ; {
						line, err := in.ReadString('\n')
						if err != nil {
							return
						}
						if strings.HasPrefix(line, "*") { // one answer to each command
							fmt.Fprintf(c, "-%s\r\n", answer)
						}
					}
				}()
			}
		}()
		_, err = featurestore.Open(t.Context(), featurestore.Config{Addrs: []string{l.Addr().String()}}, zap.NewNop())
		if got := featurestore.Passing(err); err == nil || got != passing {
			t.Errorf("%s: passing %v, want %v (%v)", answer, got, passing, err)
		}
		l.Close()
	}
	_, err := featurestore.Open(t.Context(), featurestore.Config{Addrs: []string{"127.0.0.1:1"}}, zap.NewNop())
	if !featurestore.Passing(err) {
		t.Errorf("nobody listens: %v, which passes", err)
	}
}
