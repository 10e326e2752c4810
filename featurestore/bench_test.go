package featurestore_test

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"freshet"
	"freshet/featurestore"
	"freshet/featurestore/storetest"
)

// Axes: users of one call, and how a batch is written. Profiles of 5 KB, records of 2 KB, one list each, a server with the append-only
// file as in production. One operation is one user.

var batches = []int{1, 32, 128}

const (
	benchUsers   = 4096
	profileBytes = 5 << 10
	recordBytes  = 2 << 10
)

func benchUpdates() []freshet.Update {
	list := make([]freshet.Update, benchUsers)
	for i := range list {
		list[i] = freshet.Update{UserID: fmt.Sprintf("user-%07d", i), Profile: benchProfile(1), Records: []freshet.Record{
			{Surface: freshet.HomeSurface, Value: benchRecord(1)}}}
	}
	return list
}

func benchProfile(rev uint64) []byte {
	return storetest.Profile(rev, string(bytes.Repeat([]byte{0xa5}, profileBytes-14)))
}

func benchRecord(rev uint64) []byte {
	return storetest.Record(7, rev, string(bytes.Repeat([]byte{'r'}, recordBytes-200)))
}

func benchServer(b testing.TB) *server {
	return startServer(b, "--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0",
		"--maxmemory-policy", "noeviction")
}

func BenchmarkSave(b *testing.B) {
	s := benchServer(b)
	for _, batch := range batches {
		b.Run(fmt.Sprintf("users=%d", batch), func(b *testing.B) {
			r := open(b, storetest.Config(featurestore.Config{Addrs: []string{s.addr}, Prefix: freshPrefix()}))
			updates := benchUpdates()
			mustSave(b, r, updates...)
			for i := range updates {
				updates[i].Base = freshet.VersionOf(updates[i].Profile)
			}
			b.ReportAllocs()
			before := serverCPU(b, s)
			b.ResetTimer()
			for n := 0; n < b.N; n += batch {
				at := n % (benchUsers - batch + 1)
				results, err := r.Save(b.Context(), updates[at:at+batch])
				if err != nil || results[0] != freshet.Saved {
					b.Fatalf("%v, %v", results[0], err)
				}
			}
			b.ReportMetric((serverCPU(b, s)-before)*1e6/float64(b.N), "server-us/op")
			rate(b)
		})
	}
}

