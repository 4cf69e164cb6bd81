package shim

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/tests/command"
	"github.com/microvm/microvm/tests/inventory"
)

// podNamespace is containerd's for what comes through CRI.
const podNamespace = "k8s.io"

// Modes of namespaces in CRI.
const (
	ofPod    = 0
	ofSelf   = 1
	ofNode   = 2
	ofTarget = 3
)

// pods is the CRI side of a daemon, driven by crictl as a kubelet does.
type pods struct {
	*site
	handler string
}

// eachWithPods runs a test against every daemon, with each of its handlers.
func eachWithPods(t *testing.T, test func(t *testing.T, p pods)) {
	for _, d := range daemons {
		for _, handler := range d.handlers {
			withPods(t, d, handler, test)
		}
	}
}

func withPods(t *testing.T, d *daemon, handler string, test func(t *testing.T, p pods)) {
	t.Run(d.name+"-"+handler, func(t *testing.T) {
		p := pods{newSite(t, d), handler}
		t.Cleanup(func() {
			if said, err := exec.Command(crictl, p.crictlArgs("rmp", "--force", "--all")...).CombinedOutput(); err != nil {
				t.Errorf("remove pods: %v: %s", err, said)
			}
		})
		test(t, p)
	})
}

// eachWithSandboxes runs a test where pods are the shim's own sandboxes.
func eachWithSandboxes(t *testing.T, test func(t *testing.T, p pods)) {
	found := false
	for _, d := range daemons {
		if slices.Contains(d.handlers, sandboxed) {
			found = true
			withPods(t, d, sandboxed, test)
		}
	}
	if !found {
		t.Error("no daemon knows sandboxes")
	}
}

func (p pods) crictlArgs(args ...string) []string {
	return append([]string{"--runtime-endpoint", "unix://" + p.Socket(), "--image-endpoint", "unix://" + p.Socket(), "--timeout", "3m"}, args...)
}

func (p pods) crictl(args ...string) *command.Command {
	return command.New(p.t, append([]string{crictl}, p.crictlArgs(args...)...)...)
}

// object is a JSON object.
type object map[string]any

func (p pods) file(o object) string {
	p.t.Helper()
	data, err := json.Marshal(o)
	if err != nil {
		p.t.Fatal(err)
	}
	f, err := os.CreateTemp(p.dir, "*.json")
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		p.t.Fatal(err)
	}
	return f.Name()
}

// pod is a running pod.
type pod struct {
	pods
	id, config string
}

// pod runs one on the host's network. linux is added to its configuration.
func (p pods) pod(linux object) pod {
	p.t.Helper()
	return p.podWith(withNamespaces(linux, object{"network": ofNode}))
}

// podWith runs one with that Linux configuration.
func (p pods) podWith(linux object) pod {
	p.t.Helper()
	return p.podOf(object{"linux": linux})
}

// podOf runs one with what o says of its configuration.
func (p pods) podOf(o object) pod {
	p.t.Helper()
	name := newID(p.t)
	all := object{
		"metadata": object{"name": strings.ToLower(name), "namespace": "default", "attempt": 1, "uid": name},
		"hostname": "pod-host", "log_directory": p.dir,
	}
	maps.Copy(all, o)
	config := p.file(all)
	return pod{p, strings.TrimSpace(p.crictl("runp", "--runtime", p.handler, config).Output()), config}
}

// container runs a script in the pod. linux is its Linux configuration.
func (p pod) container(script string, linux object) (id string) {
	p.t.Helper()
	return p.containerWith(script, linux)
}

// containerWith does so with mounts.
func (p pod) containerWith(script string, linux object, mounts ...object) (id string) {
	p.t.Helper()
	return p.containerOf(script, object{"linux": linux, "mounts": mounts})
}

