package main

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var rewrite = flag.Bool("rewrite", false, "write the transcripts anew from what the program prints")

// TestMain lets the transcripts call this test's own binary as `freshet`.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"freshet": main})
}

// The transcripts in testdata/script are what a person at a terminal types and sees. None of them needs a server.
func TestCommandLine(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	library := firstExisting("FRESHET_ONNXRUNTIME", "onnxruntime/libonnxruntime.so")
	if library == "" && os.Getenv("CI") == "true" {
		t.Fatal("ONNX Runtime was not found: run make setup")
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		UpdateScripts:       *rewrite,
		Setup: func(e *testscript.Env) error {
			e.Setenv("ROOT", root)
			e.Setenv("FRESHET_ONNXRUNTIME", library)
			e.Setenv("FRESHET_ENCODER", "none")
			return nil
		},
		Condition: func(cond string) (bool, error) {
			return cond == "onnxruntime" && library != "", nil
		},
	})
}
