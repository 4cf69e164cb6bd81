// Package qemu is the software machine: QEMU's microvm machine with the TCG
// interpreter, for hosts without usable KVM. Our own devices are attached to it
// over vhost-user, so that the guest sees the same file system and sockets as
// on the embedded VMM; console, entropy and reset port are QEMU's.
//
// QEMU's developers do not count TCG as a security boundary. The software
// machine is for development, tests and hosts that have nothing else.
//
// QEMU gets everything as inherited descriptors, no path of this process or
// socket on disk is involved:
//
//	this process                        QEMU
//	vhostuser.Server  <- socketpair ->  vhost-user-{fs,vsock}-device
//	Config.Console    <- pipe --------  virtconsole and isa-serial
//	monitor           <- socketpair ->  QMP
//	resetLog          <- pipe --------  -D
//	Kernel, Initramfs -> descriptor ->  /proc/self/fd/N
//
// It builds the machine and waits (-S): when it has opened all that it needs, its
// root can be taken away, and the guest be started. It runs as nobody where it can.
//
// QEMU dies with the thread that started it, and so with this process.
package qemu