// containerOf does so with what o says of its configuration.
func (p pod) containerOf(script string, o object) (id string) {
	p.t.Helper()
	name := newID(p.t)
	all := object{
		"metadata": object{"name": strings.ToLower(name)},
		"image":    object{"image": image}, "command": []string{"sh", "-c", script},
		"log_path": name + ".log",
	}
	maps.Copy(all, o)
	config := p.file(all)
	id = strings.TrimSpace(p.crictl("create", p.id, config, p.config).Output())
	p.crictl("start", id).Output()
	return id
}

// in runs a program in a container.
func (p pods) in(id string, args ...string) string {
	p.t.Helper()
	return strings.TrimSpace(p.crictl(append([]string{"exec", "--sync", id}, args...)...).Output())
}

// status is what crictl says of a container.
func (p pods) status(id string) (s struct {
	State, Reason string
	ExitCode      int
}) {
	p.t.Helper()
	var o struct{ Status json.RawMessage }
	text := p.crictl("inspect", id).Output()
	err := json.Unmarshal([]byte(text), &o)
	if err == nil {
		err = json.Unmarshal(o.Status, &s)
	}
	if err != nil {
		p.t.Fatalf("%v: %s", err, text)
	}
	return s
}

func (p pods) waitExited(id string) {
	p.t.Helper()
	command.Eventually(p.t, id+" has exited", func() bool { return p.status(id).State == "CONTAINER_EXITED" })
}

// private are the namespaces of a pod that does not share its processes.
func private(linux object) object {
	return withNamespaces(linux, object{"network": ofNode, "pid": ofSelf})
}

func withNamespaces(linux, namespaces object) object {
	all := object{"security_context": object{"namespace_options": namespaces}}
	for k, v := range linux {
		all[k] = v
	}
	return all
}

const idle = "exec sleep 100000"

// TestPod goes through what a pod's machine does for its containers.
func TestPod(t *testing.T) {
	eachWithPods(t, func(t *testing.T, p pods) {
		one := p.pod(object{
			"resources": object{"memory_limit_in_bytes": 300 << 20, "cpu_quota": 200000, "cpu_period": 100000},
			"sysctls":   object{"kernel.shmmax": "123456789", "kernel.sem": "100 200 30 40", "fs.mqueue.msg_max": "77"},
		})
		a, b := one.container(idle, private(nil)), one.container(idle, private(nil))
		one.sharesItsMachine(a, b)
		one.hasItsSize(a)
		one.hasFigures(a, b)
		one.hasItsSettings(a)
		one.sharesProcesses()
		one.seesTarget()
		one.survivesOutOfMemory(a)
		one.hasVolumes()
		one.hasMemory()
		one.seesUpdatedVolume()
		one.sharesSocket()
		one.outlivesContainers(a)
	})
}

// sharesItsMachine among its containers a and b, but not with another pod.
func (p pod) sharesItsMachine(a, b string) {
	t := p.t
	t.Helper()
	other := p.pods.pod(nil)
	c := other.container(idle, private(nil))
	id := func(container, file string) string { return p.in(container, "readlink", file) }
	boot := func(container string) string { return p.in(container, "cat", "/proc/sys/kernel/random/boot_id") }
	if boot(a) != boot(b) || boot(a) == boot(c) {
		t.Errorf("machines: %s, %s and %s", boot(a), boot(b), boot(c))
	}
	for _, kind := range []string{"ipc", "uts", "net"} {
		if ns := "/proc/self/ns/" + kind; id(a, ns) != id(b, ns) {
			t.Errorf("%s differs: %s and %s", ns, id(a, ns), id(b, ns))
		}
	}
	for _, kind := range []string{"pid", "mnt", "cgroup"} {
		if ns := "/proc/self/ns/" + kind; id(a, ns) == id(b, ns) {
			t.Errorf("%s is shared: %s", ns, id(a, ns))
		}
	}
	if got := p.in(a, "hostname"); got != "pod-host" {
		t.Errorf("hostname %s", got)
	}
	p.in(a, "sh", "-c", "echo shared >/dev/shm/file")
	if got := p.in(b, "cat", "/dev/shm/file"); got != "shared" {
		t.Errorf("/dev/shm: %q", got)
	}
	if got := p.in(a, "sh", "-c", "df -k /dev/shm | awk 'END { print $2 }'"); got != "65536" {
		t.Errorf("/dev/shm has %s KiB, want CRI's 64 MiB", got)
	}
	if got := p.in(c, "ls", "/dev/shm"); got != "" {
		t.Errorf("/dev/shm of another pod: %q", got)
	}
	p.crictl("rmp", "--force", other.id).Output()
}

