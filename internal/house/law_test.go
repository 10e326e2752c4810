package house

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// listed is what `go list` says of a package. Files of other platforms and build tags are among the ignored ones: the law holds
// for them, too.
type listed struct {
	Dir, ImportPath, Name                                        string
	GoFiles, CgoFiles, IgnoredGoFiles, TestGoFiles, XTestGoFiles []string
}

// packages lists the whole module.
func packages(t *testing.T) (root string, list []listed) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "list", "-e", "-json=Dir,ImportPath,Name,GoFiles,CgoFiles,IgnoredGoFiles,TestGoFiles,XTestGoFiles", "./...")
	cmd.Dir = root
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, complaints.String())
	}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	if len(list) < 15 {
		t.Fatalf("go list names %d packages only", len(list))
	}
	return root, list
}

// sources are the files of a package, those that are no tests, and the tests.
func (p *listed) sources() (code, tests []string) {
	for _, name := range append(append(append([]string{}, p.GoFiles...), p.CgoFiles...), p.IgnoredGoFiles...) {
		if strings.HasSuffix(name, "_test.go") {
			tests = append(tests, name)
		} else {
			code = append(code, name)
		}
	}
	return code, append(append(tests, p.TestGoFiles...), p.XTestGoFiles...)
}

func parse(t *testing.T, file string, mode parser.Mode) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, mode)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestEveryImportKeepsTheLaw(t *testing.T) {
	root, list := packages(t)
	seen := map[string]bool{}
	for _, p := range list {
		code, _ := p.sources()
		for _, name := range code {
			path := filepath.Join(p.Dir, name)
			rel, err := filepath.Rel(root, path)
			if err != nil {
				t.Fatal(err)
			}
			for _, imp := range parse(t, path, parser.ImportsOnly).Imports {
				imported, err := strconv.Unquote(imp.Path.Value)
				if err != nil {
					t.Fatal(err)
				}
				seen[imported] = true
				if wrong := checkImport(filepath.ToSlash(rel), imported); wrong != "" {
					t.Error(wrong)
				}
			}
		}
	}
	// The goal's own list: each of these is on the path of every event, so it must be imported somewhere.
	for _, library := range []string{"github.com/segmentio/kafka-go", "github.com/redis/go-redis/v9", "github.com/yalue/onnxruntime_go",
		"github.com/sugarme/tokenizer", "go.uber.org/zap"} {
		if !seen[library] {
			t.Errorf("nothing imports %s: did this test look at the files?", library)
		}
	}
}

// What the root package needs in the end, through whatever it imports.
func TestTheRootNeedsTheStandardLibraryOnly(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", module).Output()
	if err != nil {
		t.Fatalf("go list -deps: %v", err)
	}
	if got := strings.Fields(string(out)); len(got) != 1 || got[0] != module {
		t.Errorf("the root package needs %v", got)
	}
}

func TestEveryRoomStands(t *testing.T) {
	for library, room := range rooms {
		for _, place := range room {
			if _, err := os.Stat(filepath.Join("../..", place)); err != nil {
				t.Errorf("%s lives in %s, which is not there", library, place)
			}
		}
	}
}

func TestNoFileIsTooLong(t *testing.T) {
	root, list := packages(t)
	for _, p := range list {
		code, tests := p.sources()
		for _, name := range append(code, tests...) {
			path := filepath.Join(p.Dir, name)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			rel, _ := filepath.Rel(root, path)
			if wrong := checkLength(rel, bytes.Count(b, []byte("\n"))); wrong != "" {
				t.Error(wrong)
			}
		}
	}
}

// One file of each package carries its comment; a package of tests alone has it in a test.
func TestEveryPackageSaysWhatItIs(t *testing.T) {
	root, list := packages(t)
	for _, p := range list {
		code, tests := p.sources()
		if len(code) == 0 {
			code = tests
		}
		doc, name := "", ""
		for _, file := range code {
			f := parse(t, filepath.Join(p.Dir, file), parser.PackageClauseOnly|parser.ParseComments)
			if f.Doc != nil && doc == "" {
				doc, name = f.Doc.Text(), f.Name.Name
			}
		}
		if name == "" {
			name = p.Name
		}
		rel, _ := filepath.Rel(root, p.Dir)
		if wrong := checkDoc(filepath.ToSlash(rel), name, doc); wrong != "" {
			t.Error(wrong)
		}
	}
}

