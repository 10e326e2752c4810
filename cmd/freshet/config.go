package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"freshet"
	"freshet/internal/recommend"
)

// Config is everything that can be configured, in one place. Sources, weakest first: these defaults, a YAML file (--config),
// environment variables (FRESHET_KAFKA_BROKERS for kafka.brokers), flags (--set kafka.brokers=...). Unknown keys are refused.
// The doc tags are what `freshet config` prints beside each value.
type Config struct {
	Kafka     KafkaConfig    `yaml:"kafka"`
	Redis     RedisConfig    `yaml:"redis"`
	Model     ModelConfig    `yaml:"model"`
	Catalogue CatalogConfig  `yaml:"catalogue"`
	Ingest    IngestConfig   `yaml:"ingest"`
	Profile   ProfileConfig  `yaml:"profile"`
	Events    EventsConfig   `yaml:"events"`
	Feedback  FeedbackConfig `yaml:"feedback"`
	Covisit   CovisitBlock   `yaml:"covisit"`
	Popular   PopularBlock   `yaml:"popular"`
	NewItems  NewItemsBlock  `yaml:"new_items"`
	Fusion    FusionBlock    `yaml:"fusion"`
	Reasons   ReasonsBlock   `yaml:"reasons"`
	Surfaces  []SurfaceBlock `yaml:"surfaces" doc:"the lists every user gets"`
	Lane      string         `yaml:"lane" doc:"deployment whose bundle is model.bundle, and that verbs look at"`
	Lanes     []string       `yaml:"lanes" doc:"further deployments that this worker runs; empty = all of the table, unless lane is not live"`
	Bootstrap string         `yaml:"bootstrap" doc:"store is empty but offsets are committed: refuse, or auto (read the log from its beginning)"`
	HTTP      HTTPConfig     `yaml:"http"`
	Log       LogConfig      `yaml:"log"`
}

// KafkaConfig says where the log is and how it is read.
type KafkaConfig struct {
	Brokers     []string   `yaml:"brokers" doc:"host:port of some brokers"`
	TLS         TLSConfig  `yaml:"tls"`
	SASL        SASLConfig `yaml:"sasl"`
	Topics      Topics     `yaml:"topics"`
	Create      bool       `yaml:"create_topics" doc:"create missing topics at start"`
	Partitions  int        `yaml:"partitions" doc:"partitions of a topic that is created"`
	Replication int        `yaml:"replication" doc:"replicas of a topic that is created"`
	Retention   Duration   `yaml:"retention" doc:"retention of an events topic that is created"`
	Group       string     `yaml:"group" doc:"consumer group; the lane's name is appended unless it is live"`
	Start       string     `yaml:"start" doc:"where a group without commits starts: earliest or latest"`
	Session     Duration   `yaml:"session" doc:"a member silent for this long loses its partitions"`
	BatchMax    int        `yaml:"batch_max" doc:"events handled as one batch, of one partition or of several"`
	Linger      Duration   `yaml:"linger" doc:"how long events may wait for others while three or more come within it"`
	LossWindow  Duration   `yaml:"loss_window" doc:"what the store may forget in a crash: offsets are committed only this long after the save"`
	Incarnation int        `yaml:"topic_incarnation" doc:"raise by one when the events topic was deleted and created anew"`
}

// Topics are the topics' names.
type Topics struct {
	Events          string `yaml:"events" doc:"what users do; key = user_id"`
	Items           string `yaml:"items" doc:"the catalogue, compacted; key = item_id"`
	Recommendations string `yaml:"recommendations" doc:"the lists, compacted; key = user_id"`
	Examples        string `yaml:"training_examples" doc:"lists that were shown, joined with what the user did next; key = user_id"`
	DeadLetters     string `yaml:"dead_letters" doc:"what could not be read, as received"`
}

// TLSConfig is shared by Kafka and Redis.
type TLSConfig struct {
	Enabled    bool   `yaml:"enabled" doc:"speak TLS"`
	CAFile     string `yaml:"ca_file" doc:"PEM file of the authorities to trust; empty = the system's"`
	CertFile   string `yaml:"cert_file" doc:"PEM file of the client certificate; empty = none"`
	KeyFile    string `yaml:"key_file" doc:"PEM file of its key"`
	ServerName string `yaml:"server_name" doc:"name to expect in the server's certificate; empty = the address's"`
}

// SASLConfig authenticates to Kafka.
type SASLConfig struct {
	Mechanism string `yaml:"mechanism" doc:"empty, PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"`
	Username  string `yaml:"username" doc:""`
	Password  Secret `yaml:"password" doc:"better given by FRESHET_KAFKA_SASL_PASSWORD"`
}

