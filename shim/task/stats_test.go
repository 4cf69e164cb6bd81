package task

import (
	"context"
	"testing"

	"github.com/containerd/cgroups/v3/cgroup2/stats"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/microvm/microvm/agent/api"
)

// liar is a guest whose statistics claim to be something else.
type liar struct {
	*pause
	value []byte
}

func (l liar) Stats(context.Context, *api.StatsRequest) (*api.StatsResponse, error) {
	return &api.StatsResponse{Stats: &anypb.Any{TypeUrl: "containerd.events.TaskExit", Value: l.value}}, nil
}

func TestStatsAreOfOneType(t *testing.T) {
	value, err := proto.Marshal(&stats.Metrics{Pids: &stats.PidsStat{Current: 7}})
	if err != nil {
		t.Fatal(err)
	}
	service := func(value []byte) *Service {
		return &Service{containers: map[string]*task{"c": {id: "c", guest: liar{value: value}}}}
	}
	r, err := service(value).Stats(t.Context(), &api.StatsRequest{Id: "c"})
	if err != nil {
		t.Fatal(err)
	}
	var m stats.Metrics
	if got := r.GetStats().GetTypeUrl(); got != "io.containerd.cgroups.v2.Metrics" {
		t.Errorf("type %s", got)
	}
	if err := proto.Unmarshal(r.GetStats().GetValue(), &m); err != nil || m.GetPids().GetCurrent() != 7 {
		t.Errorf("%v, %v", &m, err)
	}
	if _, err := service([]byte{0xff}).Stats(t.Context(), &api.StatsRequest{Id: "c"}); err == nil {
		t.Error("broken statistics")
	}
	if _, err := service(nil).Stats(t.Context(), &api.StatsRequest{Id: "x"}); err == nil {
		t.Error("no such container")
	}
}

func TestStatsOfASandboxWithoutACgroup(t *testing.T) {
	b := &Sandbox{task: &task{machine: &machine{}}}
	if _, err := b.Stats(); status.Code(err) != codes.Unavailable {
		t.Error(err)
	}
}
