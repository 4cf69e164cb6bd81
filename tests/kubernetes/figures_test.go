package kubernetes

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestFigures measures, and asserts nothing: how long a pod takes from its creation
// until it is ready, alone and ten at once, and what memory of the host an idle one
// takes. MICROVM_FIGURES=1 has it run.
func TestFigures(t *testing.T) {
	if os.Getenv("MICROVM_FIGURES") == "" {
		t.Skip("MICROVM_FIGURES is not set")
	}
	each(t, func(s *space) {
		var alone, together []time.Duration
		for i := range 20 {
			name := fmt.Sprintf("alone%d", i)
			start := time.Now()
			s.pod(name, idle)
			s.ready(name)
			alone = append(alone, time.Since(start))
			s.kubectl("delete", "pod", name, "--grace-period=1")
		}
		before, names := memory(s), numbered("together", 10)
		start, done := time.Now(), make(chan time.Duration)
		s.pods(names, idle)
		for _, name := range names {
			go func() {
				_, err := s.try("wait", "--for=condition=Ready", "--timeout="+patience.String(), "pod/"+name)
				if err != nil {
					s.Error(err)
				}
				done <- time.Since(start)
			}()
		}
		for range names {
			together = append(together, <-done)
		}
		each := float64(memory(s)-before) / 1024 / float64(len(names))
		load, _ := os.ReadFile("/proc/loadavg")
		s.Logf("%s: to ready, of 20: %s; of 10 at once: %s; memory of an idle pod: %.1f MiB, %.1f pods in a GiB; load %s",
			s.class, spread(alone), spread(together), each, 1024/each, load)
	})
}

// numbered are names for some of a kind.
func numbered(kind string, n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("%s%d", kind, i))
	}
	return names
}

func spread(all []time.Duration) string {
	slices.Sort(all)
	return fmt.Sprintf("median %.1f s, 95th percentile %.1f s", all[len(all)/2].Seconds(), all[len(all)*95/100].Seconds())
}

// memory is what the node's shims and all that descends from them have, in KiB;
// what several processes map counts once.
func memory(s *space) (sum int) {
	parents := map[int]int{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		stat, err := os.ReadFile(dir + "/stat")
		if err != nil {
			continue // it has ended
		}
		pid, _ := strconv.Atoi(filepath.Base(dir))
		parents[pid], _ = strconv.Atoi(strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))[1])
	}
	for pid := range parents {
		for up := pid; up > 1; up = parents[up] {
			line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", up))
			if strings.Contains(string(line), "-address\x00"+s.node.Socket()+"\x00") {
				sum += proportional(pid)
				break
			}
		}
	}
	return sum
}

// proportional is a process's proportional set size, in KiB.
func proportional(pid int) (kib int) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if _, after, ok := strings.Cut(string(text), "\nPss:"); ok {
		kib, _ = strconv.Atoi(strings.Fields(after)[0])
	}
	return kib
}
