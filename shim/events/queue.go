// Package events publishes a shim's events in the order in which they happened.
package events

import (
	"context"
	"fmt"

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
	events chan event
	done   chan struct{}
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

// Send queues an event. It does not wait for the daemon.
func (q *Queue) Send(topic string, body proto.Message) { q.events <- event{topic, body} }

// Close waits until all that was sent is published. Nothing may be sent after.
func (q *Queue) Close() {
	close(q.events)
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
