package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"freshet"
	"freshet/featurestore"
	"freshet/models"
	"freshet/stream"
)

// finding is one line of the doctor's report.
type finding struct {
	Check  string `json:"check"`
	Status string `json:"status"` // ok, warn or fail
	Saw    string `json:"saw"`
	Do     string `json:"do,omitempty"`
}

type report struct{ findings []finding }

func (r *report) ok(check, saw string) {
	r.findings = append(r.findings, finding{check, "ok", saw, ""})
}
func (r *report) warn(check, saw, do string) {
	r.findings = append(r.findings, finding{check, "warn", saw, do})
}
func (r *report) fail(check, saw, do string) {
	r.findings = append(r.findings, finding{check, "fail", saw, do})
}

func (r *report) print(w io.Writer, asJSON bool) error {
	failed := 0
	for _, f := range r.findings {
		if f.Status == "fail" {
			failed++
		}
	}
	if asJSON {
		if err := printJSON(w, map[string]any{"findings": r.findings, "failed": failed}); err != nil {
			return err
		}
	} else {
		for _, f := range r.findings {
			fmt.Fprintf(w, "%-4s  %-22s %s\n", f.Status, f.Check, f.Saw)
			if f.Do != "" {
				fmt.Fprintf(w, "      %-22s -> %s\n", "", f.Do)
			}
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d checks failed", failed)
	}
	return nil
}

func newDoctorCommand(g *globals) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check servers, topics, memory policy, retention, bundle and device, and say what to do",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := g.load()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 30*time.Second)
			defer cancel()
			r := &report{}
			diagnoseKafka(ctx, cfg, r)
			diagnoseRedis(ctx, cfg, r, log)
			diagnoseModel(cfg, r, log)
			return r.print(cmd.OutOrStdout(), asJSON)
		},
	}
	cmd.PersistentFlags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.AddCommand(newDoctorOutputsCommand(g, &asJSON), newDoctorCompareCommand(g, &asJSON))
	return cmd
}

func diagnoseKafka(ctx context.Context, cfg Config, r *report) {
	conn, err := connection(cfg)
	if err != nil {
		r.fail("kafka", err.Error(), "mend the configuration")
		return
	}
	t := cfg.Kafka.Topics
	c, err := stream.Inspect(ctx, conn, t.Events, t.Items, t.Recommendations, t.DeadLetters)
	if err != nil {
		r.fail("kafka", err.Error(), "is a broker running at "+strings.Join(cfg.Kafka.Brokers, ", ")+"? set kafka.brokers")
		return
	}
	r.ok("kafka", fmt.Sprintf("%d brokers: %s", len(c.Brokers), strings.Join(c.Brokers, ", ")))
	compact := map[string]bool{t.Items: true, t.Recommendations: true}
	for _, name := range []string{t.Events, t.Items, t.Recommendations, t.DeadLetters} {
		s, check := c.Topics[name], "topic "+name
		saw := fmt.Sprintf("%d partitions, %d replicas (%d in sync), cleanup %s", s.Partitions, s.Replicas, s.InSync, s.Cleanup)
		switch {
		case s.Err != nil:
			r.fail(check, s.Err.Error(), "may this user describe the topic?")
		case !s.Exists && cfg.Kafka.Create:
			r.ok(check, "missing; it is created at start")
		case !s.Exists:
			r.fail(check, "missing", "create it, or set kafka.create_topics: true")
		case compact[name] && !strings.Contains(s.Cleanup, "compact"):
			r.fail(check, saw, "set cleanup.policy=compact: else its oldest records go by age")
		case name == t.Events && s.Retention > cfg.Redis.TTL.D():
			r.fail(check, fmt.Sprintf("retention %s is longer than redis.ttl %s", s.Retention, cfg.Redis.TTL),
				"raise redis.ttl above the retention: an expired profile would be rebuilt from half of its events")
		case s.TimestampType == "LogAppendTime":
			r.warn(check, "message.timestamp.type is LogAppendTime, which the client library ignores", "use CreateTime")
		case s.InSync < s.Replicas:
			r.warn(check, saw, "a replica is behind")
		case name == t.DeadLetters && s.MaxMessageBytes >= 0 && s.MaxMessageBytes < deadLetterBytes:
			r.warn(check, fmt.Sprintf("max.message.bytes %d", s.MaxMessageBytes), fmt.Sprintf("raise it to %d, or the largest letters are cut", deadLetterBytes))
		default:
			r.ok(check, saw)
		}
	}
}

