package task

import (
	"os"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/microvm/microvm/agent/api"
)

// TestConnectWithoutATask is what a containerd does that was killed between the task's
// deletion and the shim's end. It cleans up after a shim that answers, has no
// processes, and then ends when asked to.
func TestConnectWithoutATask(t *testing.T) {
	s := &Service{containers: map[string]*task{}}
	r, err := s.Connect(t.Context(), &api.ConnectRequest{Id: "c"})
	if err != nil || r.GetShimPid() != uint32(os.Getpid()) || r.GetTaskPid() != 0 {
		t.Errorf("%v, %v", r, err)
	}
	if _, err := s.Pids(t.Context(), &api.PidsRequest{Id: "c"}); status.Code(err) != codes.NotFound {
		t.Errorf("pids: %v", err)
	}
}
