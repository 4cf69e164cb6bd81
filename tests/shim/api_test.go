package shim

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	apievents "github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/api/services/events/v1"
	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/tests/command"
)

// connect is for what ctr cannot do.
func (s *site) connect() (context.Context, *grpc.ClientConn) {
	s.t.Helper()
	conn, err := grpc.NewClient("unix://"+s.Socket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), command.Patience)
	s.t.Cleanup(func() {
		cancel()
		conn.Close()
	})
	return metadata.AppendToOutgoingContext(ctx, "containerd-namespace", namespace), conn
}

// subscribe collects the events of tasks. What is there has come in order; next
// waits for one more.
func (s *site) subscribe() (next func() any) {
	s.t.Helper()
	ctx, conn := s.connect()
	stream, err := events.NewEventsClient(conn).Subscribe(ctx, &events.SubscribeRequest{Filters: []string{"topic~=|^/tasks/|,namespace==" + namespace}})
	if err != nil {
		s.t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond) // a subscription is not acknowledged
	return func() any {
		s.t.Helper()
		e, err := stream.Recv()
		if err != nil {
			s.t.Fatalf("no more events: %v", err)
		}
		body, err := typeurl.UnmarshalAny(e.GetEvent())
		if err != nil {
			s.t.Fatalf("%s: %v", e.GetTopic(), err)
		}
		return body
	}
}

// expect is the next event, which is of a kind.
func expect[E any](t *testing.T, next func() any) E {
	t.Helper()
	got := next()
	e, ok := got.(E)
	if !ok {
		var want E
		t.Fatalf("event %T, not %T: %v", got, want, got)
	}
	return e
}

func TestEvents(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		next := s.subscribe()
		id := s.detached("--", "sleep", "1000")
		pid, _ := s.task(id)
		if e := expect[*apievents.TaskCreate](t, next); e.GetContainerID() != id || e.GetPid() != uint32(pid) || e.GetBundle() == "" || len(e.GetRootfs()) != 1 {
			t.Errorf("create: %v", e)
		}
		if e := expect[*apievents.TaskStart](t, next); e.GetContainerID() != id || e.GetPid() != uint32(pid) {
			t.Errorf("start: %v", e)
		}
		s.exec(id, "--", "sh", "-c", "exit 5").Wants(5)
		added := expect[*apievents.TaskExecAdded](t, next)
		if added.GetContainerID() != id || added.GetExecID() == "" {
			t.Errorf("exec added: %v", added)
		}
		if e := expect[*apievents.TaskExecStarted](t, next); e.GetContainerID() != id || e.GetExecID() != added.GetExecID() || e.GetPid() == 0 {
			t.Errorf("exec started: %v", e)
		}
		if e := expect[*apievents.TaskExit](t, next); e.GetContainerID() != id || e.GetID() != added.GetExecID() || e.GetExitStatus() != 5 {
			t.Errorf("exec's exit: %v", e)
		}
		s.do("tasks", "pause", id).Output()
		if e := expect[*apievents.TaskPaused](t, next); e.GetContainerID() != id {
			t.Errorf("paused: %v", e)
		}
		s.do("tasks", "resume", id).Output()
		if e := expect[*apievents.TaskResumed](t, next); e.GetContainerID() != id {
			t.Errorf("resumed: %v", e)
		}
		s.do("tasks", "kill", "--signal", "KILL", id).Output()
		exit := expect[*apievents.TaskExit](t, next)
		if exit.GetContainerID() != id || exit.GetID() != id || exit.GetExitStatus() != 137 || exit.GetPid() != uint32(pid) || exit.GetExitedAt() == nil {
			t.Errorf("exit: %v", exit)
		}
		s.delete(id, 137)
		if e := expect[*apievents.TaskDelete](t, next); e.GetContainerID() != id || e.GetExitStatus() != 137 || e.GetPid() != uint32(pid) || e.GetExitedAt().AsTime() != exit.GetExitedAt().AsTime() {
			t.Errorf("delete: %v", e)
		}
	})
}

// TestOutOfMemory is told by an event before that of the exit.
func TestOutOfMemory(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		next := s.subscribe()
		id := s.detached("--memory-limit", strconv.Itoa(64<<20), "--", "tail", "/dev/zero")
		expect[*apievents.TaskCreate](t, next)
		expect[*apievents.TaskStart](t, next)
		if e := expect[*apievents.TaskOOM](t, next); e.GetContainerID() != id {
			t.Errorf("out of memory: %v", e)
		}
		if e := expect[*apievents.TaskExit](t, next); e.GetExitStatus() != 137 {
			t.Errorf("exit: %v", e)
		}
	})
}