// hasItsSize as its annotations say.
func (p pod) hasItsSize(a string) {
	t := p.t
	t.Helper()
	if got, want := p.in(a, "nproc"), strconv.Itoa(min(2, goruntime.NumCPU())); got != want {
		t.Errorf("%s CPUs, not %s", got, want)
	}
	kib, err := strconv.Atoi(p.in(a, "awk", "/MemTotal/ {print $2}", "/proc/meminfo"))
	if err != nil || kib < 300<<10 || kib > 500<<10 {
		t.Errorf("%d KiB, %v", kib, err)
	}
}

// hasFigures of each container's own, of which b does some work.
func (p pod) hasFigures(a, b string) {
	t := p.t
	t.Helper()
	const room = 24 << 20
	p.in(b, "sh", "-c", fmt.Sprintf("head -c %d /dev/zero >/dev/shm/room; i=0; while test $i -lt 50000; do i=$((i+1)); done", room))
	command.Eventually(t, "the work shows in the container's figures", func() bool {
		idle, busy := p.figures(a), p.figures(b)
		return idle.memory > 0 && idle.memory < room && busy.memory > room && idle.cpu > 0 && busy.cpu > idle.cpu+1e7
	})
	p.in(b, "rm", "/dev/shm/room")
}

// figures are nanoseconds of a processor and bytes in use.
type figures struct{ cpu, memory int }

func (p pods) figures(id string) figures {
	p.t.Helper()
	type figure struct{ Value string }
	var o struct {
		Stats []struct {
			CPU    struct{ UsageCoreNanoSeconds figure }
			Memory struct{ WorkingSetBytes figure }
		}
	}
	text := p.crictl("stats", "--id", id, "--output", "json").Output()
	if err := json.Unmarshal([]byte(text), &o); err != nil || len(o.Stats) != 1 {
		p.t.Fatalf("%v: %s", err, text)
	}
	number := func(f figure) int { n, _ := strconv.Atoi(f.Value); return n }
	return figures{number(o.Stats[0].CPU.UsageCoreNanoSeconds), number(o.Stats[0].Memory.WorkingSetBytes)}
}

// hasItsSettings of IPC, in all containers that share it.
func (p pod) hasItsSettings(a string) {
	t := p.t
	t.Helper()
	if got := p.in(a, "cat", "/proc/sys/kernel/shmmax", "/proc/sys/kernel/sem", "/proc/sys/fs/mqueue/msg_max"); got != "123456789\n100\t200\t30\t40\n77" {
		t.Errorf("settings: %q", got)
	}
	bad := p.file(object{
		"metadata": object{"name": "bad", "namespace": "default", "attempt": 1, "uid": "bad"}, "hostname": "bad",
		"linux": withNamespaces(object{"sysctls": object{"vm.swappiness": "1"}}, object{"network": ofNode}),
	})
	if o := p.crictl("runp", "--runtime", p.handler, bad).Run(); o.Code == 0 || !strings.Contains(o.Stderr, "vm.swappiness") {
		t.Errorf("a setting of the whole machine: %v", o)
	}
}

