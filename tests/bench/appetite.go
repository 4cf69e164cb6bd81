package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Rows of what a file server takes.
const (
	serverMemoryRow      = "memory of the server, MiB"
	serverDescriptorsRow = "descriptors of the server"
)

// appetite is the most that a server and its children had at a time, apart from the
// guest's memory.
type appetite struct{ kib, descriptors int }

// watchAppetite looks at a server until it is told to stop, and then says what it saw.
func watchAppetite(pid int) (stop func() appetite) {
	quit, seen := make(chan struct{}), make(chan appetite)
	go func() {
		var most appetite
		for {
			now := appetiteOf(pid)
			most.kib, most.descriptors = max(most.kib, now.kib), max(most.descriptors, now.descriptors)
			select {
			case <-quit:
				seen <- most
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	return func() appetite { close(quit); return <-seen }
}

// appetiteOf looks once; a process that ends meanwhile has none.
func appetiteOf(pid int) (a appetite) {
	a.kib, _ = privateKiB(pid)
	if fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid)); err == nil {
		a.descriptors = len(fds)
	}
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for _, word := range strings.Fields(string(children)) {
		if child, err := strconv.Atoi(word); err == nil {
			c := appetiteOf(child)
			a.kib, a.descriptors = a.kib+c.kib, a.descriptors+c.descriptors
		}
	}
	return a
}
