package events

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/containerd/containerd/v2/core/events"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"google.golang.org/protobuf/types/known/emptypb"
)

// recorder is a publisher that fails for one topic.
type recorder struct {
	topics []string
	closed bool
}

func (r *recorder) Publish(ctx context.Context, topic string, _ events.Event) error {
	ns, _ := namespaces.Namespace(ctx)
	r.topics = append(r.topics, ns+topic)
	if topic == "/b" {
		return errors.New("away")
	}
	return nil
}

func (r *recorder) Close() error {
	r.closed = true
	return nil
}

func TestQueueKeepsOrder(t *testing.T) {
	r := &recorder{}
	q, err := New(namespaces.WithNamespace(context.Background(), "ns"), r)
	if err != nil {
		t.Fatal(err)
	}
	for _, topic := range []string{"/a", "/b", "/c"} {
		q.Send(topic, &emptypb.Empty{})
	}
	q.Close()
	q.Send("/late", &emptypb.Empty{})
	q.Close()
	if want := []string{"ns/a", "ns/b", "ns/c"}; !slices.Equal(r.topics, want) || !r.closed {
		t.Errorf("published %v, closed %v", r.topics, r.closed)
	}
}

func TestQueueNeedsNamespace(t *testing.T) {
	if _, err := New(context.Background(), &recorder{}); err == nil {
		t.Error("a queue for no namespace")
	}
}
