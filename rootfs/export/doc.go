// Package export is a file-system server that shows a guest some directories
// and files of the host, its exports, and nothing else. It speaks the FUSE
// protocol (include/uapi/linux/fuse.h, 7.38): bytes in, bytes out, no
// transport.
//
// The root of the share is synthetic. Its children are exports, added and
// removed while the server runs.
//
// What keeps a guest inside its exports:
//   - Everything is reached by descriptor. A name from the guest is a single
//     component (never ".", "..", empty, or with a slash) and is looked up with
//     O_PATH|O_NOFOLLOW below a directory that was reached the same way, so no
//     symbolic link is followed on the host, not even one that is swapped in at
//     the last moment.
//   - A descriptor is opened for reading or writing through the held
//     /proc/self/fd directory, which names an inode, not a path, and only when
//     it is a regular file or a directory: FIFOs, sockets and devices are for
//     the guest's kernel to open.
//   - Read-only is decided in one place, dispatch, before a handler runs.
//   - Nothing is opened by an absolute path after NewServer, so the process can
//     be confined to an empty root. The VM process is, and its filter (package
//     vmm/jail) knows the system calls that are made here: a new one has to be
//     added there.
//
// Permissions are checked by the guest's kernel (virtiofs always sets
// default_permissions); the server only gives new files to the caller who made
// them.
//
// Lock order: watchTable.next, watchTable.mu, registry.mu, then nodeTable.mu or handleTable.mu, then node.mu,
// then descriptors.mu.
package export
