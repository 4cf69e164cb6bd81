// Package process runs containers and the processes in them, with libcontainer.
//
// An [Engine] holds everything: containers by id, and in each its first process
// and any number of execs by exec id. A process's life is created, running,
// stopped; see phase for the whole table. Standard streams are connections that
// arrive by themselves and wait in [Streams] until a process names them.
//
// The engine works as PID 1 of a machine or of a pid namespace: [Reaper] takes
// away what is orphaned there, without getting into libcontainer's way.
//
// Lock order: Engine.mu, container.mu, Reaper.mu, Streams.mu; none is held
// while libcontainer works or a stream is read or written.
package process
