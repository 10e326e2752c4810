package models

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"go.uber.org/zap"
)

// The devices that Config.Device names, and that Runtime.Device answers (never auto).
const (
	Auto = "auto"
	CPU  = "cpu"
	CUDA = "cuda"
)

// Config says which library computes, on what.
type Config struct {
	Library  string // path of libonnxruntime.so; required
	Device   string // auto (CUDA where it works, else the CPU), cpu, or cuda (refuse to start without); default auto
	DeviceID int    // which CUDA device; default 0
	Threads  int    // threads that one run of a session may use; default 1: concurrent callers give the parallelism
	FallBack bool   // go on on the CPU when the CUDA device refuses a session (out of memory) or fails under one; default false
}

// withDefaults fills what the caller left empty.
func (c Config) withDefaults() Config {
	if c.Device == "" {
		c.Device = Auto
	}
	if c.Threads == 0 {
		c.Threads = 1
	}
	return c
}

// Validate names the field that cannot be used.
func (c Config) Validate() error {
	c = c.withDefaults()
	switch {
	case c.Library == "":
		return errors.New("library: empty, give the path of libonnxruntime.so")
	case c.Device != Auto && c.Device != CPU && c.Device != CUDA:
		return fmt.Errorf("device: %q, use auto, cpu or cuda", c.Device)
	case c.DeviceID < 0:
		return fmt.Errorf("device_id: %d, use 0 or more", c.DeviceID)
	case c.Threads < 0 || c.Threads > 256:
		return fmt.Errorf("threads: %d, use 1 to 256", c.Threads)
	}
	return nil
}

// Runtime is the ONNX Runtime library, loaded, and the device that its sessions run on. A process has at most one open.
// Close it after every bundle, index and encoder that was opened on it.
type Runtime struct {
	cfg    Config
	device string
	log    *zap.Logger
	fallen atomic.Pointer[string] // what was the first to run on the CPU instead, and why
}

// NewRuntime loads the library and finds the device. With device auto it logs in one line which device runs and why.
func NewRuntime(cfg Config, log *zap.Logger) (*Runtime, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure the model runtime: %w", err)
	}
	rt := &Runtime{cfg: cfg.withDefaults(), log: log.Named("models")}
	if _, err := os.Stat(cfg.Library); err != nil {
		return nil, fmt.Errorf("library: %w; the set-up fetches it", err)
	}
	version, err := openLibrary(cfg.Library)
	if err != nil {
		return nil, fmt.Errorf("load ONNX Runtime from %s: %w", cfg.Library, err)
	}
	if err := rt.chooseDevice(version); err != nil {
		return nil, errors.Join(err, closeLibrary())
	}
	return rt, nil
}

// chooseDevice tries CUDA where the configuration allows it: by running a graph of one node there, since only that shows
// that the library, the driver and the device work together.
func (rt *Runtime) chooseDevice(version string) error {
	rt.device = CPU
	why := "configured"
	if rt.cfg.Device != CPU {
		err := probeCUDA(rt.cfg.DeviceID)
		switch {
		case err == nil:
			rt.device = CUDA
		case rt.cfg.Device == CUDA:
			return fmt.Errorf("device: cuda is not available: %w; use auto or cpu, or a library with the CUDA provider", err)
		default:
			why = "CUDA is not available; with device cuda the reason is told"
		}
	}
	if rt.device == CUDA && rt.cfg.Device == Auto {
		why = "found"
	}
	rt.log.Info("models run on "+rt.device, zap.String("device", rt.device), zap.String("why", why),
		zap.String("onnxruntime", version), zap.Int("threads", rt.cfg.Threads))
	return nil
}

// Device names what sessions run on, cpu or cuda: for records, metrics, and the mark of a mixed profile.
func (rt *Runtime) Device() string { return rt.device }

// FellBack says what runs on the CPU although a device was found for it, and why; "" = nothing does. The way back is a restart.
func (rt *Runtime) FellBack() string {
	if text := rt.fallen.Load(); text != nil {
		return *text
	}
	return ""
}

// Close unloads the library. Everything opened on the runtime must be closed before.
func (rt *Runtime) Close() error { return closeLibrary() }
