package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

// Duration is a time.Duration written like 10s.
type Duration time.Duration

func (d Duration) String() string { return time.Duration(d).String() }

// D is the plain duration.
func (d Duration) D() time.Duration { return time.Duration(d) }

// MarshalYAML writes 10s.
func (d Duration) MarshalYAML() (any, error) { return d.String(), nil }

// UnmarshalYAML reads 10s.
func (d *Duration) UnmarshalYAML(b []byte) error {
	return d.parse(strings.Trim(strings.TrimSpace(string(b)), `"'`))
}

func (d *Duration) parse(s string) error {
	v, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 10s or 24h", s)
	}
	*d = Duration(v)
	return nil
}

// Secret is a string that is never shown.
type Secret string

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "(hidden)"
}

// MarshalYAML hides the value.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// MarshalJSON hides the value.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// loadConfig applies the file, the environment and the flags over the defaults, and validates the whole.
func loadConfig(path string, environ []string, sets []string) (Config, error) {
	c := DefaultConfig()
	if path != "" {
		b, err := os.ReadFile(path)
		if err != nil {
			return c, fmt.Errorf("read the configuration: %w", err)
		}
		if err := readYAML(b, &c); err != nil {
			return c, fmt.Errorf("%s: %w", path, err)
		}
	}
	leaves := leavesOf(reflect.ValueOf(&c).Elem(), "")
	if err := applyEnviron(leaves, environ); err != nil {
		return c, err
	}
	for _, s := range sets {
		key, value, ok := strings.Cut(s, "=")
		if !ok {
			return c, fmt.Errorf("--set %s: write it as key=value", s)
		}
		if err := setLeaf(leaves, key, value); err != nil {
			return c, fmt.Errorf("--set %s: %w", key, err) // the value may be a secret
		}
	}
	if err := c.Validate(); err != nil {
		return c, fmt.Errorf("the configuration cannot be used:\n%w", err)
	}
	return c, nil
}

// readYAML refuses unknown keys. A list in the file replaces the default list.
func readYAML(b []byte, c *Config) error {
	if len(bytes.TrimSpace(b)) == 0 {
		return nil
	}
	var present map[string]any
	if err := yaml.Unmarshal(b, &present); err != nil {
		return plainYAML(err)
	}
	if _, ok := present["surfaces"]; ok {
		c.Surfaces = nil
	}
	if events, ok := present["events"].(map[string]any); ok && events["types"] != nil {
		c.Events.Types = nil
	}
	for _, l := range leavesOf(reflect.ValueOf(c).Elem(), "") {
		v := lookUp(present, l.path)
		if k := l.value.Kind(); v == nil || k == reflect.String || k == reflect.Slice || k == reflect.Map {
			continue // any text is good there; what is no text, the decoder refuses
		}
		if err := setValue(l.value, fmt.Sprint(v)); err != nil {
			return fmt.Errorf("%s: %w", l.path, err)
		}
	}
	return plainYAML(yaml.NewDecoder(bytes.NewReader(b), yaml.Strict()).Decode(c))
}

// lookUp finds the value at a path such as redis.ttl, nil where there is none.
func lookUp(present map[string]any, path string) any {
	name, rest, below := strings.Cut(path, ".")
	if !below {
		return present[name]
	}
	section, _ := present[name].(map[string]any)
	return lookUp(section, rest)
}

// plainYAML says what the library says without quoting the lines around it: a password may stand there.
func plainYAML(err error) error {
	if err == nil {
		return nil
	}
	var located yaml.Error
	if !errors.As(err, &located) || located.GetToken() == nil {
		return errors.New(yaml.FormatError(err, false, false))
	}
	at, hint := located.GetToken(), ""
	var unknown *yaml.UnknownFieldError
	if errors.As(err, &unknown) {
		hint = nearest(yamlNames(reflect.TypeOf(Config{})), at.Value)
	}
	return fmt.Errorf("line %d: %s%s", at.Position.Line, located.GetMessage(), hint)
}

// yamlNames lists every name that a key of the file may have, at any depth.
func yamlNames(t reflect.Type) []string {
	var out []string
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		out = append(out, name)
		f := t.Field(i).Type
		if f.Kind() == reflect.Slice {
			f = f.Elem()
		}
		if f.Kind() == reflect.Struct {
			out = append(out, yamlNames(f)...)
		}
	}
	return out
}

