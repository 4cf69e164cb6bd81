//go:build !unjailed

package control

import "golang.org/x/sys/unix"

// Namespaces are the flags of clone(2) that a VM process is started with, so that
// it can build its jail (package jail). Its owner adds EmptyNetwork, unless the
// process is to stand in a network namespace, and CLONE_NEWUSER with a mapping of
// its own ids only if it may not do the rest otherwise.
const (
	Namespaces   = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	EmptyNetwork = unix.CLONE_NEWNET
)
