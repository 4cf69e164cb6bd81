package inventory

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ProcessesOf finds the live processes whose command name starts with name and
// that are children of pid, or theirs.
func ProcessesOf(pid int, name string) []int {
	var found []int
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		var p int
		fmt.Sscanf(filepath.Base(filepath.Dir(path)), "%d", &p)
		comm, ppid := commAndParent(path)
		if strings.HasPrefix(comm, name) && (ppid == pid || parentOf(ppid) == pid) {
			found = append(found, p)
		}
	}
	return found
}

// Descendants finds the live processes below this one whose command name starts
// with name.
func Descendants(name string) []int {
	var found []int
	for pid := range descendants(os.Getpid()) {
		if comm, _ := commAndParent(fmt.Sprintf("/proc/%d/stat", pid)); strings.HasPrefix(comm, name) {
			found = append(found, pid)
		}
	}
	sort.Ints(found)
	return found
}

// commAndParent reads a /proc/PID/stat. What is a zombie has no name.
func commAndParent(stat string) (comm string, ppid int) {
	data, err := os.ReadFile(stat)
	text := string(data)
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if err != nil || open < 0 || end < open {
		return "", 0
	}
	var state string
	fmt.Sscan(text[end+1:], &state, &ppid)
	if state == "Z" {
		return "", ppid
	}
	return text[open+1 : end], ppid
}

func parentOf(pid int) int {
	_, ppid := commAndParent(fmt.Sprintf("/proc/%d/stat", pid))
	return ppid
}

// ourProcesses finds what descends from the test and is one of our binaries or
// QEMU as the software machine. The test is a subreaper: nothing that it
// started can leave its descent. A containerd is the test's own, wherever it is.
func ourProcesses() map[string]bool {
	reapOrphans()
	set := map[string]bool{}
	for pid := range descendants(os.Getpid()) {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil || len(data) == 0 {
			continue
		}
		cmdline := strings.ReplaceAll(strings.TrimRight(string(data), "\x00"), "\x00", " ")
		program, _, _ := strings.Cut(cmdline, " ")
		if strings.Contains(cmdline, "microvm") && filepath.Base(program) != "containerd" {
			set[fmt.Sprintf("%d: %s", pid, cmdline[:min(len(cmdline), 2048)])] = true
		}
	}
	return set
}

// descendants returns the pids of the processes below root.
func descendants(root int) map[int]bool {
	parents := map[int]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err == nil {
			_, parents[pid] = commAndParent(path)
		}
	}
	below := map[int]bool{}
	for pid := range parents {
		for up := parents[pid]; up > 1; up = parents[up] {
			if up == root {
				below[pid] = true
				break
			}
		}
	}
	return below
}

// isOurs tells from /proc/PID/stat whether it is about one of our binaries. Names
// are cut off after 15 bytes.
func isOurs(stat string) bool {
	return strings.Contains(stat, "(microvm-") || strings.Contains(stat, "(containerd-shim)")
}

// reapOrphans collects children that the test got as a subreaper and does not
// wait for by their pid: only those that are zombies of our binaries.
func reapOrphans() {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		var pid, ppid int
		var state string
		rest := string(data[strings.LastIndexByte(string(data), ')')+1:])
		if _, err := fmt.Sscan(string(data), &pid); err != nil {
			continue
		}
		if _, err := fmt.Sscan(rest, &state, &ppid); err != nil {
			continue
		}
		if ppid == os.Getpid() && state == "Z" && isOurs(string(data)) {
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
		}
	}
}
