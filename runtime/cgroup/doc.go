// Package cgroup places a container's machine in a cgroup of the host: the VM
// process with all its children, and the monitor, whose pid engines look up.
//
// The cgroup limits the machine as a whole. The container's own limits hold in
// the guest, where the container is alone in a hierarchy of its own. What
// counts things of the guest's kernel stays there: pids, hugepages, device
// rules, OOM settings and all of linux.resources.unified, whose keys mean the
// container's cgroup and not the one around its machine.
//
// Order of calls: New, then the Record is saved, then Join by the process that
// starts the machine, Limit any number of times, and at last Leave by the same
// process if it outlives the cgroup, and Remove by whoever has the Record.
package cgroup
