package models

import (
	_ "embed"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"

	"freshet"

	ort "github.com/yalue/onnxruntime_go"
	"go.uber.org/zap"
)

// This file is the only one that knows ONNX Runtime.

// ErrClosed is returned by whatever is used after Close.
var ErrClosed = errors.New("closed")

// library guards the one environment that the C library allows a process.
var library sync.Mutex

// openLibrary loads the library and returns its version.
func openLibrary(path string) (string, error) {
	library.Lock()
	defer library.Unlock()
	if ort.IsInitialized() {
		return "", errors.New("a process has one runtime and it is open already; close it first")
	}
	ort.SetSharedLibraryPath(path)
	if err := ort.InitializeEnvironment(ort.WithLogLevelFatal()); err != nil {
		return "", err
	}
	if err := ort.DisableTelemetry(); err != nil {
		return "", errors.Join(err, ort.DestroyEnvironment())
	}
	return ort.GetVersion(), nil
}

func closeLibrary() error {
	library.Lock()
	defer library.Unlock()
	if !ort.IsInitialized() {
		return ErrClosed
	}
	return ort.DestroyEnvironment()
}

// probe is a graph of one node: out = in + in.
//
//go:embed probe.onnx
var probe []byte

// probeCUDA runs one node on the device.
func probeCUDA(device int) error {
	options, err := sessionOptions(CUDA, device, 1)
	if err != nil {
		return err
	}
	defer options.Destroy()
	s, err := ort.NewDynamicAdvancedSessionWithONNXData(probe, []string{"in"}, []string{"out"}, options)
	if err != nil {
		return err
	}
	defer s.Destroy()
	in, out := []float32{1}, []float32{0}
	tensors, err := newTensors(floats(in, 1), floats(out, 1))
	if err != nil {
		return err
	}
	defer tensors.free()
	if err := s.Run(tensors.values[:1], tensors.values[1:]); err != nil {
		return err
	}
	if out[0] != 2 {
		return fmt.Errorf("the device computed 1 + 1 = %v", out[0])
	}
	return nil
}

// sessionOptions are the same for every session. Spinning is off: idle threads must not burn the cores that other sessions and
// servers need. Memory patterns are off: they are kept per input shape, and batches have every size.
func sessionOptions(device string, id, threads int) (*ort.SessionOptions, error) {
	o, err := ort.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	set := []func() error{
		func() error { return o.SetExecutionMode(ort.ExecutionModeSequential) },
		func() error { return o.SetGraphOptimizationLevel(ort.GraphOptimizationLevelEnableAll) },
		func() error { return o.SetIntraOpNumThreads(threads) },
		func() error { return o.SetInterOpNumThreads(1) },
		func() error { return o.SetMemPattern(false) },
		func() error { return o.AddSessionConfigEntry("session.intra_op.allow_spinning", "0") },
		func() error { return o.AddSessionConfigEntry("session.inter_op.allow_spinning", "0") },
	}
	if device == CUDA {
		set = append(set, func() error { return appendCUDA(o, id) })
	}
	for _, f := range set {
		if err := f(); err != nil {
			return nil, errors.Join(err, o.Destroy())
		}
	}
	return o, nil
}

// appendCUDA puts the CUDA provider first. TF32 is off: it keeps 10 bits of a float32's mantissa, which parity would refuse.
func appendCUDA(o *ort.SessionOptions, id int) error {
	cuda, err := ort.NewCUDAProviderOptions()
	if err != nil {
		return err
	}
	defer cuda.Destroy()
	if err := cuda.Update(map[string]string{"device_id": strconv.Itoa(id), "use_tf32": "0"}); err != nil {
		return err
	}
	return o.AppendExecutionProviderCUDA(cuda)
}

