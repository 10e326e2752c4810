package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kgo"

	"freshet"
	"freshet/internal/chaos/expect"
	"freshet/internal/chaos/topic"
)

// verdict compares what freshet left behind with what the oracle expects.
type verdict struct {
	want    *expect.Expectation
	chain   bool // the model is the chain: its lists are exact
	stored  map[string][]byte
	lists   map[string][]byte     // Redis' records, by output key
	outputs map[string]*published // the output topic, by key
	wrong   map[string]string     // user -> what is wrong, the first finding
}

// published is what the output topic holds of one key.
type published struct {
	best    []byte // the record of the highest (cv, rev), the latest of equal ones
	cv, rev uint64
	last    []byte // the last record; nil = null
}

func judge(ctx context.Context, o options, s *servers, sent *sender, r *report) error {
	v := &verdict{wrong: map[string]string{}}
	if err := v.read(ctx, o, s); err != nil {
		return err
	}
	if all := sent.stream.made + sent.stream.probes; v.want.Records != all {
		return fmt.Errorf("%d records were sent, the log holds %d", all, v.want.Records)
	}
	for user, x := range v.want.Users {
		v.check(user, x)
	}
	for key := range v.stored {
		if v.want.Users[key] == nil {
			v.blame(key, "has a profile, and nothing ever happened to him")
		}
	}
	r.events, r.users, r.wrong = v.want.Records, len(v.want.Users), v.wrong
	r.applied = v.want.Applied
	if err := v.keepWrong(filepath.Join(o.work, "wrong.json")); err != nil {
		return err
	}
	r.mismatches = v.compareOutputs()
	r.erased = len(sent.stream.erased)
	r.resurrected = v.resurrected(sent.stream)
	r.planted = sent.stream.poison
	return v.deadLetters(ctx, s, r)
}

// read asks the oracle, Redis and the output topic.
func (v *verdict) read(ctx context.Context, o options, s *servers) error {
	args := []string{"--brokers", s.kafka, "--topic", eventsTopic, "--bundle", o.bundle}
	for _, x := range surfaces {
		args = append(args, "--surface", fmt.Sprintf("%s=%d", x.name, x.k))
	}
	cmd := exec.CommandContext(ctx, o.oracle, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("ask the oracle: %w", err)
	}
	if err := os.WriteFile(filepath.Join(o.work, "expected.json"), out, 0o600); err != nil {
		return err
	}
	if err := json.Unmarshal(out, &v.want); err != nil {
		return fmt.Errorf("ask the oracle: %w", err)
	}
	_, err = expect.OpenChain(o.bundle)
	v.chain = err == nil
	if v.stored, err = readKeys(ctx, s.redis, "freshet:live:profile:*"); err != nil {
		return err
	}
	if v.lists, err = readKeys(ctx, s.redis, "freshet:recs:{*"); err != nil {
		return err
	}
	records, err := topic.Read(ctx, []string{s.kafka}, listsTopic)
	if err != nil {
		return err
	}
	return v.readOutputs(records)
}

// readKeys gives every string whose key matches, by the user in the key, with a NUL and the surface where there is one.
func readKeys(ctx context.Context, c *redis.Client, pattern string) (map[string][]byte, error) {
	out := map[string][]byte{}
	scan := c.Scan(ctx, 0, pattern, 1000).Iterator()
	for scan.Next(ctx) {
		key := scan.Val()
		open, end := strings.IndexByte(key, '{'), strings.LastIndexByte(key, '}')
		if open < 0 || end < open {
			return nil, fmt.Errorf("key %q has no hash tag", key)
		}
		name := freshet.UnescapeID(key[open+1 : end])
		if rest := key[end+1:]; rest != "" {
			name += "\x00" + rest[1:]
		}
		value, err := c.Get(ctx, key).Bytes()
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", key, err)
		}
		out[name] = value
	}
	return out, scan.Err()
}

func (v *verdict) readOutputs(records []*kgo.Record) error {
	v.outputs = map[string]*published{}
	for _, r := range records {
		p := v.outputs[string(r.Key)]
		if p == nil {
			p = &published{}
			v.outputs[string(r.Key)] = p
		}
		p.last = r.Value
		if r.Value == nil {
			continue
		}
		var head struct{ CV, Rev uint64 }
		if err := json.Unmarshal(r.Value, &head); err != nil {
			return fmt.Errorf("%s-%d at %d: %w", listsTopic, r.Partition, r.Offset, err)
		}
		if p.best == nil || head.CV > p.cv || head.CV == p.cv && head.Rev >= p.rev {
			p.best, p.cv, p.rev = r.Value, head.CV, head.Rev
		}
	}
	return nil
}

