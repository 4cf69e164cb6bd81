// Package vsock is the virtio socket device (virtio 1.2, section 5.10): it
// joins stream sockets of the guest to unix stream sockets of the host, in
// user space.
//
// # How it runs
//
// From Activate to Reset there is a session, whose loop is one goroutine. It
// alone touches the rings, the streams and their sockets, so none of these
// needs a lock. An epoll instance tells it of kicks and of sockets; that
// instance is waited for through Go's own poller, so that an idle device holds
// no thread and an idle stream neither a goroutine nor a buffer.
//
// Bytes move without a copy in this process: from a socket straight into the
// guest's receive buffer, and from the guest's packet straight into a socket.
// Only what a socket does not take at once waits in the stream's backlog.
//
// # Bounds
//
// The guest decides none of these: streams at a time (maxStreams), backlog per
// stream (bufAlloc, enforced as credit), packets that wait for a receive
// buffer (maxControl of the guest's making; when they are reached, the guest's
// packets wait in its own ring, and a few per stream of the host's making).
//
// # Locks
//
// Device.mu comes before session.mu; no lock is held across a system call that
// can block. session.mu guards only the mail box through which other
// goroutines reach the loop.
package vsock
