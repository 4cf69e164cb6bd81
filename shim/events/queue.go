// Package events publishes a shim's events in the order in which they happened.
package events

import (
	"context"
	"fmt"
	"sync"

	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/shim"
	"github.com/containerd/log"
	"google.golang.org/protobuf/proto"
)

// depth is how many events may wait for a daemon that is away.
const depth = 1024

type event struct {
	topic string
	body  proto.Message
}

// Queue hands events on one after the other.
type Queue struct {
	done chan struct{}

	mu     sync.Mutex
	events chan event // closed by Close
	closed bool
}

// New makes a queue to publisher, for the namespace of ctx. Close ends both.
func New(ctx context.Context, publisher shim.Publisher) (*Queue, error) {
	ns, err := namespaces.NamespaceRequired(ctx)
	if err != nil {
		return nil, fmt.Errorf("make event queue: %w", err)
	}
	q := &Queue{events: make(chan event, depth), done: make(chan struct{})}
	go q.run(namespaces.WithNamespace(context.Background(), ns), publisher)
	return q, nil
}

// Send queues an event. It waits only when there are too many for a daemon that
// is away. After Close it does nothing: nobody is left to be told.
func (q *Queue) Send(topic string, body proto.Message) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.events <- event{topic, body}
	}
}

// Close waits until all that was sent is published.
func (q *Queue) Close() {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.events)
	}
	q.mu.Unlock()
	<-q.done
}

func (q *Queue) run(ctx context.Context, publisher shim.Publisher) {
	defer close(q.done)
	for e := range q.events {
		// The publisher repeats what failed.
		if err := publisher.Publish(ctx, e.topic, e.body); err != nil {
			log.G(ctx).WithError(err).WithField("topic", e.topic).Warn("event was not published at once")
		}
	}
	publisher.Close()
}