func diagnoseRedis(ctx context.Context, cfg Config, r *report, log *zap.Logger) {
	store, err := featurestore.Open(ctx, storeConfig(cfg), log)
	if err != nil {
		r.fail("redis", err.Error(), "is a server running at "+strings.Join(cfg.Redis.Addrs, ", ")+"? set redis.addrs")
		return
	}
	defer store.Close()
	in, err := store.Inspect(ctx)
	if err != nil {
		r.fail("redis", err.Error(), "")
		return
	}
	for _, s := range in.Servers {
		check := "redis " + s.Address
		r.ok(check, fmt.Sprintf("version %s, %s, %d MB used, %d keys", s.Version, s.Mode, s.UsedMemory>>20, s.Keys))
		if s.Policy != "" && s.Policy != "noeviction" {
			r.fail(check, "maxmemory-policy "+s.Policy, "set noeviction: other policies drop profiles silently")
		}
		if s.MaxMemory > 0 && s.UsedMemory > s.MaxMemory*9/10 {
			r.warn(check, fmt.Sprintf("%d of %d MB used", s.UsedMemory>>20, s.MaxMemory>>20), "writes stop at the limit and consumption waits: give it memory")
		}
		switch {
		case s.AppendOnly == "no":
			r.warn(check, "appendonly no", "set appendonly yes: after a crash profiles would be as old as the last snapshot, and the log is read again from there")
		case s.AppendFsync == "no":
			r.warn(check, "appendfsync no", "set everysec, or raise kafka.loss_window above what a crash can lose")
		case s.AppendFsync == "everysec" && cfg.Kafka.LossWindow.D() < 2*time.Second:
			r.fail(check, fmt.Sprintf("appendfsync everysec can lose 2 s, kafka.loss_window is %s", cfg.Kafka.LossWindow), "set kafka.loss_window to 3s")
		}
	}
	table, err := store.Lanes(ctx)
	if err != nil {
		r.fail("lanes", err.Error(), "")
		return
	}
	for name, lane := range table.Lanes {
		r.ok("lane "+name, fmt.Sprintf("bundle %s, share %v, table version %d", lane.Fingerprint, lane.Share, table.Version))
		if lane.Dropping {
			r.warn("lane "+name, "it is being dropped", "freshet lanes drop "+name+" finishes it")
		}
	}
	if table.Sweep > 0 {
		r.warn("lanes", "some users who changed lanes still have their former lane's list", "run the last freshet lanes promote or share again")
	}
	spaces, err := store.Namespaces(ctx)
	if err != nil {
		r.fail("lanes", err.Error(), "")
	}
	for name, keys := range spaces {
		if _, known := table.Lanes[name]; !known && table.Version > 0 {
			r.warn("namespace "+name, fmt.Sprintf("%d keys of no lane", keys), "freshet lanes drop "+name+" deletes them")
		}
	}
}

func diagnoseModel(cfg Config, r *report, log *zap.Logger) {
	if cfg.Model.Library == "" {
		r.fail("onnx runtime", "not found", "run `make setup`, or set FRESHET_ONNXRUNTIME to libonnxruntime.so")
		return
	}
	rt, err := models.NewRuntime(models.Config{Library: cfg.Model.Library, Device: cfg.Model.Device, Threads: cfg.Model.Threads, FallBack: cfg.Model.FallBack}, zap.NewNop())
	if err != nil {
		r.fail("onnx runtime", err.Error(), "")
		return
	}
	defer rt.Close()
	r.ok("onnx runtime", cfg.Model.Library)
	b, err := models.OpenBundle(rt, cfg.Model.Bundle)
	if err != nil {
		r.fail("bundle", err.Error(), "set model.bundle to the folder of a bundle; `make train DATA=... OUT=...` makes one")
		return
	}
	defer b.Close()
	m := b.Manifest()
	r.ok("bundle", fmt.Sprintf("%s: %s, %d items, state %d bytes; parity replayed", b.ID(), m.Architecture, m.Items-1, 4*b.StateSize()))
	r.ok("device", rt.Device())
	if m.Text != nil && cfg.Model.Encoder == "" {
		r.warn("text encoder", "not found", "run `make setup` or set FRESHET_ENCODER; without it items that training never saw cannot be recommended")
	}
	log.Debug("model checked")
}

