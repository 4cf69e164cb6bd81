// Package guest does what PID 1 of the virtual machine has to do: it mounts the
// file systems, talks to the host over vsock, sets clock, entropy and host
// name from what the host knows, and powers the machine off.
package guest
