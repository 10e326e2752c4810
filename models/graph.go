package models

import (
	"fmt"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

// This file reads as much of an ONNX file as freshet must know (what goes in, what comes out, which tensors lie in other files)
// and rewrites the one thing it changes: how many rows the item matrix has. It works on the wire format, with the field numbers
// of onnx.proto3, so that everything it does not know stays as it was.
const (
	modelGraph, modelOpset                            = 7, 8
	opsetDomain, opsetVersion                         = 1, 2
	graphInitializer, graphInput, graphOutput         = 5, 11, 12
	graphValueInfo                                    = 13
	tensorDims, tensorType, tensorName, tensorOutside = 1, 2, 8, 13
	entryKey, entryValue                              = 1, 2
	infoName, infoType                                = 1, 2
	typeTensor                                        = 1
	tensorTypeElem, tensorTypeShape                   = 1, 2
	shapeDim                                          = 1
	dimValue, dimParam                                = 1, 2
)

// Element types of onnx.proto3.
const (
	elemFloat32 = 1
	elemInt64   = 7
)

var elemNames = map[int]string{elemFloat32: "float32", elemInt64: "int64"}

// anySize stands for a dimension without a fixed size.
const anySize = -1

// graph is what freshet reads of an ONNX file.
type graph struct {
	opset    int64
	inputs   []port
	outputs  []port
	external []external
}

// port is one input or output.
type port struct {
	name  string
	elem  int
	shape []int
}

// external is a constant whose data lie in another file.
type external struct {
	name           string
	elem           int
	shape          []int
	location       string
	offset, length int64
}

// field is one field of a protobuf message as it stands on the wire.
type field struct {
	num  protowire.Number
	kind protowire.Type
	raw  []byte // tag included
	body []byte // of a bytes field
	n    uint64 // of a varint field
}

// eachField walks a message. It stops at the first error of f.
func eachField(message []byte, f func(field) error) error {
	for len(message) > 0 {
		num, kind, tag := protowire.ConsumeTag(message)
		if tag < 0 {
			return protowire.ParseError(tag)
		}
		size := protowire.ConsumeFieldValue(num, kind, message[tag:])
		if size < 0 {
			return protowire.ParseError(size)
		}
		x := field{num: num, kind: kind, raw: message[:tag+size]}
		switch kind {
		case protowire.BytesType:
			x.body, _ = protowire.ConsumeBytes(message[tag:])
		case protowire.VarintType:
			x.n, _ = protowire.ConsumeVarint(message[tag:])
		}
		if err := f(x); err != nil {
			return err
		}
		message = message[tag+size:]
	}
	return nil
}

// parseGraph reads an ONNX model.
func parseGraph(model []byte) (*graph, error) {
	var g graph
	err := eachField(model, func(f field) error {
		switch f.num {
		case modelGraph:
			return g.parse(f.body)
		case modelOpset:
			return g.parseOpset(f.body)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("not an ONNX model: %w", err)
	}
	if len(g.inputs) == 0 || len(g.outputs) == 0 {
		return nil, fmt.Errorf("not an ONNX model: no inputs or no outputs")
	}
	return &g, nil
}

func (g *graph) parseOpset(message []byte) error {
	var domain string
	var version int64
	err := eachField(message, func(f field) error {
		switch f.num {
		case opsetDomain:
			domain = string(f.body)
		case opsetVersion:
			version = int64(f.n)
		}
		return nil
	})
	if domain != "" && domain != "ai.onnx" {
		return fmt.Errorf("operators of domain %q, want the standard ones only", domain)
	}
	g.opset = version
	return err
}

func (g *graph) parse(message []byte) error {
	return eachField(message, func(f field) (err error) {
		switch f.num {
		case graphInput, graphOutput:
			var p port
			if p, err = parsePort(f.body); err != nil {
				return err
			}
			if f.num == graphInput {
				g.inputs = append(g.inputs, p)
			} else {
				g.outputs = append(g.outputs, p)
			}
		case graphInitializer:
			var e external
			if e, err = parseTensor(f.body); err == nil && e.location != "" {
				g.external = append(g.external, e)
			}
		}
		return err
	})
}

func parsePort(message []byte) (port, error) {
	var p port
	err := eachField(message, func(f field) error {
		switch f.num {
		case infoName:
			p.name = string(f.body)
		case infoType:
			return eachField(f.body, func(t field) error {
				if t.num != typeTensor {
					return nil
				}
				return p.parseType(t.body)
			})
		}
		return nil
	})
	return p, err
}

func (p *port) parseType(message []byte) error {
	return eachField(message, func(f field) error {
		switch f.num {
		case tensorTypeElem:
			p.elem = int(f.n)
		case tensorTypeShape:
			return eachField(f.body, func(d field) error {
				size := anySize
				err := eachField(d.body, func(v field) error {
					if v.num == dimValue {
						size = int(v.n)
					}
					return nil
				})
				p.shape = append(p.shape, size)
				return err
			})
		}
		return nil
	})
}

// parseTensor reads a constant's head; data inside the message is skipped.
func parseTensor(message []byte) (external, error) {
	var e external
	err := eachField(message, func(f field) error {
		switch f.num {
		case tensorDims:
			return eachDim(f, func(n uint64) { e.shape = append(e.shape, int(n)) })
		case tensorType:
			e.elem = int(f.n)
		case tensorName:
			e.name = string(f.body)
		case tensorOutside:
			return e.parseEntry(f.body)
		}
		return nil
	})
	return e, err
}

// eachDim reads a repeated integer, packed or not.
func eachDim(f field, use func(uint64)) error {
	if f.kind == protowire.VarintType {
		use(f.n)
		return nil
	}
	for b := f.body; len(b) > 0; {
		n, size := protowire.ConsumeVarint(b)
		if size < 0 {
			return protowire.ParseError(size)
		}
		use(n)
		b = b[size:]
	}
	return nil
}

func (e *external) parseEntry(message []byte) error {
	key, value, err := parseEntry(message)
	if err != nil {
		return err
	}
	switch key {
	case "location":
		e.location = value
	case "offset":
		e.offset, err = strconv.ParseInt(value, 10, 64)
	case "length":
		e.length, err = strconv.ParseInt(value, 10, 64)
	}
	return err
}

func parseEntry(message []byte) (key, value string, err error) {
	err = eachField(message, func(f field) error {
		switch f.num {
		case entryKey:
			key = string(f.body)
		case entryValue:
			value = string(f.body)
		}
		return nil
	})
	return key, value, err
}

// want describes a port that a graph must have; 0 in shape is any size.
type want struct {
	name     string
	elem     int
	shape    []int
	optional bool
}

// check holds ports to what is wanted and returns the wanted names that the graph has, in the order of wants.
func check(direction string, ports []port, wants []want, strict bool) ([]string, error) {
	var names []string
	for _, w := range wants {
		p := findPort(ports, w.name)
		if p == nil {
			if w.optional {
				continue
			}
			return nil, fmt.Errorf("no %s %s", direction, w.name)
		}
		if p.elem != w.elem || !sameShape(p.shape, w.shape) {
			return nil, fmt.Errorf("%s %s is %s %v, want %s %v (%d = any)", direction, w.name, elemNames[p.elem], p.shape, elemNames[w.elem], w.shape, anySize)
		}
		names = append(names, w.name)
	}
	if strict && len(names) != len(ports) {
		return nil, fmt.Errorf("%d %ss, of which freshet knows %v", len(ports), direction, names)
	}
	return names, nil
}

func findPort(ports []port, name string) *port {
	for i := range ports {
		if ports[i].name == name {
			return &ports[i]
		}
	}
	return nil
}

// sameShape compares; a wanted size also meets a graph that leaves it open, and a wanted open size only an open one.
func sameShape(have, want []int) bool {
	if len(have) != len(want) {
		return false
	}
	for i := range have {
		if have[i] != want[i] && have[i] != anySize {
			return false
		}
	}
	return true
}

// resize returns the model with another number of rows for the constant that lies in file, and for the inputs that have one
// number for each row. Shapes that the exporter noted down for values inside the graph are dropped: they are hints.
func resize(model []byte, file string, from, to, dim int) ([]byte, error) {
	resized := false
	out, err := rewrite(model, modelGraph, func(graph []byte) ([]byte, error) {
		out := make([]byte, 0, len(graph)+16)
		err := eachField(graph, func(f field) error {
			switch f.num {
			case graphValueInfo:
				return nil
			case graphInitializer:
				e, err := parseTensor(f.body)
				if err != nil || e.location != file {
					out = append(out, f.raw...)
					return err
				}
				resized = true
				out = appendMessage(out, graphInitializer, externalTensor(e.name, file, to, dim))
				return nil
			case graphInput:
				p, err := parsePort(f.body)
				if err != nil || len(p.shape) != 1 || p.shape[0] != from {
					out = append(out, f.raw...)
					return err
				}
				out = appendMessage(out, graphInput, vectorPort(p.name, p.elem, to))
				return nil
			}
			out = append(out, f.raw...)
			return nil
		})
		return out, err
	})
	if err == nil && !resized {
		err = fmt.Errorf("no constant lies in %s", file)
	}
	return out, err
}

// rewrite returns the message with the body of one of its fields replaced.
func rewrite(message []byte, num protowire.Number, f func([]byte) ([]byte, error)) ([]byte, error) {
	out := make([]byte, 0, len(message)+16)
	err := eachField(message, func(x field) error {
		if x.num != num {
			out = append(out, x.raw...)
			return nil
		}
		body, err := f(x.body)
		out = appendMessage(out, num, body)
		return err
	})
	return out, err
}

func appendMessage(out []byte, num protowire.Number, body []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(out, num, protowire.BytesType), body)
}

func appendNumber(out []byte, num protowire.Number, n int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(out, num, protowire.VarintType), uint64(n))
}

// externalTensor is a float32 matrix [rows, dim] whose data are all of a file.
func externalTensor(name, file string, rows, dim int) []byte {
	t := appendNumber(nil, tensorDims, rows)
	t = appendNumber(t, tensorDims, dim)
	t = appendNumber(t, tensorType, elemFloat32)
	t = appendMessage(t, tensorName, []byte(name))
	for _, kv := range [][2]string{{"location", file}, {"offset", "0"}, {"length", strconv.Itoa(4 * rows * dim)}} {
		entry := appendMessage(nil, entryKey, []byte(kv[0]))
		t = appendMessage(t, tensorOutside, appendMessage(entry, entryValue, []byte(kv[1])))
	}
	const dataLocation, outside = 14, 1
	return appendNumber(t, dataLocation, outside)
}

// vectorPort is an input of one dimension.
func vectorPort(name string, elem, size int) []byte {
	shape := appendMessage(nil, shapeDim, appendNumber(nil, dimValue, size))
	tensor := appendMessage(appendNumber(nil, tensorTypeElem, elem), tensorTypeShape, shape)
	info := appendMessage(nil, infoName, []byte(name))
	return appendMessage(info, infoType, appendMessage(nil, typeTensor, tensor))
}
