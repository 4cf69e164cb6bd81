// Package container is the one lifecycle of containers, each in a machine of
// its own. Every front door translates to it.
//
// # Who does what
//
// A container has a monitor, the process whose pid is the container's on this
// host and which ends with the container's exit code:
//
//	create            monitor                                   VM process, agent
//	  |-- spawn ------->|
//	  |   request       |-- state directory, status creating
//	  |                 |-- launch ------------------------------> boots
//	  |                 |<------------------------------ Hello ---- agent ready
//	  |                 |-- streams, Create --------------------->
//	  |                 |-- status created
//	  |<- ready --------|-- Wait ------------------------------->
//	start --------------------------------------------- Start --> runs
//	kill ----------------------------------------------- Kill -->
//	                    |<------------------------ exit code ------
//	                    |-- Shutdown ---------------------------> powers off
//	                    |-- status stopped
//	                    X exit code
//	delete              removes the state directory
//
// A container that joins namespaces of another has a monitor, but no machine: it
// asks the monitor of the other one (landlord) for a part of its machine, and has
// that as long as both live (tenancy).
//
// In the foreground, run is its own monitor. An exec in the background has a
// monitor too; one in the foreground is its own.
//
// The monitor holds the machine's life line: whatever kills it also ends the
// machine. The state directory is then stale, which package state recognises.
package container