func (v *verdict) blame(user, format string, args ...any) {
	if v.wrong[user] == "" {
		v.wrong[user] = fmt.Sprintf(format, args...)
	}
}

// check compares one user: sequence, ids, states, positions, revision and lists.
func (v *verdict) check(user string, x *expect.User) {
	raw := v.stored[user]
	if raw == nil {
		v.blame(user, "has no profile")
		return
	}
	p, err := freshet.DecodeProfile(user, raw)
	if err != nil {
		v.blame(user, "%v", err)
		return
	}
	if p.Rev != x.Rev {
		v.blame(user, "rev %d, want %d", p.Rev, x.Rev)
	}
	if got := places(p.Positions); !slices.Equal(got, x.Places) {
		v.blame(user, "positions %v, want %v", got, x.Places)
	}
	if p.ErasedAt != x.ErasedAt {
		v.blame(user, "erased at %d, want %d", p.ErasedAt, x.ErasedAt)
	}
	v.checkWindow(user, p, x)
	recent := make([]string, len(p.Recent))
	for i, h := range p.Recent {
		recent[i] = strconv.FormatUint(h, 10)
	}
	if !slices.Equal(recent, x.Recent) && len(recent)+len(x.Recent) > 0 {
		v.blame(user, "recent events differ: %d, want %d", len(recent), len(x.Recent))
	}
	if !v.same(p.State, x.State) {
		v.blame(user, "state %v, want %v", p.State, x.State)
	}
	if !v.same(p.Checkpoint, x.Checkpoint) {
		v.blame(user, "checkpoint %v, want %v", p.Checkpoint, x.Checkpoint)
	}
	for _, s := range surfaces {
		v.checkList(user, s.name, s.k, x)
	}
}

func places(positions []freshet.Position) []expect.Place {
	out := make([]expect.Place, len(positions))
	for i, p := range positions {
		out[i] = expect.Place{Partition: p.Partition, Offset: p.Offset}
	}
	return out
}

func (v *verdict) checkWindow(user string, p *freshet.Profile, x *expect.User) {
	if len(p.Window) != len(x.Window) {
		v.blame(user, "%d entries, want %d", len(p.Window), len(x.Window))
		return
	}
	for i, e := range p.Window {
		got := expect.Entry{Item: e.ItemID, Type: e.Type, Time: e.Time, At: expect.Place{Partition: e.Position.Partition, Offset: e.Position.Offset},
			Index: int(e.Index), Event: e.Event, Unknown: e.Vector == freshet.Unknown}
		if got != x.Window[i] {
			v.blame(user, "entry %d is %+v, want %+v", i, got, x.Window[i])
			return
		}
	}
}

// same compares bits.
func (v *verdict) same(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) })
}

// scoreTolerance is how near two scores of a real model must be for their items to change places.
const scoreTolerance = 1e-3

func (v *verdict) checkList(user, surface string, k int, x *expect.User) {
	raw := v.lists[outputKey(user, surface)]
	if x.Tombstone {
		if raw != nil {
			v.blame(user, "is erased and has a list")
		}
		return
	}
	var rec freshet.Recommendation
	if err := json.Unmarshal(raw, &rec); err != nil {
		v.blame(user, "list %s: %v", surface, err)
		return
	}
	at := rec.Event
	if rec.Rev != x.Rev || at.Partition != x.Last.Partition || at.Offset != x.Last.Offset || at.EventID != x.LastE {
		v.blame(user, "list %s is of rev %d and event %d-%d, want rev %d and %d-%d", surface, rec.Rev, at.Partition, at.Offset, x.Rev, x.Last.Partition, x.Last.Offset)
	}
	want := x.Lists[surface]
	score := map[string]float64{}
	for _, w := range want {
		score[w.Item] = w.Score
	}
	if len(rec.Items) != min(k, len(want)) {
		v.blame(user, "list %s has %d items, want %d", surface, len(rec.Items), min(k, len(want)))
		return
	}
	for i, item := range rec.Items {
		own, known := score[item.ItemID]
		if item.ItemID == want[i].Item || !v.chain && known && math.Abs(own-want[i].Score) < scoreTolerance {
			continue
		}
		v.blame(user, "list %s has %s at place %d, want %s", surface, item.ItemID, i+1, want[i].Item)
		return
	}
}