// sharesProcesses only where that is asked for.
func (p pod) sharesProcesses() {
	t := p.t
	t.Helper()
	shared := withNamespaces(nil, object{"network": ofNode, "pid": ofPod})
	alone := p.container("exec sleep 4444", private(nil))
	a := p.container("sleep 1111; true", shared)
	b := p.container("sleep 2222 & sleep 3333; true", shared)
	sees := func(id, what string) bool { return strings.Contains(p.in(id, "ps"), what) }
	command.Eventually(t, "a sees b", func() bool { return sees(a, "sleep 2222") && sees(b, "sleep 1111") })
	if sees(alone, "sleep 1111") || sees(a, "sleep 4444") {
		t.Errorf("a container that shares nothing is in it: %s", p.in(a, "ps"))
	}
	if p.in(a, "cat", "/proc/1/comm") == "microvm-agent" {
		t.Error("the agent is in it")
	}
	p.crictl("stop", "--timeout", "1", b).Output()
	if sees(a, "sleep 2222") || sees(a, "sleep 3333") || !sees(a, "sleep 1111") {
		t.Errorf("after b's end: %s", p.in(a, "ps"))
	}
	p.crictl("rm", "--force", alone, a, b).Output()
}

// seesTarget, the one container whose processes it asks for, and not the other;
// what stands for each on the host shows its root file system.
func (p pod) seesTarget() {
	t := p.t
	t.Helper()
	a := p.container("echo a >/mark; exec sleep 1111", private(nil))
	b := p.container("echo b >/mark; exec sleep 2222", private(nil))
	look := p.container(idle, withNamespaces(nil, object{"network": ofNode, "pid": ofTarget, "target_id": b}))
	command.Eventually(t, "the marks are made", func() bool { return p.in(a, "cat", "/mark") == "a" && p.in(b, "cat", "/mark") == "b" })
	if seen := p.in(look, "ps"); !strings.Contains(seen, "sleep 2222") || strings.Contains(seen, "sleep 1111") {
		t.Errorf("processes beside the target's: %s", seen)
	}
	for id, want := range map[string]string{a: "a\n", b: "b\n"} {
		root := fmt.Sprintf("/proc/%d/root", p.pid(id))
		if got, err := os.ReadFile(root + "/mark"); err != nil || string(got) != want {
			t.Errorf("root of %s on the host: %q, %v", want, got, err)
		}
		p.crictl("rm", "--force", id).Output()
		command.Eventually(t, root+" is gone", func() bool { // a thread takes a moment to end
			_, err := os.Stat(root)
			return err != nil
		})
	}
	p.waitExited(look) // with the namespace
	p.crictl("rm", look).Output()
}

// pid is a container's on the host.
func (p pods) pid(id string) int {
	p.t.Helper()
	var o struct{ Info struct{ PID int } }
	text := p.crictl("inspect", id).Output()
	if err := json.Unmarshal([]byte(text), &o); err != nil || o.Info.PID == 0 {
		p.t.Fatalf("%v: %s", err, text)
	}
	return o.Info.PID
}

// survivesOutOfMemory of one container.
func (p pod) survivesOutOfMemory(peer string) {
	t := p.t
	t.Helper()
	hungry := p.container("tail /dev/zero", private(object{"resources": object{"memory_limit_in_bytes": 64 << 20}}))
	p.waitExited(hungry)
	if s := p.status(hungry); s.Reason != "OOMKilled" || s.ExitCode != 137 {
		t.Errorf("%+v", s)
	}
	if got := p.in(peer, "echo", "well"); got != "well" {
		t.Errorf("the peer says %q", got)
	}
}

// outlivesContainers that come and go.
func (p pod) outlivesContainers(a string) {
	t := p.t
	t.Helper()
	boot := p.in(a, "cat", "/proc/sys/kernel/random/boot_id")
	init := p.container("echo init; exit 3", private(nil))
	p.waitExited(init)
	if s := p.status(init); s.ExitCode != 3 || s.Reason != "Error" {
		t.Errorf("init container: %+v", s)
	}
	if got := p.crictl("logs", init).Output(); got != "init\n" {
		t.Errorf("logs: %q", got)
	}
	p.crictl("rm", init).Output()
	victim := p.container("trap 'exit 5' TERM; echo up >/tmp/up; while :; do sleep 0.1; done", private(nil))
	command.Eventually(t, "it listens to signals", func() bool { return p.crictl("exec", "--sync", victim, "test", "-e", "/tmp/up").Run().Code == 0 })
	p.crictl("stop", "--timeout", "60", victim).Output()
	if s := p.status(victim); s.State != "CONTAINER_EXITED" || s.ExitCode != 5 {
		t.Errorf("stopped container: %+v", s)
	}
	again := p.container(idle, private(nil))
	if got := p.in(again, "cat", "/proc/sys/kernel/random/boot_id"); got != boot {
		t.Errorf("another machine: %s, %s", got, boot)
	}
	if got := p.in(a, "echo", "well"); got != "well" {
		t.Errorf("the peer says %q", got)
	}
	p.crictl("stopp", p.id).Output()
	if s := p.status(a); s.State != "CONTAINER_EXITED" || s.ExitCode != 137 && s.ExitCode != 143 {
		t.Errorf("container of a stopped pod: %+v", s)
	}
	p.crictl("rmp", p.id).Output()
}