// outputs is what comparing the output topic with the store found.
type outputs struct {
	Users         int `json:"users"`           // with a record on the topic
	UsersWithList int `json:"users_with_list"` // whose record in the store is a list
	Mismatches    int `json:"mismatches"`      // last record on the topic is not byte for byte the stored one
	Repaired      int `json:"repaired"`
}

func newDoctorOutputsCommand(g *globals, asJSON *bool) *cobra.Command {
	var repair bool
	cmd := &cobra.Command{
		Use:   "outputs",
		Short: "Compare the last record of every user on the output topic with the store, byte for byte",
		Long: "A worker that is killed exactly between saving a list and publishing it leaves the topic one list behind until the user's next\n" +
			"event. --repair publishes the stored list again. Run it while no worker writes, or expect users in flight to differ.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := g.load()
			if err != nil {
				return err
			}
			out, err := compareOutputs(cmd.Context(), cfg, repair, log)
			if err != nil {
				return err
			}
			if *asJSON {
				err = printJSON(cmd.OutOrStdout(), out)
			} else {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d records on the topic, %d lists in the store, %d differ, %d repaired\n", out.Users, out.UsersWithList, out.Mismatches, out.Repaired)
			}
			if err == nil && out.Mismatches > out.Repaired {
				err = fmt.Errorf("%d records differ", out.Mismatches-out.Repaired)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&repair, "repair", false, "publish the stored list of every user that differs")
	return cmd
}

// lastRecord is the newest record of one list on the output topic: consumers keep the highest (cv, rev), and so do we.
type lastRecord struct {
	value   []byte
	cv, rev uint64
}

func lastRecords(ctx context.Context, conn stream.Connection, topic string) (map[freshet.RecordKey]lastRecord, error) {
	last := map[freshet.RecordKey]lastRecord{}
	err := stream.Scan(ctx, conn, topic, func(r stream.Record) error {
		user, surface, other := bytes.Cut(r.Key, []byte{0})
		key := freshet.RecordKey{UserID: string(user), Surface: freshet.HomeSurface}
		if other {
			key.Surface = string(surface)
		}
		now := lastRecord{value: r.Value}
		if r.Value != nil {
			var v struct{ CV, Rev uint64 }
			if err := json.Unmarshal(r.Value, &v); err != nil {
				return fmt.Errorf("record at offset %d: %w", r.Offset, err)
			}
			now.cv, now.rev = v.CV, v.Rev
			if was, ok := last[key]; ok && was.value != nil && (was.cv > v.CV || was.cv == v.CV && was.rev > v.Rev) {
				return nil
			}
		}
		last[key] = now
		return nil
	})
	return last, err
}

func compareOutputs(ctx context.Context, cfg Config, repair bool, log *zap.Logger) (outputs, error) {
	var out outputs
	conn, err := connection(cfg)
	if err != nil {
		return out, err
	}
	store, err := featurestore.Open(ctx, storeConfig(cfg), log)
	if err != nil {
		return out, err
	}
	defer store.Close()
	last, err := lastRecords(ctx, conn, cfg.Kafka.Topics.Recommendations)
	if err != nil {
		return out, err
	}
	keys := make([]freshet.RecordKey, 0, len(last))
	for k := range last {
		keys = append(keys, k)
	}
	stored, err := store.Records(ctx, keys)
	if err != nil {
		return out, err
	}
	var again []freshet.Publication
	for i, k := range keys {
		out.Users++
		if stored[i] != nil {
			out.UsersWithList++
		}
		if !bytes.Equal(stored[i], last[k].value) {
			out.Mismatches++
			again = append(again, freshet.Publication{UserID: k.UserID, Surface: k.Surface, Record: stored[i]})
			if out.Mismatches <= 10 {
				fmt.Fprintf(os.Stderr, "differs: %s %s: topic %.60q, store %.60q\n", k.UserID, k.Surface, last[k].value, stored[i])
			}
		}
	}
	if !repair || len(again) == 0 {
		return out, nil
	}
	p, err := stream.NewProducer(stream.ProducerConfig{Connection: conn, Lists: cfg.Kafka.Topics.Recommendations}, log)
	if err != nil {
		return out, err
	}
	defer p.Close()
	if err := p.PublishLists(ctx, again); err != nil {
		return out, err
	}
	out.Repaired = len(again)
	return out, nil
}

// comparison is what two key prefixes hold of the same users.
type comparison struct {
	Users             int `json:"users"`
	ProfilesIdentical int `json:"profiles_identical"` // byte for byte: sequence, ids, states, positions, rev
	ListsIdentical    int `json:"lists_identical"`    // the same items with the same scores
}

func newDoctorCompareCommand(g *globals, asJSON *bool) *cobra.Command {
	return &cobra.Command{
		Use:   "compare PREFIX",
		Short: "Compare profiles and home lists with those under another key prefix",
		Long:  "Two workers that read the same topic under two prefixes must come to the same profiles, whatever happened to them on the way.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, log, err := g.load()
			if err != nil {
				return err
			}
			out, err := comparePrefixes(cmd.Context(), cfg, args[0], log)
			if err != nil {
				return err
			}
			if *asJSON {
				err = printJSON(cmd.OutOrStdout(), out)
			} else {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d users, %d profiles identical, %d lists identical\n", out.Users, out.ProfilesIdentical, out.ListsIdentical)
			}
			if err == nil && (out.ProfilesIdentical < out.Users || out.ListsIdentical < out.Users) {
				err = errors.New("they differ")
			}
			return err
		},
	}
}

