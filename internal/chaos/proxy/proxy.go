// Package proxy stands between freshet and a server, slows what passes down, and holds a request back at the moment a test wants:
// what a paused network or a paused process looks like, without a line in the product for it.
package proxy

import (
	"fmt"
	"net"
	"sync"
	"time"
)

// Proxy passes TCP connections on to one server.
type Proxy struct {
	listener net.Listener

	mu     sync.Mutex
	target string
	delay  time.Duration
	trap   *trap
	conns  map[net.Conn]bool
}

type trap struct {
	match func(request []byte) bool
	held  chan *Held
}

// Held is one request that is being held back; nothing else of its connection passes either.
type Held struct {
	Client  net.Addr // the client's end of the connection
	release chan bool
	once    sync.Once
}

// Release lets the request pass.
func (h *Held) Release() { h.once.Do(func() { h.release <- true }) }

// Drop ends the connection without it.
func (h *Held) Drop() { h.once.Do(func() { h.release <- false }) }

// Listen opens a proxy on a free loopback port. Where it leads to is set by To.
func Listen() (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("open a proxy: %w", err)
	}
	p := &Proxy{listener: l, conns: map[net.Conn]bool{}}
	go p.accept()
	return p, nil
}

// Addr is where clients connect.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// To names the server.
func (p *Proxy) To(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// Delay holds everything back by d, both ways; 0 = no longer.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Hold waits for the next request that matches, holds it back and gives it out. It gives nil when there was none in time.
func (p *Proxy) Hold(match func(request []byte) bool, within time.Duration) *Held {
	t := &trap{match: match, held: make(chan *Held, 1)}
	p.mu.Lock()
	p.trap = t
	p.mu.Unlock()
	select {
	case h := <-t.held:
		return h
	case <-time.After(within):
	}
	p.mu.Lock()
	p.trap = nil
	p.mu.Unlock()
	select {
	case h := <-t.held: // it came between the two
		return h
	default:
		return nil
	}
}

// Close ends the proxy and everything that passes through it.
func (p *Proxy) Close() {
	_ = p.listener.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		go p.serve(c)
	}
}

// serve joins one client to the server until either end closes.
func (p *Proxy) serve(client net.Conn) {
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	server, err := net.Dial("tcp", target)
	if err != nil {
		_ = client.Close()
		return
	}
	p.mu.Lock()
	p.conns[client], p.conns[server] = true, true
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.pump(client, server, true) })
	both.Go(func() { p.pump(server, client, false) })
	both.Wait()
	p.mu.Lock()
	delete(p.conns, client)
	delete(p.conns, server)
	p.mu.Unlock()
}

// chunk is what was read at once, and when it may go on.
type chunk struct {
	bytes []byte
	due   time.Time
}

// pump copies one direction. Delayed chunks wait in a queue, so that a delay costs time and not throughput.
func (p *Proxy) pump(from, to net.Conn, requests bool) {
	queue := make(chan chunk, 1024)
	go func() {
		defer close(queue)
		for {
			buf := make([]byte, 64<<10)
			n, err := from.Read(buf)
			if n > 0 {
				p.mu.Lock()
				delay := p.delay
				p.mu.Unlock()
				queue <- chunk{buf[:n], time.Now().Add(delay)}
			}
			if err != nil {
				return
			}
		}
	}()
	for c := range queue {
		time.Sleep(time.Until(c.due))
		if requests && !p.pass(from, c.bytes) {
			break
		}
		if _, err := to.Write(c.bytes); err != nil {
			break
		}
	}
	_ = from.Close()
	_ = to.Close()
	for range queue { // until the reader has noticed
	}
}

// pass holds a request back that the trap waits for, and tells whether it may go on.
func (p *Proxy) pass(from net.Conn, request []byte) bool {
	p.mu.Lock()
	t := p.trap
	if t == nil || !t.match(request) {
		p.mu.Unlock()
		return true
	}
	p.trap = nil
	p.mu.Unlock()
	h := &Held{Client: from.RemoteAddr(), release: make(chan bool, 1)}
	t.held <- h
	return <-h.release
}