// RedisConfig says where profiles and lists are kept.
type RedisConfig struct {
	Addrs    []string  `yaml:"addrs" doc:"host:port; several for a cluster"`
	Cluster  bool      `yaml:"cluster" doc:"the addresses are nodes of a Redis Cluster"`
	Username string    `yaml:"username" doc:"ACL user; empty = default"`
	Password Secret    `yaml:"password" doc:"better given by FRESHET_REDIS_PASSWORD"`
	DB       int       `yaml:"db" doc:"database number (not with a cluster)"`
	TLS      TLSConfig `yaml:"tls"`
	Prefix   string    `yaml:"prefix" doc:"first part of every key"`
	TTL      Duration  `yaml:"ttl" doc:"profiles and lists of users who do nothing expire after this; longer than the log's retention"`
}

// ModelConfig says what predicts.
type ModelConfig struct {
	Bundle   string `yaml:"bundle" doc:"folder of the model bundle"`
	Library  string `yaml:"library" doc:"path of libonnxruntime; empty = FRESHET_ONNXRUNTIME or the fetched copy"`
	Encoder  string `yaml:"encoder" doc:"folder of the text encoder; empty = FRESHET_ENCODER or the fetched copy; none = no text"`
	Device   string `yaml:"device" doc:"auto (a GPU where there is one), cpu or cuda"`
	FallBack bool   `yaml:"fall_back" doc:"go on with the CPU when the device fails"`
	Threads  int    `yaml:"threads" doc:"threads of one run of the model"`
	State    string `yaml:"state" doc:"states in profiles: fp32 or fp16 (half the memory)"`
}

// CatalogConfig says how items are kept.
type CatalogConfig struct {
	Only bool `yaml:"only" doc:"recommend only items that the items topic has named; false = all that the bundle knows"`
}

// IngestConfig says which events are believed.
type IngestConfig struct {
	MinTime    string `yaml:"min_time" doc:"events before this are poison (RFC 3339)"`
	TypePrefix string `yaml:"cloudevents_type_prefix" doc:"cut from the type of a CloudEvent"`
}

// ProfileConfig says what is remembered of a user.
type ProfileConfig struct {
	MaxHistory int      `yaml:"max_history" doc:"behaviours kept word for word; what lies before lives on in the state"`
	Late       string   `yaml:"late" doc:"late events: reorder (exact), append or drop (half the memory)"`
	HotUsers   int      `yaml:"hot_users" doc:"profiles kept in memory per partition"`
	HotFor     Duration `yaml:"hot_for" doc:"how long such a copy is used; at most a quarter of redis.ttl"`
}

// FeedbackConfig says how impressions are joined with what users do next.
type FeedbackConfig struct {
	Enabled bool     `yaml:"enabled" doc:"join impressions with behaviours into training examples (the live lane does, for all)"`
	Window  Duration `yaml:"window" doc:"a behaviour this long after an item was shown is its outcome, in event time"`
	Grace   Duration `yaml:"grace" doc:"how much longer than the window a late record is waited for"`
}

// EventsConfig are the types of events.
type EventsConfig struct {
	Types []TypeBlock `yaml:"types" doc:"what users can do"`
}

// TypeBlock is one type of event.
type TypeBlock struct {
	Name      string   `yaml:"name" doc:"as producers write it"`
	Effect    string   `yaml:"effect" doc:"extend, reject, retract, observe, erase or login"`
	Weight    float64  `yaml:"weight,omitempty" doc:"strength in counts and popularity"`
	Task      string   `yaml:"task,omitempty" doc:"click or purchase"`
	Threshold *float64 `yaml:"threshold,omitempty" doc:"an extend type below this value rejects"`
	Retracts  string   `yaml:"retracts,omitempty" doc:"type that a retraction looks for first"`
}

// HTTPConfig is the operators' listener.
type HTTPConfig struct {
	Listen string `yaml:"listen" doc:"metrics, health and pprof; loopback unless you open it; empty = none"`
}

// LogConfig says how the program talks.
type LogConfig struct {
	Level  string `yaml:"level" doc:"debug, info, warn or error"`
	Format string `yaml:"format" doc:"text or json"`
}