// TestPodGrows has containers that ask together for more than a machine has of
// which nothing is said.
func TestPodGrows(t *testing.T) {
	eachWithPods(t, func(t *testing.T, p pods) {
		one := p.pod(nil)
		var last string
		for range 2 {
			last = one.container(idle, private(object{"resources": object{"memory_limit_in_bytes": 400 << 20, "cpu_quota": 80000, "cpu_period": 100000}}))
		}
		if got, want := p.in(last, "nproc"), strconv.Itoa(min(2, goruntime.NumCPU())); got != want {
			t.Errorf("%s CPUs, not %s", got, want)
		}
		if kib, err := strconv.Atoi(p.in(last, "awk", "/MemTotal/ {print $2}", "/proc/meminfo")); err != nil || kib < 800<<10 {
			t.Errorf("%d KiB, %v", kib, err)
		}
	})
}

// TestPodInSlice is below a parent that is named as systemd's slices are, with all of
// its processes. Where systemd does not run, that is a path like others, as it is to
// runc.
func TestPodInSlice(t *testing.T) {
	programs := []string{"microvm-vmm", "microvm-network"}
	if machine == "software" {
		programs = append(programs, "qemu-system")
	}
	eachWithPods(t, func(t *testing.T, p pods) {
		one := p.podOf(object{"linux": withNamespaces(object{"cgroup_parent": "/microvm-test.slice"}, object{"network": ofNode})})
		for _, program := range programs {
			found := inventory.ProcessesOf(p.shimOf(one.machine()), program)
			if len(found) != 1 {
				t.Errorf("%s: %v", program, found)
			}
			for _, pid := range found {
				cgroup, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
				if err != nil || !strings.Contains(string(cgroup), "/microvm-test.slice") || !strings.Contains(string(cgroup), one.id) {
					t.Errorf("cgroup of %s: %s, %v", program, cgroup, err)
				}
			}
		}
		p.crictl("rmp", "--force", one.id).Output()
	})
}