// BenchmarkSaveUnfenced is the floor: the same bytes by plain SET in the same pipelines.
func BenchmarkSaveUnfenced(b *testing.B) {
	s := benchServer(b)
	admin := s.admin(b)
	updates := benchUpdates()
	for _, batch := range batches {
		b.Run(fmt.Sprintf("users=%d", batch), func(b *testing.B) {
			before := serverCPU(b, s)
			for n := 0; n < b.N; n += batch {
				at := n % (benchUsers - batch + 1)
				for start := at; start < at+batch; start += 64 {
					_, err := admin.Pipelined(b.Context(), func(p redis.Pipeliner) error {
						for _, u := range updates[start:min(start+64, at+batch)] {
							p.Set(b.Context(), "profile:{"+u.UserID+"}", u.Profile, time.Hour)
							p.Set(b.Context(), "recs:{"+u.UserID+"}", u.Records[0].Value, time.Hour)
						}
						return nil
					})
					if err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric((serverCPU(b, s)-before)*1e6/float64(b.N), "server-us/op")
			rate(b)
		})
	}
}

// BenchmarkSavePipeline finds the knee: saves per pipeline within calls of 512 users.
func BenchmarkSavePipeline(b *testing.B) {
	s := benchServer(b)
	for _, size := range []int{16, 32, 64, 128, 512} {
		b.Run(fmt.Sprintf("pipeline=%d", size), func(b *testing.B) {
			r := open(b, storetest.Config(featurestore.Config{Addrs: []string{s.addr}, Prefix: freshPrefix(), Pipeline: size}))
			updates := benchUpdates()
			mustSave(b, r, updates...)
			for i := range updates {
				updates[i].Base = freshet.VersionOf(updates[i].Profile)
			}
			b.ResetTimer()
			for n := 0; n < b.N; n += 512 {
				at := n % (benchUsers - 511)
				if _, err := r.Save(b.Context(), updates[at:at+512]); err != nil {
					b.Fatal(err)
				}
			}
			rate(b)
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	s := benchServer(b)
	r := open(b, storetest.Config(featurestore.Config{Addrs: []string{s.addr}}))
	updates := benchUpdates()
	mustSave(b, r, updates...)
	users := make([]string, benchUsers)
	for i := range users {
		users[i] = updates[i].UserID
	}
	for _, batch := range batches {
		b.Run(fmt.Sprintf("users=%d", batch), func(b *testing.B) {
			b.ReportAllocs()
			for n := 0; n < b.N; n += batch {
				at := n % (benchUsers - batch + 1)
				if _, err := r.Load(b.Context(), users[at:at+batch]); err != nil {
					b.Fatal(err)
				}
			}
			rate(b)
		})
	}
}

// BenchmarkCatalogue stores and reads 10,000 items with vectors of 384 values a round. One operation is one item.
func BenchmarkCatalogue(b *testing.B) {
	const n = 10_000
	s := startServer(b)
	r := open(b, featurestore.Config{Addrs: []string{s.addr}})
	items, vectors, ids := make([]freshet.Item, n), make([]featurestore.ItemVector, n), make([]string, n)
	for i := range items {
		ids[i] = fmt.Sprintf("item-%06d", i)
		items[i] = freshet.Item{ItemID: ids[i], Title: "A believable title", Description: "Two lines of text that say what it is and for whom.",
			Categories: []string{"home", "kitchen"}, Domain: "shop", Brand: "B", Price: 9.99, Currency: "EUR"}
		vectors[i] = featurestore.ItemVector{ItemID: ids[i], Text: uint64(i), Encoder: 1, Vector: make([]float32, 384)}
	}
	for name, act := range map[string]func() error{
		"put=items":   func() error { return r.PutItems(b.Context(), items) },
		"put=vectors": func() error { return r.PutVectors(b.Context(), vectors) },
		"get=vectors": func() error { _, err := r.Vectors(b.Context(), ids); return err },
	} {
		b.Run(name, func(b *testing.B) {
			for done := 0; done < b.N; done += n {
				if err := act(); err != nil {
					b.Fatal(err)
				}
			}
			rate(b)
		})
	}
}

func BenchmarkAddTransitions(b *testing.B) {
	s := startServer(b)
	r := open(b, featurestore.Config{Addrs: []string{s.addr}})
	deltas := make([]featurestore.Transition, 2000)
	for i := range deltas {
		deltas[i] = featurestore.Transition{From: fmt.Sprint("i", i*7919%1000), To: fmt.Sprint("i", i*104729%3000), Weight: 1, Time: noon.UnixMilli()}
	}
	b.Run("deltas=2000/items=1000", func(b *testing.B) {
		for done := 0; done < b.N; done += len(deltas) {
			if err := r.AddTransitions(b.Context(), deltas); err != nil {
				b.Fatal(err)
			}
		}
		rate(b)
	})
}

// serverCPU gives the server's own CPU seconds: unlike the rate, they hardly depend on what else the machine does.
func serverCPU(b *testing.B, s *server) float64 {
	b.Helper()
	info, err := s.admin(b).Info(b.Context(), "cpu").Result()
	if err != nil {
		b.Fatal(err)
	}
	sum := 0.0
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "used_cpu_sys" || name == "used_cpu_user" {
			seconds, err := strconv.ParseFloat(value, 64)
			if err != nil {
				b.Fatal(err)
			}
			sum += seconds
		}
	}
	return sum
}

func rate(b *testing.B) { b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "users/s") }