// DefaultConfig is a worker for servers on this machine.
func DefaultConfig() Config {
	c := Config{
		Kafka: KafkaConfig{Brokers: []string{"127.0.0.1:9092"},
			Topics: Topics{Events: "events", Items: "items", Recommendations: "recommendations", Examples: "training-examples", DeadLetters: "events.dlq"},
			Create: true, Partitions: 8, Replication: 1, Retention: Duration(7 * 24 * time.Hour),
			Group: "freshet", Start: "earliest", Session: Duration(10 * time.Second), BatchMax: 512,
			Linger: Duration(2 * time.Millisecond), LossWindow: Duration(3 * time.Second)},
		Redis:     RedisConfig{Addrs: []string{"127.0.0.1:6379"}, Prefix: "freshet", TTL: Duration(30 * 24 * time.Hour)},
		Model:     ModelConfig{Bundle: "models/bundles/shop", Device: "auto", FallBack: true, Threads: 1, State: "fp32"},
		Catalogue: CatalogConfig{Only: true},
		Ingest:    IngestConfig{MinTime: freshet.MinTime.Format(time.RFC3339)},
		Profile:   ProfileConfig{MaxHistory: 50, Late: "reorder", HotUsers: 20_000, HotFor: Duration(10 * time.Minute)},
		Covisit:   CovisitBlock{HalfLife: Duration(60 * 24 * time.Hour), Keep: 128, MaxItems: 100_000, Back: 0.5, Damp: 0.2},
		Popular:   PopularBlock{HalfLife: Duration(7 * 24 * time.Hour), Trending: Duration(6 * time.Hour)},
		NewItems:  NewItemsBlock{MaxAge: Duration(14 * 24 * time.Hour), Budget: 100},
		Surfaces: []SurfaceBlock{{Name: freshet.HomeSurface, K: 20, Weights: map[string]float64{"sequence": 1},
			Fill: "popular", Exclude: []string{"purchased", "dismissed"}}},
		Reasons:  ReasonsBlock{Texts: recommend.DefaultTexts(), Verbs: recommend.DefaultVerbs()},
		Feedback: FeedbackConfig{Enabled: true, Window: Duration(30 * time.Minute), Grace: Duration(time.Minute)},
		Lane:     freshet.LiveLane, Bootstrap: "refuse",
		HTTP: HTTPConfig{Listen: "127.0.0.1:9464"},
		Log:  LogConfig{Level: "info", Format: "text"},
	}
	for _, t := range freshet.DefaultEventTypes() {
		c.Events.Types = append(c.Events.Types, TypeBlock{Name: t.Name, Effect: t.Effect.String(), Weight: t.Weight,
			Task: t.Task, Threshold: t.Threshold, Retracts: t.Retracts})
	}
	return c
}

// Validate says, field by field, what cannot be meant. All problems are reported at once.
func (c *Config) Validate() error {
	var bad []error
	check := func(ok bool, field, format string, args ...any) {
		if !ok {
			bad = append(bad, fmt.Errorf("%s: %s", field, fmt.Sprintf(format, args...)))
		}
	}
	k := &c.Kafka
	check(len(k.Brokers) > 0, "kafka.brokers", "at least one host:port is needed")
	checkAddrs(check, "kafka.brokers", k.Brokers)
	check(slices.Contains([]string{"", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}, k.SASL.Mechanism), "kafka.sasl.mechanism",
		"%q is not one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512", k.SASL.Mechanism)
	check(k.SASL.Mechanism == "" || k.SASL.Username != "", "kafka.sasl.username", "missing for mechanism %s", k.SASL.Mechanism)
	names := []string{k.Topics.Events, k.Topics.Items, k.Topics.Recommendations, k.Topics.Examples, k.Topics.DeadLetters}
	for i, key := range []string{"events", "items", "recommendations", "training_examples", "dead_letters"} {
		check(names[i] != "", "kafka.topics."+key, "missing")
		check(slices.Index(names, names[i]) == i, "kafka.topics."+key, "%q is used for another topic too", names[i])
	}
	check(k.Partitions > 0, "kafka.partitions", "%d, must be above 0", k.Partitions)
	check(k.Replication > 0, "kafka.replication", "%d, must be above 0", k.Replication)
	check(k.Group != "", "kafka.group", "missing")
	check(k.Start == "earliest" || k.Start == "latest", "kafka.start", "%q is not earliest or latest", k.Start)
	check(k.Session >= Duration(2*time.Second), "kafka.session", "%s, must be at least 2s", k.Session)
	check(k.BatchMax >= 1 && k.BatchMax <= 4096, "kafka.batch_max", "%d, must be 1 to 4096", k.BatchMax)
	check(k.Linger >= 0 && k.Linger <= Duration(time.Second), "kafka.linger", "%s, must be 0s to 1s", k.Linger)
	check(k.LossWindow >= 0, "kafka.loss_window", "%s is negative", k.LossWindow)
	check(k.Incarnation >= 0, "kafka.topic_incarnation", "%d is negative", k.Incarnation)
	check(len(c.Redis.Addrs) > 0, "redis.addrs", "at least one host:port is needed")
	checkAddrs(check, "redis.addrs", c.Redis.Addrs)
	check(!c.Redis.Cluster || c.Redis.DB == 0, "redis.db", "%d, a cluster has only database 0", c.Redis.DB)
	check(c.Redis.Prefix != "" && !strings.ContainsAny(c.Redis.Prefix, "{} "), "redis.prefix", "%q: one word without braces", c.Redis.Prefix)
	check(c.Redis.TTL >= Duration(time.Minute), "redis.ttl", "%s, must be at least 1m", c.Redis.TTL)
	check(c.Model.Bundle != "", "model.bundle", "missing: name the folder of a bundle")
	check(slices.Contains([]string{"auto", "cpu", "cuda"}, c.Model.Device), "model.device", "%q is not auto, cpu or cuda", c.Model.Device)
	check(c.Model.Threads >= 1 && c.Model.Threads <= 256, "model.threads", "%d, must be 1 to 256", c.Model.Threads)
	check(c.Model.State == "fp32" || c.Model.State == "fp16", "model.state", "%q is not fp32 or fp16", c.Model.State)
	_, err := time.Parse(time.RFC3339, c.Ingest.MinTime)
	check(err == nil, "ingest.min_time", "%q is not RFC 3339 (1990-01-01T00:00:00Z)", c.Ingest.MinTime)
	check(c.Profile.MaxHistory >= 1 && c.Profile.MaxHistory <= 200, "profile.max_history", "%d, must be 1 to 200", c.Profile.MaxHistory)
	_, err = freshet.ParseLatePolicy(c.Profile.Late)
	check(err == nil, "profile.late", "%v", err)
	check(c.Profile.HotUsers >= 0, "profile.hot_users", "%d is negative", c.Profile.HotUsers)
	check(c.Feedback.Window >= Duration(time.Second), "feedback.window", "%s, must be at least 1s", c.Feedback.Window)
	check(c.Feedback.Grace >= 0, "feedback.grace", "%s is negative", c.Feedback.Grace)
	check(c.Lane != "" && !strings.ContainsAny(c.Lane, "{}%: "), "lane", "%q: one word without braces and colons", c.Lane)
	check(c.Bootstrap == "refuse" || c.Bootstrap == "auto", "bootstrap", "%q is not refuse or auto", c.Bootstrap)
	check(slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level), "log.level", "%q is not debug, info, warn or error", c.Log.Level)
	check(c.Log.Format == "text" || c.Log.Format == "json", "log.format", "%q is not text or json", c.Log.Format)
	c.checkFusion(check)
	check(len(c.Surfaces) > 0, "surfaces", "at least one surface is needed")
	if _, err := c.EventTypes(); err != nil {
		bad = append(bad, err)
	}
	return errors.Join(bad...)
}

