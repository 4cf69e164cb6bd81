package process

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/microvm/microvm/agent/api"
)

func TestList(t *testing.T) {
	w := newWorld(t)
	spec := w.spec("sleep", "1000")
	spec.Process.User.UID = 77
	w.create("c", spec, Stdio{})
	w.start("c", "")
	p := w.only("c")
	for p.Command != "sleep 1000" { // it may not have come to its program yet
		time.Sleep(time.Millisecond)
		p = w.only("c")
	}
	if p.Ppid != uint32(os.Getpid()) || p.ContainerPid != 1 || p.Tty != "?" || p.Uid != 77 {
		t.Errorf("got %v", p)
	}
	if age := time.Since(time.Unix(0, p.StartedUnixNanos)); age < -time.Second || age > time.Hour {
		t.Errorf("started %v ago", age)
	}
	all, err := w.List("")
	if err != nil || len(all) < 2 {
		t.Errorf("all: got %v, %v", all, err)
	}
}

// only describes the only process of a container.
func (w *world) only(id string) *api.Process {
	w.t.Helper()
	list, err := w.List(id)
	if err != nil || len(list) != 1 {
		w.t.Fatalf("list: got %v, %v", list, err)
	}
	return list[0]
}

func TestParseStat(t *testing.T) {
	const stat = "42 (a) b (c) S 7 42 42 34817 42 4194304 1 2 3 4 150 50 0 0 20 0 1 0 12345 6 7 8"
	var p api.Process
	name, err := parseStat(stat, &p, time.Unix(1000, 0))
	if err != nil || name != "a) b (c" || p.Ppid != 7 || p.Tty != "pts/1" || p.CpuNanos != 2e9 || p.StartedUnixNanos != 1123450000000 {
		t.Errorf("got %q, %v, %v", name, &p, err)
	}
	for _, bad := range []string{"", "1 (x", "1 )x( S", "1 (x) S 1 2", strings.Replace(stat, "12345", "x", 1)} {
		if _, err := parseStat(bad, &p, time.Now()); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
}

func TestCommandLine(t *testing.T) {
	if got := commandLine([]byte("a\x00b c\x00"), "x"); got != "a b c" {
		t.Errorf("got %q", got)
	}
	if got := commandLine(nil, "kthreadd"); got != "[kthreadd]" {
		t.Errorf("got %q", got)
	}
}
