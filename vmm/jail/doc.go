// Package jail confines the VM process, and that of a user-mode network.
//
// # Threat model
//
// The guest is hostile from its first instruction, its kernel included, and so
// is every reply of its agent. KVM, or in software QEMU, is the first wall. The
// VM process behind it is assumed to fall one day; what runs in it then has what
// the guest had anyway, and no more: the guest's memory, its exports, its disks
// and its network devices, each an open descriptor that the owner handed over.
// Trusted are the host's kernel, the runtime command or the shim that owns the
// machine, and containerd.
//
// # Walls
//
// The owner starts the process in new mount, pid, ipc and uts namespaces, and an
// empty network namespace ([control.Namespaces]). A caller without the rights for
// that gets a user namespace, too, in which only its own id exists. The process
// then
//
//   - refuses to run when it was handed a descriptor that the configuration does
//     not name ([Inherited], [Prepare]),
//   - covers /proc by one of its own pid namespace, without anything but
//     processes ([Prepare]), through which the file server opens inodes again,
//   - and, before the guest's first instruction, changes to a root that is empty
//     and read-only, keeps only the capabilities that package jail gives a reason
//     for, and only the system calls that it lists, with the arguments that it
//     lists; any other kills it ([Enter]). It cannot get any of it back: it has
//     no_new_privs, and the filter is on every thread.
//
// QEMU, a child on the software machine, runs in the same namespaces and the
// same root as another user, nobody, without capabilities, with no_new_privs and
// its own filter (-sandbox): it starts no program.
//
// The file server alone (microvm-vmm fs) is started by whoever runs the other VMM: it
// keeps its namespaces, and has the last three of these walls ([Confine]).
//
// A user-mode network (microvm-network) takes the guest's frames apart, and is a process
// of its own. It keeps the network namespace it was started in and has the other ones
// new; it sees /etc, and the directories that resolv.conf leads to, read-only and nothing
// else; it is nobody without capabilities, and its filter lets it make connections,
// datagrams and pings ([Jail.EnterNetwork]).
//
// There is no switch that turns the jail off. Where a wall cannot be built the
// machine does not start, and the error says which one.
//
// # What is left
//
//   - The process runs as its owner's user, root as a rule: the file server makes
//     files of every user the guest has, which takes CAP_CHOWN, CAP_DAC_OVERRIDE
//     and the like, and these are worth as much to another user. It can't reach
//     files outside of the exports with them: CAP_DAC_READ_SEARCH, which opens any
//     inode of a file system by its handle, is not among them.
//   - A volume that follows the host's mounts (rshared, rslave) is handed over as
//     the host's own directory, not as a copy of its mount, and so is each of a
//     user who may not copy mounts. Who has the process can walk up from it, as
//     that user.
//   - With containerd the VM process is the container's process to the rest of the
//     host, and stands in its network namespace. The filter lets it make no socket
//     there.
//   - What the guest's kernel does for its own processes is not one of the walls: its
//     mitigations may be switched off, and it has no KASLR and no lockdown. A guest that
//     reads or writes all of its own memory is where this model begins. Between guests,
//     and between a guest and this process, mitigations are the host's kernel's.
//   - Landlock is not used: its rules for files are fixed once and name directories,
//     while volumes come and go with a pod's containers, and what it says of
//     programs and sockets the filter says already.
package jail