// leaf is one configurable value.
type leaf struct {
	path  string
	doc   string
	value reflect.Value
}

// leavesOf lists the scalar values and lists of strings below a struct; blocks of lists are set by file only.
func leavesOf(v reflect.Value, prefix string) []leaf {
	var out []leaf
	t := v.Type()
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		f := v.Field(i)
		switch {
		case f.Kind() == reflect.Struct:
			out = append(out, leavesOf(f, prefix+name+".")...)
		case f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Struct:
		default:
			out = append(out, leaf{prefix + name, t.Field(i).Tag.Get("doc"), f})
		}
	}
	return out
}

// applyEnviron reads FRESHET_<PATH>. A variable that starts like a section of the configuration but names no key is refused.
func applyEnviron(leaves []leaf, environ []string) error {
	sections := []string{"KAFKA_", "REDIS_", "MODEL_", "CATALOGUE_", "INGEST_", "PROFILE_", "HTTP_", "LOG_"}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		key, ours := strings.CutPrefix(name, "FRESHET_")
		if !ours {
			continue
		}
		i := slices.IndexFunc(leaves, func(l leaf) bool { return envName(l.path) == key })
		if i < 0 {
			if slices.ContainsFunc(sections, func(s string) bool { return strings.HasPrefix(key, s) }) {
				return fmt.Errorf("environment variable %s names no key of the configuration%s", name, nearest(envNames(leaves), name))
			}
			continue
		}
		if err := setValue(leaves[i].value, value); err != nil {
			return fmt.Errorf("environment variable %s: %w", name, err)
		}
	}
	return nil
}

func envName(path string) string { return strings.ToUpper(strings.ReplaceAll(path, ".", "_")) }

func envNames(leaves []leaf) []string {
	out := make([]string, len(leaves))
	for i := range leaves {
		out[i] = "FRESHET_" + envName(leaves[i].path)
	}
	return out
}

func setLeaf(leaves []leaf, path, value string) error {
	names := make([]string, len(leaves))
	for i := range leaves {
		if names[i] = leaves[i].path; names[i] == path {
			return setValue(leaves[i].value, value)
		}
	}
	return fmt.Errorf("%s is no key of the configuration%s", path, nearest(names, path))
}

func setValue(v reflect.Value, s string) error {
	if d, ok := v.Addr().Interface().(*Duration); ok {
		return d.parse(s)
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Bool:
		b, err := strconv.ParseBool(s)
		if err != nil {
			return fmt.Errorf("%q is not true or false", s)
		}
		v.SetBool(b)
	case reflect.Int:
		n, err := strconv.Atoi(s)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", s)
		}
		v.SetInt(int64(n))
	case reflect.Float64:
		x, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return fmt.Errorf("%q is not a number", s)
		}
		v.SetFloat(x)
	case reflect.Slice:
		parts := strings.Split(s, ",")
		for i := range parts {
			parts[i] = strings.TrimSpace(parts[i])
		}
		v.Set(reflect.ValueOf(parts))
	default:
		return fmt.Errorf("a value of kind %s is set in the file only", v.Kind())
	}
	return nil
}

// nearest suggests the known name with the fewest differing letters, for typing errors.
func nearest(known []string, typed string) string {
	best, name := len(typed)/2+1, ""
	for _, k := range known {
		if d := editDistance(k, typed); d < best {
			best, name = d, k
		}
	}
	if name == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", name)
}

func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

// printConfig writes the effective configuration as YAML with what each value means.
func printConfig(c Config) (string, error) {
	comments := yaml.CommentMap{}
	addComments(comments, reflect.TypeOf(c), "$")
	b, err := yaml.MarshalWithOptions(c, yaml.WithComment(comments), yaml.IndentSequence(true))
	return string(b), err
}

func addComments(into yaml.CommentMap, t reflect.Type, path string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		at := path + "." + name
		if doc := f.Tag.Get("doc"); doc != "" {
			into[at] = []*yaml.Comment{yaml.HeadComment(" " + doc)}
		}
		if f.Type.Kind() == reflect.Struct {
			addComments(into, f.Type, at)
		}
	}
}