func outputKey(user, surface string) string {
	if surface == freshet.HomeSurface {
		return user
	}
	return user + "\x00" + surface
}

// keepWrong leaves the profiles of wrong users beside what was expected, for whoever looks into it.
func (v *verdict) keepWrong(name string) error {
	type found struct {
		Why    string
		Got    *freshet.Profile
		Expect *expect.User
	}
	out := map[string]found{}
	for user, why := range v.wrong {
		p, _ := freshet.DecodeProfile(user, v.stored[user]) // nil where that is what is wrong
		out[user] = found{why, p, v.want.Users[user]}
	}
	raw, err := json.MarshalIndent(out, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, raw, 0o600)
}

// compareOutputs counts keys whose record of the highest (cv, rev) on the output topic is not byte for byte the one in Redis, and
// erased users' keys whose last record is not null.
func (v *verdict) compareOutputs() []string {
	var out []string
	for user, x := range v.want.Users {
		for _, s := range surfaces {
			key := outputKey(user, s.name)
			p := v.outputs[key]
			switch {
			case p == nil:
				out = append(out, fmt.Sprintf("%s %s: never published", user, s.name))
			case x.Tombstone && p.last != nil:
				out = append(out, fmt.Sprintf("%s %s: erased, and the last record is %.60s", user, s.name, p.last))
			case !x.Tombstone && !bytes.Equal(p.best, v.lists[key]):
				out = append(out, fmt.Sprintf("%s %s: published cv %d rev %d, Redis has %.60s", user, s.name, p.cv, p.rev, v.lists[key]))
			}
		}
	}
	slices.Sort(out)
	return out
}

// resurrected lists erased users of whom anything from before their erasure is there.
func (v *verdict) resurrected(s *stream) []string {
	var out []string
	for _, user := range s.erased {
		x := v.want.Users[user]
		if x == nil {
			continue
		}
		p, err := freshet.DecodeProfile(user, v.stored[user])
		switch {
		case err != nil:
			continue // already among the wrong
		case slices.ContainsFunc(p.Window, func(e freshet.Entry) bool { return e.Time <= x.ErasedAt }):
			out = append(out, user+": has entries from before")
		case slices.ContainsFunc(append(slices.Clone(p.Owned), p.Dismissed...), func(d freshet.Dated) bool { return d.Time <= x.ErasedAt }):
			out = append(out, user+": has purchases or dismissals from before")
		case x.Tombstone && (!p.Tombstone() || v.lists[user] != nil):
			out = append(out, user+": has data or a list")
		}
	}
	return out
}

// deadLetters compares the letters with the poison that the oracle found and the stream planted.
func (v *verdict) deadLetters(ctx context.Context, s *servers, r *report) error {
	records, err := topic.Read(ctx, []string{s.kafka}, lettersTopic)
	if err != nil {
		return err
	}
	seen := map[expect.Place]bool{}
	for _, rec := range records {
		at, err := placeOf(rec)
		if err != nil {
			return fmt.Errorf("dead letter at %d-%d: %w", rec.Partition, rec.Offset, err)
		}
		if seen[at] {
			r.letterDuplicates++
		}
		seen[at] = true
	}
	r.letters = len(seen)
	for _, p := range v.want.Poison {
		if !seen[p.Place] {
			r.lettersWrong = append(r.lettersWrong, fmt.Sprintf("%d-%d (%s) is not among the dead letters", p.Partition, p.Offset, p.Reason))
		}
		delete(seen, p.Place)
	}
	for at := range seen {
		r.lettersWrong = append(r.lettersWrong, fmt.Sprintf("%d-%d is among the dead letters and is no poison", at.Partition, at.Offset))
	}
	if len(v.want.Poison) != r.planted {
		r.lettersWrong = append(r.lettersWrong, fmt.Sprintf("the oracle found %d poison records, %d were planted", len(v.want.Poison), r.planted))
	}
	return nil
}

func placeOf(r *kgo.Record) (expect.Place, error) {
	var at expect.Place
	found := 0
	for _, h := range r.Headers {
		switch h.Key {
		case "__connect.errors.partition":
			n, err := strconv.ParseInt(string(h.Value), 10, 32)
			if err != nil {
				return at, err
			}
			at.Partition = int32(n)
			found++
		case "__connect.errors.offset":
			n, err := strconv.ParseInt(string(h.Value), 10, 64)
			if err != nil {
				return at, err
			}
			at.Offset = n
			found++
		}
	}
	if found != 2 {
		return at, errors.New("its headers do not say where it was")
	}
	return at, nil
}
