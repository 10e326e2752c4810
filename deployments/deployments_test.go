// Package deployments_test holds the two ways to run real servers, docker-compose.yml and deployments/local, to the same
// versions and the same settings, and checks what both promise: loopback only, data kept, foreign processes left alone.
package deployments_test

import (
	"encoding/xml"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

// compose is what the tests look at in docker-compose.yml.
type compose struct {
	Services map[string]service `yaml:"services"`
	Volumes  map[string]any     `yaml:"volumes"`
}

type service struct {
	Image       string            `yaml:"image"`
	Command     []string          `yaml:"command"`
	Environment map[string]string `yaml:"environment"`
	Ports       []string          `yaml:"ports"`
	Volumes     []string          `yaml:"volumes"`
	Healthcheck map[string]any    `yaml:"healthcheck"`
	DependsOn   map[string]struct {
		Condition string `yaml:"condition"`
	} `yaml:"depends_on"`
}

func readCompose(t *testing.T) compose {
	t.Helper()
	var c compose
	if err := yaml.Unmarshal([]byte(read(t, "../docker-compose.yml")), &c); err != nil {
		t.Fatalf("docker-compose.yml: %v", err)
	}
	return c
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// find returns the first group of the pattern in the file.
func find(t *testing.T, path, pattern string) string {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(read(t, path))
	if m == nil {
		t.Fatalf("%s: nothing matches %s", path, pattern)
	}
	return m[1]
}

// properties reads key=value lines (Kafka) or key value lines (Redis).
func properties(t *testing.T, path, separator string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for line := range strings.Lines(read(t, path)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, value, ok := strings.Cut(line, separator)
		if !ok {
			t.Errorf("%s: %q is no setting", path, line)
		}
		if _, twice := out[key]; twice {
			t.Errorf("%s: %s is set twice", path, key)
		}
		out[key] = value
	}
	return out
}

func wantAll(t *testing.T, got, want map[string]string) {
	t.Helper()
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if got[key] != want[key] {
			t.Errorf("%s is %q, want %q", key, got[key], want[key])
		}
	}
}

func tagOf(image string) string {
	_, tag, _ := strings.Cut(image, ":")
	return tag
}

func TestBothWaysRunTheSameKafka(t *testing.T) {
	var pom struct {
		Kafka string `xml:"properties>kafka.version"`
	}
	if err := xml.Unmarshal([]byte(read(t, "local/pom.xml")), &pom); err != nil {
		t.Fatalf("local/pom.xml: %v", err)
	}
	if tag := tagOf(readCompose(t).Services["kafka"].Image); tag != pom.Kafka {
		t.Errorf("docker-compose.yml runs Kafka %s, deployments/local %s", tag, pom.Kafka)
	}
	for _, artifact := range []string{"kafka_2.13", "kafka-clients", "kafka-server", "kafka-tools"} {
		if got := find(t, "local/kafka.sums", `(?m)^[0-9a-f]{64}  `+regexp.QuoteMeta(artifact)+`-([0-9.]+)\.jar$`); got != pom.Kafka {
			t.Errorf("local/kafka.sums pins %s %s, local/pom.xml names %s: run deployments/setup/kafka.sh pin", artifact, got, pom.Kafka)
		}
	}
}

func TestBothWaysRunTheSameRedis(t *testing.T) {
	image := strings.TrimSuffix(tagOf(readCompose(t).Services["redis"].Image), "-bookworm")
	if debian := find(t, "setup/redis.sh", `(?m)^debian_12=(\S+)$`); image != debian {
		t.Errorf("docker-compose.yml runs Redis %s, Debian 12 and so deployments/local %s", image, debian)
	}
}

// Each server has one file of settings, which both ways start from; they may add nothing but addresses and folders.
func TestBothWaysUseTheSameSettings(t *testing.T) {
	c := readCompose(t)

	t.Run("redis", func(t *testing.T) {
		redis := c.Services["redis"]
		if !slices.Contains(redis.Volumes, "./deployments/redis.conf:/etc/redis.conf:ro") || len(redis.Command) < 2 || redis.Command[1] != "/etc/redis.conf" {
			t.Errorf("docker-compose.yml does not start Redis from deployments/redis.conf: %v with %v", redis.Command, redis.Volumes)
		}
		line := find(t, "local/up", `(?m)^\s*launch "\$2" (redis-server "\$home/redis\.conf".*)$`)
		line += " " + find(t, "local/up", `(?m)^\s*cluster=\((--.*)\)$`)
		allowed := []string{"bind", "port", "dir", "daemonize", "protected-mode", "cluster-enabled", "cluster-port"}
		for where, command := range map[string]string{"docker-compose.yml": strings.Join(redis.Command, " "), "local/up": line} {
			for _, m := range regexp.MustCompile(`--(\S+)`).FindAllStringSubmatch(command, -1) {
				if !slices.Contains(allowed, m[1]) {
					t.Errorf("%s sets %s for Redis; it belongs into deployments/redis.conf", where, m[1])
				}
			}
		}
	})

	t.Run("kafka", func(t *testing.T) {
		kafka := c.Services["kafka"]
		if !slices.Contains(kafka.Volumes, "./deployments/kafka.properties:/mnt/shared/config/server.properties:ro") {
			t.Errorf("docker-compose.yml does not mount deployments/kafka.properties: %v", kafka.Volumes)
		}
		if script := read(t, "local/up"); !strings.Contains(script, `cat "$home/kafka.properties"`) {
			t.Error("deployments/local/up does not start from deployments/kafka.properties")
		}
		allowed := []string{"listeners", "advertised.listeners", "listener.security.protocol.map", "controller.quorum.voters", "log.dirs"}
		for name := range kafka.Environment {
			key, ours := strings.CutPrefix(name, "KAFKA_")
			key = strings.ToLower(strings.ReplaceAll(key, "_", "."))
			if ours && key != "heap.opts" && !slices.Contains(allowed, key) {
				t.Errorf("docker-compose.yml sets %s; it belongs into deployments/kafka.properties", key)
			}
		}
		for _, m := range regexp.MustCompile(`(?m)^\s*printf '([a-z.]+)=`).FindAllStringSubmatch(read(t, "local/up"), -1) {
			if !slices.Contains(allowed, m[1]) {
				t.Errorf("local/up sets %s; it belongs into deployments/kafka.properties", m[1])
			}
		}
		heap := find(t, "local/up", `FRESHET_LOCAL_KAFKA_HEAP:-([^}]+)\}`)
		if got, want := kafka.Environment["KAFKA_HEAP_OPTS"], fmt.Sprintf("-Xms%[1]s -Xmx%[1]s", heap); got != want {
			t.Errorf("docker-compose.yml gives Kafka %q, local/up %q", got, want)
		}
	})
}

// What freshet's guarantees rest on (../docs and ARCHITECTURE.md say why), whoever edits these files.
func TestSettingsThatTheGuaranteesNeed(t *testing.T) {
	wantAll(t, properties(t, "redis.conf", " "), map[string]string{
		"appendonly":       "yes",
		"appendfsync":      "everysec",
		"maxmemory-policy": "noeviction",
	})
	wantAll(t, properties(t, "kafka.properties", "="), map[string]string{
		"process.roles":                            "broker,controller",
		"auto.create.topics.enable":                "false",
		"group.initial.rebalance.delay.ms":         "0",
		"default.replication.factor":               "1",
		"offsets.topic.replication.factor":         "1",
		"transaction.state.log.replication.factor": "1",
		"transaction.state.log.min.isr":            "1",
	})
}

func TestEverythingIsPublishedOnLoopbackOnly(t *testing.T) {
	for name, s := range readCompose(t).Services {
		for _, port := range s.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("docker-compose.yml publishes %s of %s beyond loopback", port, name)
			}
		}
	}
	up := read(t, "local/up")
	if !strings.Contains(up, "--bind 127.0.0.1 ") {
		t.Error("local/up does not bind Redis to loopback")
	}
	listeners := regexp.MustCompile(`[A-Z]+://[^:]+`).FindAllString(up, -1)
	if len(listeners) < 3 {
		t.Fatalf("local/up: found only the listeners %v", listeners)
	}
	for _, l := range listeners {
		if !strings.HasSuffix(l, "://127.0.0.1") {
			t.Errorf("local/up opens %s", l)
		}
	}
}