func checkAddrs(check func(bool, string, string, ...any), field string, addrs []string) {
	for i, a := range addrs {
		_, port, err := net.SplitHostPort(a)
		check(err == nil && port != "", fmt.Sprintf("%s[%d]", field, i), "%q is not host:port", a)
	}
}

// EventTypes builds the configured set of types.
func (c *Config) EventTypes() (*freshet.EventTypes, error) {
	rows := make([]freshet.EventType, len(c.Events.Types))
	for i, t := range c.Events.Types {
		effect, err := freshet.ParseEffect(t.Effect)
		if err != nil {
			return nil, fmt.Errorf("events.types[%d].effect: %w", i, err)
		}
		rows[i] = freshet.EventType{Name: t.Name, Effect: effect, Weight: t.Weight, Task: t.Task, Threshold: t.Threshold, Retracts: t.Retracts}
	}
	return freshet.NewEventTypes(rows)
}

// MinTime is ingest.min_time, which Validate has checked.
func (c *Config) MinTime() time.Time {
	t, err := time.Parse(time.RFC3339, c.Ingest.MinTime)
	if err != nil {
		return freshet.MinTime
	}
	return t
}

// GroupOf is the consumer group of the configured lane.
func (c *Config) GroupOf() string {
	if c.Lane == freshet.LiveLane {
		return c.Kafka.Group
	}
	return c.Kafka.Group + "-" + c.Lane
}

// resolvePaths fills in what the set-up has fetched: the library and the encoder.
func (c *Config) resolvePaths() {
	if c.Model.Library == "" {
		c.Model.Library = firstExisting("FRESHET_ONNXRUNTIME", "onnxruntime/libonnxruntime.so")
	}
	if c.Model.Encoder == "" {
		c.Model.Encoder = firstExisting("FRESHET_ENCODER", "encoder/all-MiniLM-L6-v2")
	}
	if c.Model.Encoder == "none" {
		c.Model.Encoder = ""
	}
}

// firstExisting looks at an environment variable, then for .freshet/<fetched> in this folder, beside the binary, and upwards.
func firstExisting(env, fetched string) string {
	if v := os.Getenv(env); v != "" {
		return v
	}
	var roots []string
	if wd, err := os.Getwd(); err == nil {
		roots = append(roots, wd)
	}
	if exe, err := os.Executable(); err == nil {
		roots = append(roots, filepath.Dir(exe))
	}
	for _, root := range roots {
		for dir := root; ; dir = filepath.Dir(dir) {
			if p := filepath.Join(dir, ".freshet", fetched); exists(p) {
				return p
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