// TestKilledShimOfPod leaves a pod that can be removed, and nothing else.
func TestKilledShimOfPod(t *testing.T) {
	eachWithPods(t, func(t *testing.T, p pods) {
		before := inventory.Take(t, p.daemon.Dir)
		one := p.pod(nil)
		a := one.container(idle, private(nil))
		if err := unix.Kill(p.shimOf(one.machine()), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		p.waitExited(a)
		p.crictl("stopp", one.id).Output()
		p.crictl("rmp", one.id).Output()
		inventory.Compare(t, before)
	})
}

// machine is the pid of the pod's machine.
func (p pod) machine() int {
	p.t.Helper()
	var o struct{ Info struct{ PID int } }
	text := p.crictl("inspectp", p.id).Output()
	if err := json.Unmarshal([]byte(text), &o); err != nil || o.Info.PID == 0 {
		p.t.Fatalf("%v: %s", err, text)
	}
	return o.Info.PID
}

// TestKilledMachineOfPod ends all that was in it.
func TestKilledMachineOfPod(t *testing.T) {
	eachWithPods(t, func(t *testing.T, p pods) {
		one := p.pod(nil)
		a, b := one.container(idle, private(nil)), one.container(idle, private(nil))
		if err := unix.Kill(one.machine(), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{a, b} {
			p.waitExited(id)
			if s := p.status(id); s.ExitCode != 137 {
				t.Errorf("%+v", s)
			}
		}
		p.crictl("stopp", one.id).Output()
		p.crictl("rmp", one.id).Output()
	})
}

// TestPodAfterRestart is found by a daemon that was killed meanwhile.
func TestPodAfterRestart(t *testing.T) {
	eachWithPods(t, func(t *testing.T, p pods) {
		one := p.pod(nil)
		a := one.container(idle, private(nil))
		pid := one.machine()
		if err := p.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		command.Eventually(t, "CRI answers", func() bool { return p.crictl("pods").Run().Code == 0 })
		if again := one.machine(); again != pid {
			t.Errorf("the machine is %d, not %d", again, pid)
		}
		if got := p.in(a, "echo", "here"); got != "here" {
			t.Errorf("the container says %q", got)
		}
		if got := p.in(one.container(idle, private(nil)), "echo", "new"); got != "new" {
			t.Errorf("a new container says %q", got)
		}
		if got := p.crictl("pods", "--quiet", "--state", "ready").Output(); strings.TrimSpace(got) != one.id {
			t.Errorf("pods: %s", got)
		}
	})
}

// TestPodsOwnAnnotations count where the shim's configuration lets them through,
// and only there.
func TestPodsOwnAnnotations(t *testing.T) {
	eachWithSandboxes(t, func(t *testing.T, p pods) {
		pod := p.podOf(object{
			"linux":       withNamespaces(nil, object{"network": ofNode}),
			"annotations": object{"io.microvm.memory": "300", "io.microvm.cpus": "2"},
		})
		a := pod.container("exec sleep 1000", nil)
		if got := p.in(a, "nproc"); got != "1" {
			t.Errorf("%s CPUs by an annotation that is not let through", got)
		}
		kib, err := strconv.Atoi(p.in(a, "awk", "/MemTotal/ {print $2}", "/proc/meminfo"))
		if err != nil || kib > 300<<10 {
			t.Errorf("%d KiB, not below 300 MiB: %v", kib, err)
		}
	})
}

// TestPodWithoutPause is one that is no container, with figures of its own.
func TestPodWithoutPause(t *testing.T) {
	eachWithSandboxes(t, func(t *testing.T, p pods) {
		one := p.pod(nil)
		a := one.container("i=0; while test $i -lt 100000; do i=$((i+1)); done; exec sleep 1000", private(nil))
		if got := strings.Fields(p.do("--namespace", podNamespace, "containers", "list", "--quiet").Output()); len(got) != 1 || got[0] != a {
			t.Errorf("containers: %v", got)
		}
		if got := p.in(a, "sh", "-c", "cat /etc/hostname && ls /etc/hosts /etc/resolv.conf"); got != "pod-host\n/etc/hosts\n/etc/resolv.conf" {
			t.Errorf("files of the pod: %q", got)
		}
		var o struct {
			Stats []struct {
				Attributes struct{ ID string }
				Linux      struct {
					CPU    struct{ UsageCoreNanoSeconds struct{ Value string } }
					Memory struct{ UsageBytes struct{ Value string } }
				}
			}
		}
		command.Eventually(t, "the pod has figures", func() bool {
			text := p.crictl("statsp", "--id", one.id, "--output", "json").Output()
			if err := json.Unmarshal([]byte(text), &o); err != nil || len(o.Stats) != 1 || o.Stats[0].Attributes.ID != one.id {
				t.Fatalf("%v: %s", err, text)
			}
			figure := func(text string) int { n, _ := strconv.Atoi(text); return n }
			s := o.Stats[0].Linux
			// All of the machine: more than the container's own.
			return figure(s.CPU.UsageCoreNanoSeconds.Value) > 1e8 && figure(s.Memory.UsageBytes.Value) > 32<<20
		})
	})
}