func comparePrefixes(ctx context.Context, cfg Config, prefix string, log *zap.Logger) (comparison, error) {
	var out comparison
	conn, err := connection(cfg)
	if err != nil {
		return out, err
	}
	last, err := lastRecords(ctx, conn, cfg.Kafka.Topics.Recommendations)
	if err != nil {
		return out, err
	}
	var users []string
	var keys []freshet.RecordKey
	for k := range last {
		if k.Surface == freshet.HomeSurface {
			users, keys = append(users, k.UserID), append(keys, k)
		}
	}
	var profiles, lists [2][][]byte
	for i, p := range []string{cfg.Redis.Prefix, prefix} {
		c := storeConfig(cfg)
		c.Prefix = p
		store, err := featurestore.Open(ctx, c, log)
		if err != nil {
			return out, err
		}
		profiles[i], err = store.Load(ctx, users)
		if err == nil {
			lists[i], err = store.Records(ctx, keys)
		}
		if err = errors.Join(err, store.Close()); err != nil {
			return out, err
		}
	}
	out.Users = len(users)
	for i := range users {
		if profiles[0][i] != nil && bytes.Equal(profiles[0][i], profiles[1][i]) {
			out.ProfilesIdentical++
		}
		same, err := sameItems(lists[0][i], lists[1][i])
		if err != nil {
			return out, fmt.Errorf("lists of %s: %w", users[i], err)
		}
		if same {
			out.ListsIdentical++
		}
	}
	return out, nil
}

func sameItems(a, b []byte) (bool, error) {
	if a == nil || b == nil {
		return a == nil && b == nil, nil
	}
	var x, y freshet.Recommendation
	if err := errors.Join(json.Unmarshal(a, &x), json.Unmarshal(b, &y)); err != nil {
		return false, err
	}
	return slices.EqualFunc(x.Items, y.Items, func(i, j freshet.RecommendedItem) bool { return i.ItemID == j.ItemID && i.Score == j.Score }), nil
}