// session is one graph, opened. It may be run by several goroutines at once; close waits for none of them, the last one out
// frees it. One on a device that may fall back goes on on the CPU when the device fails under it.
type session struct {
	what   string // for errors
	device string // that it was opened on
	ort    *ort.DynamicAdvancedSession
	refs   atomic.Int64 // 1 for the owner, 1 for each run under way

	spare   func(why error) (*session, error) // opens the same graph on the CPU; nil = a failure of the device is waited for
	falling sync.Mutex                        // one opens it
	instead atomic.Pointer[session]           // the spare, once it is open
}

// opener makes the library's session with the given options.
type opener func(*ort.SessionOptions) (*ort.DynamicAdvancedSession, error)

// openFile opens the graph in a file.
func (rt *Runtime) openFile(path, what string, inputs, outputs []string) (*session, error) {
	return rt.openFileWith(path, what, inputs, outputs, rt.cfg.Threads)
}

func (rt *Runtime) openFileWith(path, what string, inputs, outputs []string, threads int) (*session, error) {
	return rt.open(what, threads, func(o *ort.SessionOptions) (*ort.DynamicAdvancedSession, error) {
		return ort.NewDynamicAdvancedSession(path, inputs, outputs, o)
	})
}

// openGraph opens a graph in memory whose large constants lie in files of a folder.
func (rt *Runtime) openGraph(graph []byte, folder, what string, inputs, outputs []string) (*session, error) {
	return rt.open(what, rt.cfg.Threads, func(o *ort.SessionOptions) (*ort.DynamicAdvancedSession, error) {
		if err := o.AddSessionConfigEntry("session.model_external_initializers_file_folder_path", folder); err != nil {
			return nil, err
		}
		return ort.NewDynamicAdvancedSessionWithONNXData(graph, inputs, outputs, o)
	})
}

// openCPU opens a graph in memory, on the CPU whatever the runtime's device.
func (rt *Runtime) openCPU(graph []byte, what string, inputs, outputs []string) (*session, error) {
	return rt.openOn(CPU, what, rt.cfg.Threads, func(o *ort.SessionOptions) (*ort.DynamicAdvancedSession, error) {
		return ort.NewDynamicAdvancedSessionWithONNXData(graph, inputs, outputs, o)
	})
}

// open opens a session on the runtime's device, or on the CPU where the configuration lets it.
func (rt *Runtime) open(what string, threads int, open opener) (*session, error) {
	s, err := rt.openOn(rt.device, what, threads, open)
	if rt.device != CUDA || !rt.cfg.FallBack {
		return s, err
	}
	spare := func(why error) (*session, error) {
		rt.fellBack(what, why)
		return rt.openOn(CPU, what, threads, open)
	}
	if err != nil {
		return spare(err)
	}
	s.spare = spare
	return s, nil
}

// fellBack notes that a graph runs on the CPU although the device was wanted.
func (rt *Runtime) fellBack(what string, why error) {
	rt.log.Warn(what+" runs on the CPU", zap.String("why", why.Error()))
	text := what + " runs on the CPU: " + why.Error()
	rt.fallen.CompareAndSwap(nil, &text)
}

func (rt *Runtime) openOn(device, what string, threads int, open opener) (*session, error) {
	options, err := sessionOptions(device, rt.cfg.DeviceID, threads)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", what, err)
	}
	defer options.Destroy()
	opened, err := open(options)
	if err != nil {
		return nil, fmt.Errorf("open %s on %s: %w", what, device, err)
	}
	s := &session{what: what, device: device, ort: opened}
	s.refs.Store(1)
	return s, nil
}

