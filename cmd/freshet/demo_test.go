package main

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"testing"
	"time"

	"freshet/internal/demo"
)

// The whole worker on embedded servers: every event of a dirty stream is applied or buried, and every shopper has a list.
func TestDemoEndsWithItsFigures(t *testing.T) {
	if firstExisting("FRESHET_ONNXRUNTIME", "onnxruntime/libonnxruntime.so") == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("ONNX Runtime is missing: run make setup")
		}
		t.Skip("ONNX Runtime is missing: run make setup")
	}
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = in
	root := newRoot()
	root.SetArgs([]string{"demo", "--for", "4s", "--json", "--shoppers", "50", "--set", "model.bundle=../../models/bundles/shop", "--set", "model.encoder=none"})
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	err = root.ExecuteContext(ctx)
	os.Stdout = stdout
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	text, readErr := io.ReadAll(out)
	if err != nil || readErr != nil {
		t.Fatalf("%v, %v: %s", err, readErr, text)
	}
	var r demo.Result
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if r.EventsApplied < 300 || r.ActiveUsers < 40 || r.ListsWritten < r.ActiveUsers || r.DeadLetters != r.BadPlanted || r.BadPlanted == 0 {
		t.Fatalf("%+v", r)
	}
}
