package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"time"

	"freshet"
	"freshet/featurestore"
	"freshet/stream"
)

// storeConfig says how to reach Redis, for the configured lane.
func storeConfig(c Config) featurestore.Config {
	r := c.Redis
	return featurestore.Config{Addrs: r.Addrs, Cluster: r.Cluster, Username: r.Username, Password: string(r.Password), DB: r.DB,
		TLS:    featurestore.TLS{Enabled: r.TLS.Enabled, CAFile: r.TLS.CAFile, CertFile: r.TLS.CertFile, KeyFile: r.TLS.KeyFile, ServerName: r.TLS.ServerName},
		Prefix: r.Prefix, Lane: c.Lane, Owner: c.Lane == freshet.LiveLane, CV: 1, TTL: r.TTL.D(),
		JoinTTL:  2*c.Feedback.Window.D() + time.Hour,
		HalfLife: c.Covisit.HalfLife.D(), TransitionKeep: c.Covisit.Keep}
}

// connection says how to reach Kafka.
func connection(c Config) (stream.Connection, error) {
	k := c.Kafka
	conn := stream.Connection{Brokers: k.Brokers, ClientID: "freshet",
		SASL: stream.SASL{Mechanism: strings.ToLower(k.SASL.Mechanism), Username: k.SASL.Username, Password: string(k.SASL.Password)}}
	if k.TLS.Enabled {
		t, err := tlsConfig(k.TLS)
		if err != nil {
			return conn, fmt.Errorf("kafka.tls: %w", err)
		}
		conn.TLS = t
	}
	return conn, conn.Validate()
}

func tlsConfig(t TLSConfig) (*tls.Config, error) {
	out := &tls.Config{ServerName: t.ServerName, MinVersion: tls.VersionTLS12}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file: no certificate in %s", t.CAFile)
		}
	}
	if t.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("cert_file, key_file: %w", err)
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}

// topicsOf are the topics as they are created where they are missing.
func topicsOf(c Config) []stream.Topic {
	k := c.Kafka
	return []stream.Topic{
		{Name: k.Topics.Events, Partitions: k.Partitions, Replicas: k.Replication, Retention: k.Retention.D(), MaxMessageBytes: freshet.MaxEventBytes + 64<<10},
		{Name: k.Topics.Items, Partitions: k.Partitions, Replicas: k.Replication, Compact: true},
		{Name: k.Topics.Recommendations, Partitions: k.Partitions, Replicas: k.Replication, Compact: true},
		{Name: k.Topics.Examples, Partitions: k.Partitions, Replicas: k.Replication, Retention: 4 * k.Retention.D()},
		{Name: k.Topics.DeadLetters, Partitions: k.Partitions, Replicas: k.Replication, Retention: 4 * k.Retention.D(), MaxMessageBytes: deadLetterBytes},
	}
}

// deadLetterBytes is the input's largest message and 128 KiB, for what is added to it.
const deadLetterBytes = freshet.MaxEventBytes + 64<<10 + 128<<10
