package shop

import (
	"os"
	"testing"
)

// FRESHET_WRITE_SHOP=folder makes the training history there; the trainer reads it.
func TestWriteTrainingHistory(t *testing.T) {
	dir := os.Getenv("FRESHET_WRITE_SHOP")
	if dir == "" {
		dir = t.TempDir()
	}
	if err := New(TrainingSeed, Training()).Write(dir, 120_000); err != nil {
		t.Fatal(err)
	}
}
