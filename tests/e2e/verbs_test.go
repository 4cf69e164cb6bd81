package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/microvm/microvm/tests/command"
	"github.com/microvm/microvm/tests/lab/labtest"
)

func TestPausedContainerStandsStill(t *testing.T) {
	s := newSite(t)
	b := s.bundle(sh("while :; do echo tick; sleep 0.1; done"))
	id, pid, stdout := s.detached(b)
	command.Eventually(t, "it ticks", func() bool { return read(t, stdout) != "" })
	s.command("pause", id).Output()
	if st := s.state(id); st.Status != "paused" || st.Pid != pid {
		t.Errorf("state %+v", st)
	}
	time.Sleep(300 * time.Millisecond) // what was on its way arrives
	before := len(read(t, stdout))
	time.Sleep(500 * time.Millisecond)
	if now := len(read(t, stdout)); now != before {
		t.Errorf("%d bytes came while paused", now-before)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"pause", id}, "container not running"},
		{[]string{"exec", id, "true"}, "cannot exec in a paused container (use --ignore-paused to override)"},
		{[]string{"delete", id}, "that is not stopped: paused"},
		{[]string{"checkpoint", id}, "checkpoint is not supported"},
	} {
		if o := s.command(c.args...).Run(); o.Code == 0 || !strings.Contains(o.Stderr, c.want) {
			t.Errorf("%v: %v", c.args, o)
		}
	}
	waiting := make(chan command.Outcome)
	go func() { waiting <- s.command("exec", "--ignore-paused", id, "echo", "at last").Run() }()
	s.command("resume", id).Output()
	if o := <-waiting; o.Code != 0 || o.Stdout != "at last\n" {
		t.Errorf("exec --ignore-paused: %v", o)
	}
	command.Eventually(t, "it ticks again", func() bool { return len(read(t, stdout)) > before })
	if o := s.command("resume", id).Run(); o.Code == 0 || !strings.Contains(o.Stderr, "container not paused") {
		t.Errorf("resume: %v", o)
	}
	s.command("pause", id).Output()
	s.command("kill", id, "KILL").Output()
	if code := waitPid(t, pid); code != 137 {
		t.Errorf("killed while paused: exit code %d", code)
	}
}

func TestUpdate(t *testing.T) {
	labtest.SameOnBoth(t)
	s := newSite(t)
	limit := int64(64 << 20)
	b := s.bundle(sh("sleep 1000"), func(spec *specs.Spec) {
		weight := uint16(500)
		spec.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}, BlockIO: &specs.LinuxBlockIO{Weight: &weight}}
	})
	id, _, _ := s.detached(b)
	values := func() string {
		return s.command("exec", id, "sh", "-c", "cd /sys/fs/cgroup; cat memory.max cpu.max pids.max cpu.weight").Output()
	}
	s.command("update", "--memory", "80M", "--cpu-quota", "50000", "--cpu-period", "100000", "--pids-limit", "20", id).Output()
	if got := values(); got != "83886080\n50000 100000\n20\n100\n" {
		t.Errorf("after flags: %q", got)
	}
	o := s.command("update", "--resources", "-", id).Input(strings.NewReader(`{"cpu": {"shares": 2048}, "memory": {"reservation": 1048576}}`)).Run()
	if got := values(); o.Code != 0 || !strings.HasPrefix(got, "83886080\n50000 100000\n20\n") || strings.HasSuffix(got, "\n100\n") {
		t.Errorf("after a file: %v, %q", o, got)
	}
	// Options may come last. An idle cgroup has no weight, block I/O and
	// real-time scheduling are not the guest's.
	s.command("update", id, "--cpu-idle", "1", "--blkio-weight", "300").Output()
	if got := s.command("exec", id, "cat", "/sys/fs/cgroup/cpu.idle").Output(); got != "1\n" {
		t.Errorf("cpu.idle: %q", got)
	}
	// What the kernel refuses is not asked for again.
	if o := s.command("update", "--cpu-idle", "3", id).Run(); o.Code == 0 || !strings.Contains(o.Stderr, "cpu.idle") {
		t.Errorf("idle 3: %v", o)
	}
	s.command("update", "--cpu-idle", "0", id).Output()
	s.command("exec", id, "true").Output()
	o = s.command("update", "--resources", "-", id).Input(strings.NewReader(`{"cpu": {"realtimeRuntime": 1}}`)).Run()
	if o.Code == 0 || !strings.Contains(o.Stderr, "cpu.realtimeRuntime") {
		t.Errorf("real-time limits: %v", o)
	}
	if o := s.command("update", "--memory", "lots", id).Run(); o.Code == 0 || !strings.Contains(o.Stderr, "invalid value for memory") {
		t.Errorf("no number: %v", o)
	}
}

