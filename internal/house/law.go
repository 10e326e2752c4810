// Package house is the law of the house: which package may import which, which third party lives in which room, how long a file may
// be. It holds no code of the product; law_test.go holds the whole tree to it.
//
// The law in four sentences. Everything points to the root package, which imports the standard library only. Siblings never import
// each other. Only cmd/freshet sees all. A third party has one room, and a library without a room is not let in.
//
// Tests are free: a test may bring servers, fakes and fixtures from anywhere. The chaos suite (internal/chaos) is a program of its
// own that looks at freshet from outside, by other clients than freshet's; its permissions are listed apart.
package house

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// module is what import paths inside the project begin with.
const module = "freshet"

// maxLines is where a file has become two.
const maxLines = 600

// rooms says where a library may be imported: folders (with what lies below) or single files. The longest prefix decides.
var rooms = map[string][]string{
	"github.com/segmentio/kafka-go":           {"stream"},
	"github.com/redis/go-redis":               {"featurestore", "internal/chaos"},
	"github.com/yalue/onnxruntime_go":         {"models/session.go"},
	"github.com/sugarme/tokenizer":            {"models/text.go"},
	"google.golang.org/protobuf":              {"models"},
	"golang.org/x/text":                       {"models"},
	"github.com/prometheus":                   {"internal/telemetry"},
	"github.com/alicebob/miniredis":           {"internal/embedded"},
	"github.com/twmb/franz-go":                {"internal/embedded", "internal/chaos"},
	"github.com/twmb/franz-go/pkg/kfake":      {"internal/embedded"},
	"github.com/klauspost/compress":           {"internal/dataset"},
	"github.com/parquet-go":                   {"internal/dataset"},
	"github.com/expr-lang/expr":               {"internal/recommend"}, // rules over item fields
	"golang.org/x/image":                      {"internal/plot"},
	"github.com/HdrHistogram/hdrhistogram-go": {"internal/demo"},
	"golang.org/x/term":                       {"internal/demo", "cmd/freshet"},
	"golang.org/x/sync":                       {"cmd/freshet"},
	"github.com/spf13":                        {"cmd/freshet"},
	"github.com/goccy/go-yaml":                {"cmd/freshet"},
	"go.uber.org/zap":                         {"stream", "featurestore", "models", "internal", "cmd/freshet"},
}

// passages are the imports between rooms that the law allows, from -> to.
var passages = map[string][]string{
	"featurestore/storetest": {"featurestore"},                                 // the contract of a package's own stores
	"internal/chaos":         {"internal/chaos", "models"},                     // the oracle runs the same bundle, and shares nothing else
	"cmd/freshet":            {"featurestore", "models", "stream", "internal"}, // it sees all
}

// notTheProduct are packages that serve tests; the binary must not contain them.
var notTheProduct = []string{"internal/chaos", "internal/house", "featurestore/storetest"}

// within tells whether a folder or file is that room or lies in it.
func within(place, room string) bool { return place == room || strings.HasPrefix(place, room+"/") }

func withinAny(place string, list []string) bool {
	return slices.ContainsFunc(list, func(room string) bool { return within(place, room) })
}

// checkImport says what is wrong with one import of a file that is no test; "" = nothing. file is its path from the project's root.
func checkImport(file, imported string) string {
	from := path.Dir(file)
	first, _, _ := strings.Cut(imported, "/")
	switch {
	case imported == module:
		return ""
	case first == module:
		return checkPassage(from, strings.TrimPrefix(imported, module+"/"))
	case !strings.Contains(first, "."):
		return "" // the standard library
	case from == ".":
		return fmt.Sprintf("%s imports %s: the root package imports the standard library only", file, imported)
	}
	room, known := roomsOf(imported)
	switch {
	case !known:
		return fmt.Sprintf("%s imports %s, which has no room: is it needed, and where shall it live? (internal/house/law.go)", file, imported)
	case !withinAny(from, room) && !slices.Contains(room, file):
		return fmt.Sprintf("%s imports %s, which lives in %s", file, imported, strings.Join(room, ", "))
	}
	return ""
}

// roomsOf gives the rooms of the longest prefix of an import path that is listed.
func roomsOf(imported string) (room []string, known bool) {
	longest := ""
	for library, r := range rooms {
		if within(imported, library) && len(library) > len(longest) {
			longest, room, known = library, r, true
		}
	}
	return room, known
}

func checkPassage(from, to string) string {
	switch {
	case from == to:
		return ""
	case from == ".":
		return fmt.Sprintf("the root package imports %s: everything points to the root, never away from it", to)
	case withinAny(to, notTheProduct) && !withinAny(from, notTheProduct):
		return fmt.Sprintf("%s imports %s, which is for tests", from, to)
	}
	for room, open := range passages {
		if within(from, room) && withinAny(to, open) {
			return ""
		}
	}
	return fmt.Sprintf("%s imports %s: siblings never import each other; declare the interface you need and let cmd/freshet pass it in", from, to)
}

// checkLength says when a file has become two; "" = not yet.
func checkLength(file string, lines int) string {
	if lines <= maxLines {
		return ""
	}
	return fmt.Sprintf("%s has %d lines, at most %d: which of its things is a file of its own?", file, lines, maxLines)
}

// checkDoc says when a package's comment does not begin as Go wants it; "" = it does. name is the package's name.
func checkDoc(dir, name, doc string) string {
	start := "Package " + name + " "
	if name == "main" {
		start = "Command " + path.Base(dir) + " "
	}
	if strings.HasPrefix(doc, start) {
		return ""
	}
	return fmt.Sprintf("%s: the package's comment must begin with %q and say what the package is for", dir, start)
}