func TestComposeKeepsDataAndWaitsForHealth(t *testing.T) {
	c := readCompose(t)
	for _, name := range []string{"kafka", "redis", "freshet"} {
		if s, ok := c.Services[name]; !ok || s.Healthcheck["test"] == nil {
			t.Errorf("service %s has no health check", name)
		}
	}
	for _, name := range []string{"kafka", "redis"} {
		if got := c.Services["freshet"].DependsOn[name].Condition; got != "service_healthy" {
			t.Errorf("freshet waits for %s by %q, want service_healthy", name, got)
		}
		if _, ok := c.Volumes[name]; !ok {
			t.Errorf("no volume keeps the data of %s", name)
		}
	}
	kafka, redis := c.Services["kafka"], c.Services["redis"]
	if data := kafka.Environment["KAFKA_LOG_DIRS"]; !slices.Contains(kafka.Volumes, "kafka:"+data) {
		t.Errorf("Kafka writes to %s, the volumes are %v", data, kafka.Volumes)
	}
	if i := slices.Index(redis.Command, "--dir"); i < 0 || !slices.Contains(redis.Volumes, "redis:"+redis.Command[i+1]) {
		t.Errorf("Redis runs %v, the volumes are %v", redis.Command, redis.Volumes)
	}
}

func TestTheImageIsBuiltWithTheModulesGoAndRunsAsNobody(t *testing.T) {
	if image, mod := find(t, "Dockerfile", `FROM golang:([0-9]+\.[0-9]+)\.`), find(t, "../go.mod", `(?m)^go ([0-9]+\.[0-9]+)\.`); image != mod {
		t.Errorf("the image is built with Go %s, go.mod names %s", image, mod)
	}
	stages := regexp.MustCompile(`(?m)^FROM `).Split(read(t, "Dockerfile"), -1)
	user := regexp.MustCompile(`(?m)^USER (\S+)$`).FindStringSubmatch(stages[len(stages)-1])
	if user == nil || strings.HasPrefix(user[1], "0") || strings.HasPrefix(user[1], "root") {
		t.Errorf("the image runs as %v", user)
	}
}

