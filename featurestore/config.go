package featurestore

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"time"

	"freshet"
)

// Config says where Redis is and what this worker writes there. The zero value of a field with a default means the default.
type Config struct {
	Addrs    []string // host:port; several = seeds of a Cluster. Default 127.0.0.1:6379
	Cluster  bool     // the servers are a Redis Cluster
	Username string   // ACL user; empty = the default user
	Password string   `json:"-"` // never logged, never part of an error
	TLS      TLS
	DB       int // database of a single server; a Cluster has only 0

	Prefix string // first part of every key. Default "freshet"
	Lane   string // name of this worker's lane. Default "live"
	Owner  bool   // records of updates that do not name their Place are public; else they are the lane's own
	CV     uint64 // of such updates: version of the lane table at which this lane became the owner

	TTL          time.Duration // of profiles and records, renewed by each save. Default 30 days; keep it above the topic's retention
	TombstoneTTL time.Duration // of an erased user's tombstone. Default 90 days; must outlive the topic's retention

	DialTimeout  time.Duration // default 5 s
	ReadTimeout  time.Duration // for all replies of one pipeline. Default 3 s
	WriteTimeout time.Duration // for writing one pipeline. Default 3 s
	PoolSize     int           // connections per server. Default 16
	Pipeline     int           // saves per pipeline, 1..1024. Default 64: above that a batch waits longer and gains nothing

	JoinTTL time.Duration // of a user's join of impressions and outcomes, renewed by each change. Default 2 h; longer than its window

	HalfLife       time.Duration // of item-to-item transition counts; the same for every worker of a lane. Default 60 days
	TransitionKeep int           // successors kept per item, the strongest. Default 128
}

// TLS says how to reach a server that speaks it.
type TLS struct {
	Enabled    bool
	CAFile     string // PEM file of authorities to trust; empty = the system's
	CertFile   string // PEM file of the client's certificate; empty = none
	KeyFile    string // PEM file of the client's key
	ServerName string // name to verify; empty = the address's host
}

// String shows the configuration without the password, whatever prints it.
func (c Config) String() string {
	type plain Config
	if c.Password != "" {
		c.Password = "***"
	}
	return fmt.Sprintf("%+v", plain(c))
}

// withDefaults fills what was left out.
func (c Config) withDefaults() Config {
	if len(c.Addrs) == 0 {
		c.Addrs = []string{"127.0.0.1:6379"}
	}
	setDefault(&c.Prefix, "freshet")
	setDefault(&c.Lane, freshet.LiveLane)
	setDefault(&c.TTL, 30*24*time.Hour)
	setDefault(&c.TombstoneTTL, 90*24*time.Hour)
	setDefault(&c.DialTimeout, 5*time.Second)
	setDefault(&c.ReadTimeout, 3*time.Second)
	setDefault(&c.WriteTimeout, 3*time.Second)
	setDefault(&c.PoolSize, 16)
	setDefault(&c.Pipeline, 64)
	setDefault(&c.JoinTTL, 2*time.Hour)
	setDefault(&c.HalfLife, 60*24*time.Hour)
	setDefault(&c.TransitionKeep, 128)
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

var keyName = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,63}$`)

// Names of shared keys; a lane of such a name would write where frontends may read.
var reserved = []string{"recs", "popular", "trending", "similar", "item", "itemvec", "lanes", "join", "joins"}

// Validate refuses a configuration with an error that names the field and what it takes.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(len(c.Addrs) == 1 || c.Cluster, "redis.addrs: %d addresses of a single server; give one, or set redis.cluster", len(c.Addrs))
	check(!slices.Contains(c.Addrs, ""), "redis.addrs: an empty address; use host:port")
	check(c.DB >= 0, "redis.db: %d is negative", c.DB)
	check(!c.Cluster || c.DB == 0, "redis.db: a Cluster has only database 0, not %d", c.DB)
	check(keyName.MatchString(c.Prefix), "redis.prefix: %q; use 1 to 64 of a-z, 0-9, '_', '.', '-'", c.Prefix)
	errs = append(errs, ValidLane(c.Lane))
	check(c.TTL >= time.Second, "redis.ttl: %v; at least 1s", c.TTL)
	check(c.TombstoneTTL >= time.Second, "redis.tombstone_ttl: %v; at least 1s", c.TombstoneTTL)
	check(c.DialTimeout > 0, "redis.dial_timeout: %v; must be positive", c.DialTimeout)
	check(c.ReadTimeout > 0, "redis.read_timeout: %v; must be positive", c.ReadTimeout)
	check(c.WriteTimeout > 0, "redis.write_timeout: %v; must be positive", c.WriteTimeout)
	check(c.PoolSize > 0, "redis.pool_size: %d; at least 1", c.PoolSize)
	check(c.Pipeline >= 1 && c.Pipeline <= 1024, "redis.pipeline: %d; 1 to 1024", c.Pipeline)
	check(c.JoinTTL >= time.Second, "redis.join_ttl: %v; at least 1s", c.JoinTTL)
	check(c.HalfLife >= time.Minute, "redis.half_life: %v; at least 1m", c.HalfLife)
	check(c.TransitionKeep >= 1 && c.TransitionKeep <= 10_000, "redis.transition_keep: %d; 1 to 10000", c.TransitionKeep)
	check((c.TLS.CertFile == "") == (c.TLS.KeyFile == ""), "redis.tls: cert and key go together")
	check(c.TLS.Enabled || c.TLS == TLS{}, "redis.tls: files are given but redis.tls.enabled is not set")
	return errors.Join(errs...)
}

// ValidLane refuses names that cannot stand in a key, or that would collide with a shared one.
func ValidLane(name string) error {
	if !keyName.MatchString(name) {
		return fmt.Errorf("lane: %q; use 1 to 64 of a-z, 0-9, '_', '.', '-'", name)
	}
	if slices.Contains(reserved, name) {
		return fmt.Errorf("lane: %q is the name of a shared key; choose another", name)
	}
	return nil
}

// load reads the files; nil when TLS is off.
func (t TLS) load() (*tls.Config, error) {
	if !t.Enabled {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("redis.tls.ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("redis.tls.ca_file: %s holds no PEM certificate", t.CAFile)
		}
	}
	if t.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("redis.tls.cert_file and key_file: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
