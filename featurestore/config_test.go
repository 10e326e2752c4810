package featurestore_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"freshet"
	"freshet/featurestore"
	"freshet/featurestore/storetest"
)

func TestConfigNamesTheFieldAndTheFix(t *testing.T) {
	if err := (featurestore.Config{}).Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	for says, cfg := range map[string]featurestore.Config{
		"redis.cluster":       {Addrs: []string{"a:1", "b:1"}},
		"redis.addrs":         {Addrs: []string{""}},
		"redis.db":            {Cluster: true, DB: 1},
		"redis.prefix":        {Prefix: "a{b"},
		"shared key":          {Lane: "recs"},
		"lane:":               {Lane: "a:b"},
		"redis.ttl":           {TTL: -time.Second},
		"redis.tombstone_ttl": {TombstoneTTL: time.Millisecond},
		"redis.read_timeout":  {ReadTimeout: -1},
		"redis.pool_size":     {PoolSize: -1},
		"redis.pipeline":      {Pipeline: 5000},
		"redis.half_life":     {HalfLife: time.Second},
		"cert and key":        {TLS: featurestore.TLS{Enabled: true, CertFile: "x"}},
		"redis.tls.enabled":   {TLS: featurestore.TLS{CAFile: "x"}},
	} {
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: error %v, want %q", cfg, err, says)
		}
	}
	missing := featurestore.Config{TLS: featurestore.TLS{Enabled: true, CAFile: filepath.Join(t.TempDir(), "none.pem")}}
	if _, err := featurestore.Open(t.Context(), missing, nop()); err == nil || !strings.Contains(err.Error(), "redis.tls.ca_file") {
		t.Errorf("a CA file that is not there: %v", err)
	}
}

