package chaos

import (
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/microvm/microvm/tests/command"
	"github.com/microvm/microvm/tests/containerd"
	"github.com/microvm/microvm/tests/inventory"
)

// What may grow between the second quarter of a soak and the last one. The first is
// for caches to fill.
const (
	moreDescriptors = 8
	moreMemory      = 4 << 10 // KiB
	moreMemoryRatio = 1.2
	translated      = 256 << 10 // KiB of QEMU's cache of translated code, which fills slowly
)

// measurements is how often it is looked at what grows.
const measurements = 40

// TestSoak has containers come and go in one pod, and programs in another container
// of it, which lives as long as the pod does. What memory and descriptors the
// processes take that live so long, too, must not grow: containerd, the shim, the VM
// process with the file server, QEMU, the network's process, and all of the guest with
// its agent. MICROVM_CONTAINERS and MICROVM_EXECS say how many.
func TestSoak(t *testing.T) {
	containers, execs := number(t, "MICROVM_CONTAINERS"), number(t, "MICROVM_EXECS")
	list := filepath.SplitList(os.Getenv("MICROVM_CONTAINERD"))
	if containers == 0 || execs == 0 || len(list) == 0 {
		t.Skip("needs MICROVM_CONTAINERS, MICROVM_EXECS and MICROVM_CONTAINERD: run `make soak`")
	}
	s := newSoak(t, newDaemon(t, list[len(list)-1]))
	begin := time.Now()
	for i := range measurements {
		s.containers(containers*(i+1)/measurements - containers*i/measurements)
		s.execs(execs*(i+1)/measurements - execs*i/measurements)
		s.measure()
		t.Logf("%d containers, %d execs, %v: %v", containers*(i+1)/measurements, execs*(i+1)/measurements, time.Since(begin).Round(time.Second), s.latest())
	}
	s.judge()
}

func number(t *testing.T, variable string) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv(variable))
	if err != nil && os.Getenv(variable) != "" {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

// soak is a pod, with a container that lives as long as the pod does.
type soak struct {
	t             *testing.T
	daemon        *containerd.Daemon
	pod, resident string
	fifos         string
	processes     map[string]int
	figures       map[string][]float64 // all that were measured, by what they are
}

func newSoak(t *testing.T, d *containerd.Daemon) *soak {
	t.Helper()
	s := &soak{t: t, daemon: d, pod: fmt.Sprintf("soak%d", os.Getpid()), fifos: t.TempDir(), figures: map[string][]float64{}}
	s.resident = s.pod + "-resident"
	before := inventory.Take(t, d.Dir, s.pod)
	t.Cleanup(func() {
		for _, id := range []string{s.resident, s.pod} {
			_ = s.ctr("tasks", "delete", "--force", id).Run() // what is left tells
			_ = s.ctr("containers", "delete", id).Run()
		}
		inventory.Compare(t, before)
	})
	s.run([]string{"--detach"}, "sandbox", s.pod, "sleep 1000000")
	s.run([]string{"--detach", "--privileged"}, "container", s.resident, "while :; do sleep 1000; done")
	s.processes = map[string]int{"containerd": d.PID()}
	for name, prefix := range map[string]string{"shim": "containerd-shim", "VM process": "microvm-vmm", "network": "microvm-network", "QEMU": "qemu-system"} {
		switch pids := inventory.Descendants(prefix); {
		case len(pids) == 1:
			s.processes[name] = pids[0]
		case name != "QEMU" || machine == "software":
			t.Fatalf("%d processes %s", len(pids), prefix)
		}
	}
	return s
}

func (s *soak) ctr(args ...string) *command.Command {
	return command.New(s.t, append([]string{filepath.Join(s.daemon.Bin, "ctr"), "--address", s.daemon.Socket()}, args...)...)
}

// run runs a script in a container of the pod.
func (s *soak) run(how []string, kind, id, script string) string {
	s.t.Helper()
	args := append([]string{"run", "--net-host", "--runtime", runtime, "--fifo-dir", s.fifos}, how...)
	for key, value := range map[string]string{
		"io.microvm.machine": machine, "io.microvm.network": "user",
		"io.kubernetes.cri.container-type": kind, "io.kubernetes.cri.sandbox-id": s.pod,
	} {
		args = append(args, "--annotation", key+"="+value)
	}
	return s.ctr(append(args, image, id, "sh", "-c", script)...).Output()
}

func (s *soak) containers(n int) {
	s.t.Helper()
	for range n {
		id := fmt.Sprintf("%s-%d", s.pod, serial.Add(1))
		if said := s.run([]string{"--rm"}, "container", id, "echo $0 >/file; cat /file; rm /file; ls -lR /bin | tail -n 1 >/dev/null"); said != "sh\n" {
			s.t.Fatalf("container %s says %q", id, said)
		}
	}
}

// execs are programs that use what there is: files, streams and the network.
func (s *soak) execs(n int) {
	s.t.Helper()
	const script = `mkdir /d && for i in 1 2 3 4 5; do echo $i >/d/$i; done && cat /d/* | wc -l && rm -r /d; head -c 100000 /dev/zero; nc -w 1 192.168.127.1 9 </dev/null; echo end`
	for range n {
		said := s.ctr("tasks", "exec", "--exec-id", fmt.Sprintf("e%d", serial.Add(1)), "--fifo-dir", s.fifos, s.resident, "sh", "-c", script).Output()
		if !strings.HasPrefix(said, "5\n") || !strings.HasSuffix(said, "end\n") || len(said) != 100000+len("5\nend\n") {
			s.t.Fatalf("a program says %d bytes: %.20q", len(said), said)
		}
	}
}

func (s *soak) measure() {
	s.t.Helper()
	for name, pid := range s.processes {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			s.t.Fatalf("%s has ended: %v", name, err)
		}
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			s.t.Fatal(err)
		}
		s.note(name+", KiB", value(s.t, string(status), "RssAnon:"))
		s.note(name+", descriptors", float64(len(entries)))
	}
	s.measureGuest()
	s.note("files below containerd's state", float64(files(filepath.Join(s.daemon.Dir, "state"))))
}

