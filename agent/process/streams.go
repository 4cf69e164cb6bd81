package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/microvm/microvm/agent/api"
)

const (
	// arrivalTimeout is how long a request waits for the streams it names.
	arrivalTimeout = 10 * time.Second
	// parkTimeout is how long a stream waits to be named.
	parkTimeout = time.Minute
	// helloTimeout is how long a connection may take to say its id.
	helloTimeout = 10 * time.Second
	// maxParked bounds the streams that wait.
	maxParked = 4096
)

// Streams is where connections wait until a process claims them by their id.
type Streams struct {
	wg   sync.WaitGroup // connections that have not said their id yet
	stop context.CancelFunc
	ctx  context.Context

	mu      sync.Mutex
	parked  map[string]*parked
	claims  map[string]chan api.Stream
	arrived map[net.Conn]struct{} // not parked yet
}

// parked is a stream that waits to be named.
type parked struct {
	stream api.Stream
	expiry *time.Timer
}

// NewStreams makes an empty set. Close ends it.
func NewStreams() *Streams {
	ctx, stop := context.WithCancel(context.Background())
	return &Streams{
		ctx: ctx, stop: stop,
		parked:  make(map[string]*parked),
		claims:  make(map[string]chan api.Stream),
		arrived: make(map[net.Conn]struct{}),
	}
}

// Serve takes the connections of l, which must be Streams, until l is closed.
func (s *Streams) Serve(l net.Listener) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return fmt.Errorf("accept stream: %w", err)
		}
		stream, ok := conn.(api.Stream)
		if !ok || !s.greet(stream) {
			conn.Close()
		}
	}
}

// greet reads stream's id in the background, then parks it. It returns false
// after Close.
func (s *Streams) greet(stream api.Stream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return false
	}
	s.arrived[stream] = struct{}{}
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		if err := s.admit(stream); err != nil {
			stream.Close()
		}
	}()
	return true
}

func (s *Streams) admit(stream api.Stream) error {
	stream.SetReadDeadline(time.Now().Add(helloTimeout))
	id, err := api.ReadStreamID(stream)
	stream.SetReadDeadline(time.Time{})

	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.arrived, stream)
	if err != nil {
		return err
	}
	return s.park(id, stream)
}

// park hands stream to whoever claims id, now or later.
func (s *Streams) park(id string, stream api.Stream) error {
	if claim, ok := s.claims[id]; ok {
		delete(s.claims, id)
		claim <- stream
		return nil
	}
	if _, ok := s.parked[id]; ok {
		return fail(ErrExists, "stream %s is there already", id)
	}
	if s.ctx.Err() != nil || len(s.parked) >= maxParked {
		return errors.New("no more streams")
	}
	s.parked[id] = &parked{stream, time.AfterFunc(parkTimeout, func() { s.expire(id, stream) })}
	return nil
}

func (s *Streams) expire(id string, stream api.Stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, ok := s.parked[id]; ok && p.stream == stream {
		delete(s.parked, id)
		stream.Close()
	}
}

// claim returns the stream that url names; it becomes the caller's. A stream
// that is not there yet is waited for.
func (s *Streams) claim(ctx context.Context, url string) (api.Stream, error) {
	id, err := api.ParseStreamURL(url)
	if err != nil {
		return nil, fail(ErrInvalid, "claim stream: %w", err)
	}
	stream, arrival, err := s.reserve(id)
	if stream != nil || err != nil {
		return stream, err
	}
	return s.await(ctx, id, arrival)
}

// reserve returns the stream if it is parked, and else where it will arrive.
func (s *Streams) reserve(id string) (api.Stream, chan api.Stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, ok := s.parked[id]; ok {
		delete(s.parked, id)
		p.expiry.Stop()
		return p.stream, nil, nil
	}
	if _, ok := s.claims[id]; ok {
		return nil, nil, fail(ErrExists, "stream %s is claimed already", id)
	}
	arrival := make(chan api.Stream, 1)
	s.claims[id] = arrival
	return nil, arrival, nil
}

func (s *Streams) await(ctx context.Context, id string, arrival chan api.Stream) (api.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, arrivalTimeout)
	defer cancel()
	select {
	case stream := <-arrival:
		return stream, nil
	case <-ctx.Done():
	case <-s.ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.claims[id] != arrival { // it came at the last moment
		return <-arrival, nil
	}
	delete(s.claims, id)
	return nil, fail(ErrNotFound, "stream %s did not arrive", id)
}

// Close closes all streams that nobody has claimed.
func (s *Streams) Close() {
	s.stop()
	s.mu.Lock()
	for id, p := range s.parked {
		p.expiry.Stop()
		p.stream.Close()
		delete(s.parked, id)
	}
	for conn := range s.arrived {
		conn.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}
