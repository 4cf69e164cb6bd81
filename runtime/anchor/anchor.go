// Package anchor makes the main thread of a process stand in the namespaces of
// a container.
//
// To the rest of the host, a container's pid is that of a process of ours, and
// its namespaces are those of that process's main thread: podman copies files
// through its mount namespace, hooks put interfaces into its network namespace.
// So the main thread serves nothing but [Do], and enters these namespaces; all
// other threads stay where the process was started.
package anchor

import "runtime"

var calls = make(chan call)

type call struct {
	f    func() error
	done chan<- error
}

// Main locks the main thread. It is to be called from an init function of
// package main, which is the only time when it is certain to be there.
func Main() { runtime.LockOSThread() }

// Serve makes the calls of Do, for ever. It is to be called by the main
// goroutine, after Main.
func Serve() {
	for c := range calls {
		c.done <- c.f()
	}
}

// Do calls f on the main thread and returns its error. What f starts is in the
// main thread's namespaces.
func Do(f func() error) error {
	done := make(chan error)
	calls <- call{f, done}
	return <-done
}
