package proxy

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

// echo answers everything with itself.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	return l.Addr().String()
}

func dial(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func ask(t *testing.T, c net.Conn, text string) error {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	got := make([]byte, len(text))
	_, err := io.ReadFull(c, got)
	if err == nil && string(got) != text {
		t.Fatalf("got %q for %q", got, text)
	}
	return err
}

func open(t *testing.T) *Proxy {
	t.Helper()
	p, err := Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	p.To(echo(t))
	return p
}

func TestPassesAndDelays(t *testing.T) {
	p := open(t)
	c := dial(t, p)
	if err := ask(t, c, "hello"); err != nil {
		t.Fatal(err)
	}
	p.Delay(50 * time.Millisecond)
	start := time.Now()
	if err := ask(t, c, "again"); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < 100*time.Millisecond {
		t.Errorf("both ways took %v with 50 ms each", took)
	}
}

// A held request passes when it is released, and its connection ends when it is dropped; others go on meanwhile.
func TestHolds(t *testing.T) {
	p := open(t)
	match := func(b []byte) bool { return bytes.Contains(b, []byte("save")) }
	for _, release := range []bool{true, false} {
		c, other := dial(t, p), dial(t, p)
		answered := make(chan error, 1)
		held := make(chan *Held, 1)
		armed := make(chan bool)
		go func() { close(armed); held <- p.Hold(match, 10*time.Second) }()
		<-armed
		for p.trapped() == nil {
			time.Sleep(time.Millisecond)
		}
		go func() { answered <- ask(t, c, "save me") }()
		h := <-held
		if h == nil || h.Client.String() != c.LocalAddr().String() {
			t.Fatalf("held %v, want the request of %v", h, c.LocalAddr())
		}
		if err := ask(t, other, "save another"); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-answered:
			t.Fatalf("answered while it was held: %v", err)
		default:
		}
		if release {
			h.Release()
		} else {
			h.Drop()
		}
		if err := <-answered; (err == nil) != release {
			t.Errorf("released %v: %v", release, err)
		}
	}
}

func (p *Proxy) trapped() *trap {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.trap
}

func TestHoldGivesUp(t *testing.T) {
	p := open(t)
	if h := p.Hold(func([]byte) bool { return true }, time.Millisecond); h != nil {
		t.Fatal("held something that never came")
	}
	if err := ask(t, dial(t, p), "hello"); err != nil {
		t.Fatal(err)
	}
}
