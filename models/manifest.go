package models

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

// Limits of what a manifest may ask for. They keep a broken number from becoming a huge allocation.
const (
	formatVersion = 1
	maxDim        = 4096
	maxState      = 1 << 16 // floats a user
	maxCapacity   = 1 << 28 // rows
	maxWindow     = 256     // an entry's place within one event is a byte
)

// Manifest is manifest.json; docs/bundle.md says what each field means.
type Manifest struct {
	Format       int               `json:"format"`
	Name         string            `json:"name"`
	Fingerprint  string            `json:"fingerprint"` // 64 hex digits
	Architecture string            `json:"architecture"`
	Dim          int               `json:"dim"`
	State        StateSpec         `json:"state"`
	MaxHistory   int               `json:"max_history"`
	Items        int               `json:"items"`    // rows in use, the unknown item's among them
	Capacity     int               `json:"capacity"` // rows of items.f32
	EventTypes   []string          `json:"event_types"`
	Tasks        []string          `json:"tasks"`
	Text         *TextSpec         `json:"text,omitempty"` // nil: trained without text
	Opset        int64             `json:"opset"`
	Producer     string            `json:"producer"`
	Training     json.RawMessage   `json:"training,omitempty"`
	Metrics      json.RawMessage   `json:"metrics,omitempty"`
	Files        map[string]string `json:"files"` // name -> SHA-256, hex
}

// StateSpec is the shape of what the model remembers of one user.
type StateSpec struct {
	Size  int    `json:"size"` // numbers
	DType string `json:"dtype"`
}

// TextSpec names the text encoder that the item tower was trained on.
type TextSpec struct {
	Encoder string `json:"encoder"`
	SHA256  string `json:"sha256"` // of the encoder's weights; TextEncoder.Hash must equal it
	Dim     int    `json:"dim"`
}

// ParseManifest reads and judges a manifest: every field, and the fingerprint over the bytes themselves. Errors name the field.
func ParseManifest(raw []byte) (*Manifest, error) {
	var m Manifest
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("something follows the JSON object")
	}
	if err := m.validate(); err != nil {
		return nil, err
	}
	return &m, m.verifyFingerprint(raw)
}

func (m *Manifest) validate() error {
	switch {
	case m.Format != formatVersion:
		return fmt.Errorf("format: %d, this freshet reads %d", m.Format, formatVersion)
	case m.Name == "" || len(m.Name) > 64 || strings.ContainsFunc(m.Name, oddInName):
		return fmt.Errorf("name: %q, use 1 to 64 letters, digits, dots, dashes and underscores", m.Name)
	case m.Dim < 1 || m.Dim > maxDim:
		return fmt.Errorf("dim: %d, want 1 to %d", m.Dim, maxDim)
	case m.State.Size < 1 || m.State.Size > maxState:
		return fmt.Errorf("state.size: %d, want 1 to %d", m.State.Size, maxState)
	case m.State.DType != "float32":
		return fmt.Errorf("state.dtype: %q, want float32", m.State.DType)
	case m.MaxHistory < 1 || m.MaxHistory > maxWindow:
		return fmt.Errorf("max_history: %d, want 1 to %d", m.MaxHistory, maxWindow)
	case m.Items < 1:
		return fmt.Errorf("items: %d, want at least the unknown item", m.Items)
	case m.Capacity < m.Items || m.Capacity > maxCapacity:
		return fmt.Errorf("capacity: %d, want %d (items) to %d", m.Capacity, m.Items, maxCapacity)
	case len(m.EventTypes) == 0 || m.EventTypes[0] != "":
		return fmt.Errorf("event_types: the first must be the empty name of unknown types")
	case len(m.Tasks) == 0:
		return fmt.Errorf("tasks: empty")
	case m.Opset < 1:
		return fmt.Errorf("opset: %d", m.Opset)
	}
	if t := m.Text; t != nil && (t.Dim < 1 || t.Dim > maxDim || !isSHA256(t.SHA256)) {
		return fmt.Errorf("text: dim %d, sha256 %q; want 1 to %d and 64 hex digits", t.Dim, t.SHA256, maxDim)
	}
	if err := distinct("event_types", m.EventTypes); err != nil {
		return err
	}
	if err := distinct("tasks", m.Tasks); err != nil {
		return err
	}
	return m.validateFiles()
}

func oddInName(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r))
}

func distinct(field string, names []string) error {
	seen := make(map[string]bool, len(names))
	for i, n := range names {
		if seen[n] || n == "" && i > 0 {
			return fmt.Errorf("%s[%d]: %q is empty or stands twice", field, i, n)
		}
		seen[n] = true
	}
	return nil
}

func (m *Manifest) validateFiles() error {
	want := []string{stepFile, searchFile, matrixFile, biasFile, idsFile, parityFile}
	if m.Text != nil {
		want = append(want, towerFile)
	}
	for _, f := range want {
		if _, ok := m.Files[f]; !ok {
			return fmt.Errorf("files: %s is missing", f)
		}
	}
	for name, sum := range m.Files {
		if name != filepath.Base(name) || name == "." || name == ".." || name == manifestFile {
			return fmt.Errorf("files: %q is not the plain name of another file", name)
		}
		if !isSHA256(sum) {
			return fmt.Errorf("files: %s: %q, want 64 hex digits", name, sum)
		}
	}
	return nil
}

func isSHA256(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil && len(s) == 2*sha256.Size && s == strings.ToLower(s)
}

// verifyFingerprint recomputes it: SHA-256 of the manifest's own bytes with its 64 digits replaced by zeros.
func (m *Manifest) verifyFingerprint(raw []byte) error {
	if !isSHA256(m.Fingerprint) {
		return fmt.Errorf("fingerprint: %q, want 64 hex digits", m.Fingerprint)
	}
	if n := bytes.Count(raw, []byte(m.Fingerprint)); n != 1 {
		return fmt.Errorf("fingerprint: its digits stand in the file %d times, want once", n)
	}
	zeroed := bytes.Replace(raw, []byte(m.Fingerprint), bytes.Repeat([]byte("0"), len(m.Fingerprint)), 1)
	if sum := sha256.Sum256(zeroed); hex.EncodeToString(sum[:]) != m.Fingerprint {
		return fmt.Errorf("fingerprint: the manifest was changed after it was written (it says %s, its bytes give %x)", m.Fingerprint[:8], sum[:4])
	}
	return nil
}