// The law can be broken: made-up files that break it in every way, and their neighbours that do not.
func TestTheLawRefuses(t *testing.T) {
	for _, c := range []struct{ file, imported, wrong string }{
		{"event.go", "time", ""},
		{"event.go", "go.uber.org/zap", "the standard library only"},
		{"event.go", "freshet/stream", "never away from it"},
		{"stream/consumer.go", "freshet", ""},
		{"stream/consumer.go", "github.com/segmentio/kafka-go/sasl/scram", ""},
		{"stream/consumer.go", "freshet/featurestore", "siblings never import each other"},
		{"stream/consumer.go", "freshet/internal/recommend", "siblings never import each other"},
		{"stream/consumer.go", "github.com/redis/go-redis/v9", "lives in featurestore"},
		{"internal/recommend/engine.go", "freshet/internal/candidate", "siblings never import each other"},
		{"internal/recommend/engine.go", "freshet/models", "siblings never import each other"},
		{"internal/recommend/engine.go", "freshet/cmd/freshet", "siblings never import each other"},
		{"internal/recommend/engine.go", "github.com/segmentio/kafka-go", "lives in stream"},
		{"internal/recommend/engine.go", "go.uber.org/zap", ""},
		{"models/session.go", "github.com/yalue/onnxruntime_go", ""},
		{"models/index.go", "github.com/yalue/onnxruntime_go", "lives in models/session.go"},
		{"models/text.go", "github.com/sugarme/tokenizer/model/wordpiece", ""},
		{"models/bundle.go", "github.com/sugarme/tokenizer", "lives in models/text.go"},
		{"models/tower.go", "google.golang.org/protobuf/encoding/protowire", ""},
		{"internal/embedded/servers.go", "github.com/twmb/franz-go/pkg/kfake", ""},
		{"internal/chaos/topic/topic.go", "github.com/twmb/franz-go/pkg/kgo", ""},
		{"internal/chaos/topic/topic.go", "github.com/twmb/franz-go/pkg/kfake", "lives in internal/embedded"},
		{"stream/consumer.go", "github.com/twmb/franz-go/pkg/kgo", "lives in internal/embedded"},
		{"cmd/freshet/worker.go", "freshet/internal/recommend", ""},
		{"cmd/freshet/worker.go", "freshet/models", ""},
		{"cmd/freshet/worker.go", "github.com/prometheus/client_golang/prometheus", "lives in internal/telemetry"},
		{"cmd/freshet/worker.go", "freshet/internal/chaos/expect", "is for tests"},
		{"cmd/freshet/worker.go", "freshet/featurestore/storetest", "is for tests"},
		{"internal/chaos/oracle/main.go", "freshet/internal/chaos/expect", ""},
		{"internal/chaos/oracle/main.go", "freshet/models", ""},
		{"internal/chaos/oracle/main.go", "freshet/internal/recommend", "siblings never import each other"},
		{"internal/chaos/expect/chain.go", "freshet/stream", "siblings never import each other"},
		{"internal/dataset/file.go", "github.com/klauspost/compress/zstd", ""},
		{"internal/dataset/file.go", "github.com/somebody/something", "has no room"},
		{"stream/consumer.go", "github.com/segmentio/kafka-gopher", "has no room"},
	} {
		got := checkImport(c.file, c.imported)
		if (c.wrong == "") != (got == "") || !strings.Contains(got, c.wrong) {
			t.Errorf("%s imports %s: got %q, want %q", c.file, c.imported, got, c.wrong)
		}
	}
	if checkLength("a.go", maxLines) != "" || checkLength("a.go", maxLines+1) == "" {
		t.Error("the limit of lines is not kept")
	}
	for _, c := range []struct {
		dir, name, doc string
		good           bool
	}{
		{"stream", "stream", "Package stream is Kafka.", true},
		{"stream", "stream", "", false},
		{"stream", "stream", "This package is Kafka.", false},
		{"cmd/freshet", "main", "Command freshet is a recommender.", true},
		{"cmd/freshet", "main", "Package main runs it.", false},
	} {
		if got := checkDoc(c.dir, c.name, c.doc); (got == "") != c.good {
			t.Errorf("%s, %q: %q", c.dir, c.doc, got)
		}
	}
}
