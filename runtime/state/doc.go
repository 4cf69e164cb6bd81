// Package state keeps what is known about containers on disk, one directory of
// mode 0700 per container below a root:
//
//	<root>/<id>/lock         flock(2)ed by whoever reads and then changes the state
//	<root>/<id>/state.json   [State], replaced atomically
//	<root>/<id>/vsock.sock   the way into the virtual machine
//	<root>/<id>~<process>    a directory that this process is making or removing
//
// It survives a SIGKILL of any process at any moment: state.json is either the
// old or the new one, locks die with their holder, and a recorded process is
// known by its pid and its start time, so that a state whose processes are
// gone is recognised as stale. A directory gets its id when all is in it, and
// loses it before anything is taken out; what a killed process had under a name of
// its own, the next creator of any container removes.
//
// Lock order: a [Dir] is locked before anything else of the container is
// touched, and never two of them at once, but that of a container in another one's
// machine before that one's.
package state