// measureGuest takes what can be seen of all of the guest, without what is only cached:
// a page of a file keeps also the cgroup that has read it.
func (s *soak) measureGuest() {
	s.t.Helper()
	said := s.ctr("tasks", "exec", "--exec-id", "look", "--fifo-dir", s.fifos, s.resident, "sh", "-c",
		`sync; echo 3 >/proc/sys/vm/drop_caches; cat /proc/meminfo; read n rest </proc/sys/fs/file-nr; echo Open: $n; awk '$1 == "memory" {print "Cgroups:", $3}' /proc/cgroups`).Output()
	s.note("guest's programs, KiB", value(s.t, said, "AnonPages:"))
	s.note("guest's kernel, KiB", value(s.t, said, "SUnreclaim:")+value(s.t, said, "KernelStack:")+value(s.t, said, "PageTables:"))
	s.note("guest, open files", value(s.t, said, "Open:"))
	s.note("guest, cgroups", value(s.t, said, "Cgroups:"))
}

func (s *soak) note(what string, figure float64) { s.figures[what] = append(s.figures[what], figure) }

// latest are the figures that were measured last.
func (s *soak) latest() string {
	var all []string
	for _, what := range slices.Sorted(maps.Keys(s.figures)) {
		figures := s.figures[what]
		all = append(all, fmt.Sprintf("%s: %.0f", what, figures[len(figures)-1]))
	}
	return strings.Join(all, "; ")
}

// judge compares the second quarter with the last one.
func (s *soak) judge() {
	for _, what := range slices.Sorted(maps.Keys(s.figures)) {
		f := s.figures[what]
		early, late := median(f[len(f)/4:len(f)/2]), median(f[len(f)*3/4:])
		bound := early + moreDescriptors
		if strings.HasSuffix(what, "KiB") {
			bound = math.Max(early*moreMemoryRatio, early+moreMemory)
		}
		if strings.HasPrefix(what, "QEMU, KiB") {
			bound = math.Max(bound, f[0]+translated)
		}
		s.t.Logf("%s: %.0f, later %.0f, at most %.0f", what, early, late, bound)
		if late > bound {
			s.t.Errorf("%s grow from %.0f to %.0f: %v", what, early, late, f)
		}
	}
}

func median(figures []float64) float64 {
	sorted := slices.Sorted(slices.Values(figures))
	return sorted[len(sorted)/2]
}

// value is the number behind a word at the beginning of a line.
func value(t *testing.T, text, word string) float64 {
	t.Helper()
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == word {
			n, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				t.Fatalf("%s %v", word, err)
			}
			return n
		}
	}
	t.Fatalf("no %s in %s", word, text)
	return 0
}

func files(dir string) (n int) {
	_ = filepath.WalkDir(dir, func(string, os.DirEntry, error) error { // what goes away meanwhile does not count
		n++
		return nil
	})
	return n
}