// updates the limits of a container that shows its own.
func (s *site) updates(id string) {
	t := s.t
	t.Helper()
	ctx, conn := s.connect()
	update := func(limit int64) error {
		r, err := api.NewResources(&specs.LinuxResources{
			Memory: &specs.LinuxMemory{Limit: &limit},
			CPU:    &specs.LinuxCPU{Quota: ptr(int64(50000)), Period: ptr(uint64(100000)), Cpus: "0"},
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = tasks.NewTasksClient(conn).Update(ctx, &tasks.UpdateTaskRequest{ContainerID: id, Resources: r})
		return err
	}
	if err := update(96 << 20); err != nil {
		t.Fatal(err)
	}
	s.exec(id, "--", "cat", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/cpu.max").Wants(0, strconv.Itoa(96<<20), "50000 100000")
	if err := update(256 << 20); err != nil {
		t.Errorf("a limit beyond the machine's start: %v", err)
	}
	s.exec(id, "--", "sh", "-c", "test $(awk '/MemTotal/ {print $2}' /proc/meminfo) -gt 262144 && cat /sys/fs/cgroup/memory.max").Wants(0, strconv.Itoa(256<<20))
}

func ptr[T any](v T) *T { return &v }

// TestLimits measures what is used of them, and changes them.
func TestLimits(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		id := s.detached("--memory-limit", strconv.Itoa(64<<20), "--mount", cgroups, "--", "sh", "-c", "i=0; while test $i -lt 100000; do i=$((i+1)); done; echo done >/tmp/done; sleep 1000; true")
		command.Eventually(t, "the work is done", func() bool { return s.exec(id, "--", "test", "-e", "/tmp/done").Run().Code == 0 })
		m := s.metrics(id)
		if m.Pids.Current != 2 || m.CPU.UserUsec < m.CPU.SystemUsec || m.CPU.UsageUsec < 10000 || m.Memory.Usage == 0 || m.Memory.UsageLimit != 64<<20 {
			t.Errorf("metrics: %+v", m)
		}
		s.exec(id, "--", "cat", "/sys/fs/cgroup/memory.max").Wants(0, strconv.Itoa(64<<20))
		s.isInPlace(id)
		s.updates(id)
		s.exec(id, "--", "sh", "-c", "i=0; while test $i -lt 200000; do i=$((i+1)); done").Wants(0)
		if after := s.metrics(id).CPU; after.NrPeriods == 0 || after.NrThrottled == 0 || after.ThrottledUsec == 0 || after.UsageUsec <= m.CPU.UsageUsec {
			t.Errorf("metrics of half a processor's work: %+v", after)
		}
	})
}

// metrics are some of a container's.
type metrics struct {
	Pids   struct{ Current uint64 }
	CPU    struct{ UsageUsec, UserUsec, SystemUsec, NrPeriods, NrThrottled, ThrottledUsec uint64 }
	Memory struct{ Usage, UsageLimit uint64 }
}

func (s *site) metrics(id string) (m metrics) {
	s.t.Helper()
	text := s.do("tasks", "metrics", "--format", "json", id).Output()
	decoder := json.NewDecoder(strings.NewReader(strings.NewReplacer("_", "").Replace(text)))
	if err := decoder.Decode(&m); err != nil {
		s.t.Fatalf("%v: %s", err, text)
	}
	return m
}

// TestOutOfMemoryOfChild is told while the container goes on.
func TestOutOfMemoryOfChild(t *testing.T) {
	last(t, func(t *testing.T, s *site) {
		next := s.subscribe()
		id := s.detached("--memory-limit", strconv.Itoa(64<<20), "--", "sh", "-c", "tail /dev/zero; tail /dev/zero; echo done >/tmp/done; sleep 1000; true")
		expect[*apievents.TaskCreate](t, next)
		expect[*apievents.TaskStart](t, next)
		if e := expect[*apievents.TaskOOM](t, next); e.GetContainerID() != id {
			t.Errorf("out of memory: %v", e)
		}
		if _, status := s.task(id); status != "RUNNING" {
			t.Errorf("status %s", status)
		}
		command.Eventually(t, "the children are gone", func() bool { return s.exec(id, "--", "test", "-e", "/tmp/done").Run().Code == 0 })
	})
}