// acquire keeps the session open until release. It fails once the session is closed.
func (s *session) acquire() bool {
	for {
		n := s.refs.Load()
		if n == 0 {
			return false
		}
		if s.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (s *session) release() error {
	if s.refs.Add(-1) != 0 {
		return nil
	}
	err := s.ort.Destroy()
	if spare := s.instead.Load(); spare != nil {
		err = errors.Join(err, spare.close())
	}
	return err
}

// close gives the owner's reference up. It must be called once.
func (s *session) close() error { return s.release() }

// run computes the outputs. Shapes and values were checked before, so a failure is the device's: the CPU does it where it may, else
// it may pass, and the caller should try the same again.
func (s *session) run(t *tensors, inputs int) error {
	if !s.acquire() {
		return fmt.Errorf("run %s: %w", s.what, ErrClosed)
	}
	defer s.release()
	if spare := s.instead.Load(); spare != nil {
		return spare.run(t, inputs)
	}
	err := s.ort.Run(t.values[:inputs], t.values[inputs:])
	if err == nil {
		return nil
	}
	err = fmt.Errorf("run %s on %s: %w: %w", s.what, s.device, freshet.ErrUnavailable, err)
	spare, spareErr := s.fallBack(err)
	switch {
	case spareErr != nil:
		return errors.Join(err, spareErr)
	case spare == nil:
		return err
	}
	return spare.run(t, inputs)
}

// fallBack opens the spare, once for all who fail at the same time; nil = there is none. The caller holds the session.
func (s *session) fallBack(why error) (*session, error) {
	if s.spare == nil {
		return nil, nil
	}
	s.falling.Lock()
	defer s.falling.Unlock()
	if spare := s.instead.Load(); spare != nil {
		return spare, nil
	}
	spare, err := s.spare(why)
	if err != nil {
		return nil, err
	}
	s.instead.Store(spare)
	return spare, nil
}

// runsOn is the device that computes now.
func (s *session) runsOn() string {
	if spare := s.instead.Load(); spare != nil {
		return spare.device
	}
	return s.device
}

// metadata reads one of the strings that the graph's maker wrote into it.
func (s *session) metadata(key string) (string, error) {
	m, err := s.ort.GetModelMetadata()
	if err != nil {
		return "", fmt.Errorf("read the metadata of %s: %w", s.what, err)
	}
	defer m.Destroy()
	value, _, err := m.LookupCustomMetadataMap(key)
	return value, err
}

// tensors are views of Go slices as the library wants them. The slices are pinned until free, so no data is copied.
type tensors struct {
	values []ort.Value
	pins   runtime.Pinner
}

// view describes one tensor over a slice of the caller.
type view struct {
	floats []float32
	ints   []int64
	shape  [2]int64
	rank   int
}

// floats views data as a tensor of the given shape (one or two dimensions).
func floats(data []float32, shape ...int) view { return view{floats: data}.shaped(shape) }

// ints is floats for int64.
func ints(data []int64, shape ...int) view { return view{ints: data}.shaped(shape) }

func (v view) shaped(shape []int) view {
	v.rank = len(shape)
	for i, n := range shape {
		v.shape[i] = int64(n)
	}
	return v
}

// newTensors makes one tensor a view: inputs first, then outputs, in the session's order.
func newTensors(views ...view) (*tensors, error) {
	t := &tensors{values: make([]ort.Value, 0, len(views))}
	for i := range views {
		if err := t.add(&views[i]); err != nil {
			t.free()
			return nil, fmt.Errorf("tensor %d: %w", i, err)
		}
	}
	return t, nil
}

func (t *tensors) add(v *view) error {
	shape := ort.Shape(v.shape[:v.rank])
	if v.floats != nil {
		t.pins.Pin(&v.floats[0])
		tensor, err := ort.NewTensor(shape, v.floats)
		if err != nil {
			return err
		}
		t.values = append(t.values, tensor)
		return nil
	}
	t.pins.Pin(&v.ints[0])
	tensor, err := ort.NewTensor(shape, v.ints)
	if err != nil {
		return err
	}
	t.values = append(t.values, tensor)
	return nil
}

// free gives the views back; the slices stay the caller's.
func (t *tensors) free() {
	for _, v := range t.values {
		_ = v.Destroy() // never fails
	}
	t.values = t.values[:0]
	t.pins.Unpin()
}
