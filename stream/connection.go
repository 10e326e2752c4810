package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

// SASL mechanisms.
const (
	SASLNone   = ""
	SASLPlain  = "plain"
	SASLSHA256 = "scram-sha-256"
	SASLSHA512 = "scram-sha-512"
)

// SASL is how a client names itself to the brokers.
type SASL struct {
	Mechanism string // "", plain, scram-sha-256 or scram-sha-512; default "" (none)
	Username  string
	Password  string // never printed
}

// String keeps the password out of logs.
func (s SASL) String() string { return fmt.Sprintf("{%s %s ***}", s.Mechanism, s.Username) }

// GoString keeps the password out of %#v.
func (s SASL) GoString() string { return s.String() }

// MarshalJSON keeps the password out of structured logs.
func (s SASL) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, `{"mechanism":%q,"username":%q}`, s.Mechanism, s.Username), nil
}

// Connection says where Kafka is and how to reach it. It is a value: parts of this package open their own sockets from it.
type Connection struct {
	Brokers     []string      // host:port of one or more brokers; the others are found through them
	ClientID    string        // name shown in the brokers' logs and quotas; default freshet
	TLS         *tls.Config   // nil = no TLS
	SASL        SASL          // default none
	DialTimeout time.Duration // for a connection with TLS and SASL; default 3 s
}

func (c Connection) withDefaults() Connection {
	if c.ClientID == "" {
		c.ClientID = "freshet"
	}
	if c.DialTimeout == 0 {
		c.DialTimeout = 3 * time.Second
	}
	return c
}

// Validate says which field cannot work.
func (c Connection) Validate() error {
	if len(c.Brokers) == 0 {
		return errors.New("kafka.brokers: at least one host:port is needed")
	}
	for i, b := range c.Brokers {
		if _, port, err := net.SplitHostPort(b); err != nil || port == "" {
			return fmt.Errorf("kafka.brokers[%d]: %q is not host:port", i, b)
		}
	}
	known := []string{SASLNone, SASLPlain, SASLSHA256, SASLSHA512}
	switch {
	case !slices.Contains(known, c.SASL.Mechanism):
		return fmt.Errorf("kafka.sasl.mechanism: %q is none of plain, scram-sha-256, scram-sha-512", c.SASL.Mechanism)
	case c.SASL.Mechanism != SASLNone && c.SASL.Username == "":
		return errors.New("kafka.sasl.username: missing")
	case c.DialTimeout < 0:
		return fmt.Errorf("kafka.dial_timeout: %v is negative", c.DialTimeout)
	}
	return nil
}

func (c Connection) mechanism() (sasl.Mechanism, error) {
	switch c.SASL.Mechanism {
	case SASLPlain:
		return plain.Mechanism{Username: c.SASL.Username, Password: c.SASL.Password}, nil
	case SASLSHA256:
		return scram.Mechanism(scram.SHA256, c.SASL.Username, c.SASL.Password)
	case SASLSHA512:
		return scram.Mechanism(scram.SHA512, c.SASL.Username, c.SASL.Password)
	}
	return nil, nil
}

// dialer serves the group membership, which kafka-go runs on plain connections.
func (c Connection) dialer() (*kafka.Dialer, error) {
	m, err := c.mechanism()
	if err != nil {
		return nil, fmt.Errorf("kafka.sasl: %w", err)
	}
	return &kafka.Dialer{ClientID: c.ClientID, Timeout: c.DialTimeout, TLS: c.TLS, SASLMechanism: m, KeepAlive: 30 * time.Second}, nil
}

// metadataTTL bounds how long a moved partition leader goes unnoticed; the transport draws its intervals below it.
const metadataTTL = 2 * time.Second

// client serves everything else. topics limits the metadata it keeps; none = all topics of the cluster.
func (c Connection) client(topics ...string) (*kafka.Client, *kafka.Transport, error) {
	m, err := c.mechanism()
	if err != nil {
		return nil, nil, fmt.Errorf("kafka.sasl: %w", err)
	}
	d := &net.Dialer{Timeout: c.DialTimeout, KeepAlive: 30 * time.Second}
	t := &kafka.Transport{
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return d.DialContext(ctx, network, addr)
		},
		DialTimeout:    c.DialTimeout,
		MetadataTTL:    metadataTTL,
		MetadataTopics: topics,
		ClientID:       c.ClientID,
		TLS:            c.TLS,
		SASL:           m,
	}
	return &kafka.Client{Addr: kafka.TCP(c.Brokers...), Transport: t}, t, nil
}
