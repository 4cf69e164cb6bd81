package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// processesNamed finds processes by the name of their executable.
func processesNamed(name string) ([]int, error) {
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, l := range links {
		exe, err := os.Readlink(l)
		if err != nil || filepath.Base(exe) != name {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(l)))
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// privateKiB is the proportional set size of a process without the guest's
// memory, which is a shared mapping of a nameless file on both contenders.
func privateKiB(pid int) (int, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	sum, guest := 0, false
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		fields := strings.Fields(sc.Text())
		if len(fields) > 0 && strings.Contains(fields[0], "-") {
			guest = strings.Contains(sc.Text(), " rw-s ") && strings.HasSuffix(sc.Text(), "(deleted)")
			continue
		}
		if len(fields) == 3 && fields[0] == "Pss:" && !guest {
			n, err := strconv.Atoi(fields[1])
			if err != nil {
				return 0, err
			}
			sum += n
		}
	}
	return sum, sc.Err()
}