// The variables that compose hands to freshet are keys of its configuration: the binary refuses one that is not.
func TestFreshetUnderstandsItsEnvironment(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the binary")
	}
	binary := filepath.Join(t.TempDir(), "freshet")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", binary, "./cmd/freshet")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build freshet: %v\n%s", err, out)
	}
	environment := readCompose(t).Services["freshet"].Environment
	config := exec.Command(binary, "config")
	for key, value := range environment {
		config.Env = append(config.Env, key+"="+value)
	}
	for _, m := range regexp.MustCompile(`(FRESHET_MODEL_\w+)=(\S+)`).FindAllStringSubmatch(read(t, "Dockerfile"), -1) {
		config.Env = append(config.Env, m[1]+"="+m[2])
	}
	out, err := config.CombinedOutput()
	if err != nil {
		t.Fatalf("freshet config: %v\n%s", err, out)
	}
	for key, value := range environment {
		if !strings.Contains(string(out), value) {
			t.Errorf("%s=%s does not show in freshet config", key, value)
		}
	}
}

// A process number is given again once its process has ended: `down` must not end whoever has it now.
func TestDownEndsOnlyWhatUpStarted(t *testing.T) {
	other := exec.Command("sleep", "60")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() { gone <- other.Wait() }()
	t.Cleanup(func() {
		_ = other.Process.Kill()
		<-gone
	})

	name := fmt.Sprintf("gotest-%d", os.Getpid())
	folder := filepath.Join("..", ".freshet", "local", name)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	down := func(began string) {
		t.Helper()
		line := fmt.Sprintf("%d %s\n", other.Process.Pid, began)
		if err := os.WriteFile(filepath.Join(folder, "redis.pid"), []byte(line), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("local/down")
		cmd.Env = append(os.Environ(), "FRESHET_LOCAL_NAME="+name)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("down: %v\n%s", err, out)
		}
	}

	// Fields of proc(5): the third is the state (Z: ended), the twenty-second when the process began.
	stat := func() []string { return strings.Fields(read(t, fmt.Sprintf("/proc/%d/stat", other.Process.Pid))) }
	began := stat()[21]
	down(began + "1") // the same number, another beginning
	if state := stat()[2]; state == "Z" {
		t.Fatal("down ended a process that up had not started")
	}

	down(began)
	select {
	case err := <-gone:
		gone <- err
	case <-time.After(30 * time.Second):
		t.Fatal("down left running what its record names")
	}
}

func TestScriptsParseAndMayBeRun(t *testing.T) {
	scripts, err := filepath.Glob("setup/*.sh")
	if err != nil {
		t.Fatal(err)
	}
	scripts = append(scripts, "local/up", "local/down", "local/kill", "local/lib.sh", "test/run", "bench/cluster", "chaos/run", "real/run", "fuzz/run", "../.ci/run")
	for _, script := range scripts {
		if out, err := exec.Command("bash", "-n", script).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", script, err, out)
		}
		info, err := os.Stat(script)
		if err != nil {
			t.Fatal(err)
		}
		sourced := filepath.Base(script) == "lib.sh"
		if runnable := info.Mode()&0o111 != 0; runnable == sourced {
			t.Errorf("%s: mode %v", script, info.Mode())
		}
	}
}