func TestKeysAreThoseOfTheContract(t *testing.T) {
	s := startServer(t)
	r, admin := open(t, storetest.Config(featurestore.Config{Addrs: []string{s.addr}})), s.admin(t)
	ctx := t.Context()
	u := first("a {b}%\n", "x")
	u.Records = append(u.Records, freshet.Record{Surface: "video", Value: storetest.Record(7, 1, "v")})
	mustSave(t, r, u)
	scored := []featurestore.Scored{{ItemID: "i", Score: 1}}
	for _, err := range []error{
		r.PutItems(ctx, []freshet.Item{{ItemID: "i9"}}), r.PutVectors(ctx, []featurestore.ItemVector{{ItemID: "i9"}}),
		r.SetPopular(ctx, "", scored), r.SetPopular(ctx, "shop", scored), r.SetTrending(ctx, scored), r.SetSimilar(ctx, "i9", scored),
		r.SetDefault(ctx, freshet.HomeSurface, []byte("{}")), r.SetDefault(ctx, "video", []byte("{}")),
		r.AddTransitions(ctx, []featurestore.Transition{{From: "i9", To: "i8", Weight: 1, Time: noon.UnixMilli()}}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for key, kind := range map[string]string{
		"freshet:live:profile:{a%20%7Bb%7D%25%0A}": "string", "freshet:recs:{a%20%7Bb%7D%25%0A}": "string",
		"freshet:recs:{a%20%7Bb%7D%25%0A}:video": "string", "freshet:recs:default": "string", "freshet:recs:default:video": "string",
		"freshet:popular": "zset", "freshet:popular:shop": "zset", "freshet:trending": "zset", "freshet:similar:{i9}": "zset",
		"freshet:item:{i9}": "hash", "freshet:itemvec:{i9}": "string", "freshet:live:covisit:{i9}": "zset",
	} {
		if got, err := admin.Type(ctx, key).Result(); err != nil || got != kind {
			t.Errorf("%s is a %s, %v; want a %s", key, got, err, kind)
		}
	}
	if n, err := admin.DBSize(ctx).Result(); err != nil || n != 12 {
		t.Errorf("%d keys, %v; want the 12 above", n, err)
	}
}

func TestTransitionsSurviveAnotherHalfLife(t *testing.T) {
	s := startServer(t)
	cfg := featurestore.Config{Addrs: []string{s.addr}, HalfLife: time.Hour}
	fast := open(t, cfg)
	cfg.HalfLife = 24 * time.Hour
	slow := open(t, cfg)
	step := func(to string) []featurestore.Transition {
		return []featurestore.Transition{{From: "a", To: to, Weight: 1, Time: noon.UnixMilli()}}
	}
	for _, act := range []struct {
		store *featurestore.Redis
		to    string
	}{{fast, "x"}, {slow, "y"}, {slow, "z"}} { // x, counted by the hour, would stand above everything for years
		if err := act.store.AddTransitions(t.Context(), step(act.to)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := slow.Transitions(t.Context(), []string{"a"}, 10, noon)
	if err != nil || len(got[0]) != 2 || math.Abs(got[0][0].Score-1) > 1e-6 || math.Abs(got[0][1].Score-1) > 1e-6 {
		t.Errorf("got %v, %v; want y and z with 1 each", got, err)
	}
	// An event from long ago is no reason to forget what is known.
	old := []featurestore.Transition{{From: "a", To: "old", Weight: 1, Time: noon.AddDate(-10, 0, 0).UnixMilli()}}
	if err := slow.AddTransitions(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	if got, err = slow.Transitions(t.Context(), []string{"a"}, 10, noon); err != nil || len(got[0]) != 3 || got[0][2].ItemID != "old" {
		t.Errorf("got %v, %v; want the old step last", got, err)
	}
}

func TestMemoryLetsValuesExpire(t *testing.T) {
	now := noon
	m, err := featurestore.NewMemory(storetest.Config(featurestore.Config{}), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	u := first("u", "a")
	if got, err := m.Save(t.Context(), []freshet.Update{u}); err != nil || got[0] != freshet.Saved {
		t.Fatal(got, err)
	}
	now = now.Add(time.Hour)
	if got, err := m.Load(t.Context(), []string{"u"}); err != nil || got[0] != nil {
		t.Errorf("after its lifetime: %d bytes, %v", len(got[0]), err)
	}
	if got, err := m.Save(t.Context(), []freshet.Update{next(u, "b")}); err != nil || got[0] != freshet.Lost {
		t.Errorf("a save from what expired: %v, %v", got, err)
	}
}

func TestInspection(t *testing.T) {
	s := startServer(t, "--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory", "100mb", "--maxmemory-policy", "noeviction")
	r := open(t, storetest.Config(featurestore.Config{Addrs: []string{s.addr}}))
	mustSave(t, r, first("u", "a"))
	if err := r.SetTrending(t.Context(), []featurestore.Scored{{ItemID: "i", Score: 1}}); err != nil {
		t.Fatal(err)
	}
	in, err := r.Inspect(t.Context())
	if err != nil || len(in.Servers) != 1 || in.Cluster || in.TTL != time.Hour {
		t.Fatalf("%+v, %v", in, err)
	}
	got := in.Servers[0]
	if got.Version == "" || got.RunID == "" || got.UsedMemory == 0 {
		t.Errorf("empty fields: %+v", got)
	}
	got.Version, got.RunID, got.UsedMemory, got.Uptime = "", "", 0, 0
	want := featurestore.Server{Address: s.addr, Mode: "standalone", MaxMemory: 100 << 20, Policy: "noeviction", AppendOnly: "yes",
		AppendFsync: "everysec", Keys: 3, WithoutTTL: 1, LastSaveOK: true, ScriptsKnown: true}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if n, err := r.MemoryUsage(t.Context(), "nobody"); err != nil || n != 0 {
		t.Errorf("memory of nobody: %d, %v", n, err)
	}
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := selfSigned(t, dir)
	s := startServer(t)
	tlsPort := freePort(t)
	if err := s.admin(t).Do(t.Context(), "config", "set", "tls-cert-file", cert, "tls-key-file", key, "tls-ca-cert-file", cert,
		"tls-port", tlsPort).Err(); err != nil {
		unavailable(t, "redis-server was built without TLS: "+err.Error())
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(tlsPort))
	r := open(t, featurestore.Config{Addrs: []string{addr}, TLS: featurestore.TLS{Enabled: true, CAFile: cert, CertFile: cert, KeyFile: key}})
	mustSave(t, r, first("u", "a"))
	for name, bad := range map[string]featurestore.TLS{
		"an authority that did not sign": {Enabled: true, CertFile: cert, KeyFile: key},
		"another server's name":          {Enabled: true, CAFile: cert, CertFile: cert, KeyFile: key, ServerName: "elsewhere.example"},
		"no client certificate":          {Enabled: true, CAFile: cert},
		"no TLS":                         {},
	} {
		cfg := featurestore.Config{Addrs: []string{addr}, TLS: bad, ReadTimeout: time.Second}
		if _, err := featurestore.Open(t.Context(), cfg, nop()); !errors.Is(err, freshet.ErrUnavailable) {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
	}
}

// selfSigned makes a certificate for loopback, good for server and client.
func selfSigned(t *testing.T, dir string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "freshet test"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "EC PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}