// TestGrowingMachine gives a container more than its machine was started with.
func TestGrowingMachine(t *testing.T) {
	s := newSite(t)
	limited := func(annotations map[string]string) *bundle {
		return s.bundle(sh("sleep 1000"), func(spec *specs.Spec) {
			limit := int64(64 << 20)
			spec.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}
			spec.Annotations = annotations
		})
	}
	id, _, _ := s.detached(limited(nil))
	total := func() int {
		kib, err := strconv.Atoi(strings.TrimSpace(s.command("exec", id, "awk", "/MemTotal/ {print $2}", "/proc/meminfo").Output()))
		if err != nil {
			t.Fatal(err)
		}
		return kib >> 10
	}
	if got := total(); got > 200 {
		t.Errorf("%d MiB at the start", got)
	}
	for _, limit := range []int{300, 500, 400, 500} {
		s.command("update", "--memory", strconv.Itoa(limit)+"M", id).Output()
		if got := total(); got < limit || got > limit+500 {
			t.Errorf("%d MiB with a limit of %d", got, limit)
		}
	}
	s.command("exec", id, "dd", "if=/dev/zero", "of=/dev/null", "bs=400M", "count=1").Output()
	chosen, _, _ := s.detached(limited(map[string]string{"io.microvm.memory": "200"}))
	if o := s.command("update", "--memory", "500M", chosen).Run(); o.Code == 0 || !strings.Contains(o.Stderr, "the machine has no more than 0") {
		t.Errorf("a machine whose size the user chose: %v", o)
	}
}

// usage is what this test reads of an event.
type usage struct {
	Type, ID string
	Data     struct {
		CPU struct {
			Usage struct{ Total, User, Kernel uint64 }
		}
		Memory struct{ Usage struct{ Limit, Usage uint64 } }
		Pids   struct{ Current, Limit uint64 }
	}
}

func TestEvents(t *testing.T) {
	labtest.SameOnBoth(t)
	s := newSite(t)
	limit, pids := int64(64<<20), int64(30)
	b := s.bundle(sh("i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; touch /done; while ! test -e /go; do sleep 0.1; done; (tail /dev/zero); sleep 1000"), func(spec *specs.Spec) {
		spec.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}, Pids: &specs.LinuxPids{Limit: &pids}}
	})
	id, _, _ := s.detached(b)
	command.Eventually(t, "the loop is through", func() bool { _, err := os.Stat(b.rootfs("done")); return err == nil })
	var e usage
	if err := json.Unmarshal([]byte(s.command("events", "--stats", id).Output()), &e); err != nil {
		t.Fatal(err)
	}
	cpu := e.Data.CPU.Usage
	if e.Type != "stats" || e.ID != id || e.Data.Memory.Usage.Limit != 64<<20 || e.Data.Memory.Usage.Usage == 0 || e.Data.Pids.Limit != 30 ||
		e.Data.Pids.Current == 0 || cpu.User <= cpu.Kernel/2 || cpu.Total < cpu.User {
		t.Errorf("%+v", e)
	}

	ctx, cancel := context.WithTimeout(t.Context(), command.Patience)
	defer cancel()
	cmd := s.command("events", "--interval", "200ms", id).Exec(ctx)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var e usage
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("%s: %v", lines.Bytes(), err)
		}
		seen[e.Type]++
		switch {
		case e.Type == "stats" && seen["stats"] == 2:
			if err := os.WriteFile(b.rootfs("go"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		case e.Type == "oom":
			s.command("kill", id, "KILL").Output()
		}
	}
	if err := cmd.Wait(); err != nil || seen["oom"] != 1 {
		t.Errorf("events end with %v after %v", err, fmt.Sprint(seen))
	}
	if o := s.command("events", "--stats", id).Run(); o.Code == 0 || !strings.Contains(o.Stderr, "is not running") {
		t.Errorf("events of a stopped container: %v", o)
	}
}
