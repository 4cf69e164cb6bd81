package oci

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// boundary is why a program that runc passes is not applicable: it looks at
// something on the wrong side of the machine's boundary.
type boundary struct {
	why string
	// finds matches all that the program may find, without "not ok" and number.
	finds *regexp.Regexp
}

const (
	pidOfTheHost = "compares the namespaces of the container's pid, which on the host is the process that stands for the container; its own are in the guest"
	pidsInGuest  = "reads the limit of pids from the host's cgroup; it counts the guest's processes and holds there, the host's cgroup holds the machine"
)

var notApplicable = map[string]boundary{
	"linux_ns_itype":  {pidOfTheHost, regexp.MustCompile(`^inherit namespace mnt without type$`)},
	"linux_ns_nopath": {pidOfTheHost, regexp.MustCompile(`^create namespace (cgroup|ipc|pid|user|uts) without path$`)},
	"linux_ns_path": {
		"joins namespaces of a process of the host; a container in a machine of its own can join the network's only",
		regexp.MustCompile(`^set (ipc|mnt|pid|uts) namespace by path$`),
	},
	"mounts": {
		"recognises a bind mount by the name of its source on the host, which the guest is not told",
		regexp.MustCompile(`^mounts\[\d+\] \(/mnt/etc-\w+\) found$`),
	},
	"delete_resources":            {pidsInGuest, regexp.MustCompile(`^pids limit is set correctly$`)},
	"linux_cgroups_pids":          {pidsInGuest, regexp.MustCompile(`^pids limit is set correctly$`)},
	"linux_cgroups_relative_pids": {pidsInGuest, regexp.MustCompile(`^pids limit is set correctly$`)},
}

// failure is a program that runc 1.1.5 was measured to fail.
type failure struct {
	why string
	// varies says that runc passes it now and then, as the program or the
	// container is faster, or on some hosts.
	varies bool
	// ours is what microvm-runtime has to do.
	ours outcome
}

type outcome int

const (
	fails outcome = iota
	passes
	either // by chance
)

// runcFails was measured on Debian 12 with cgroup v1; TestPeer measures it
// again.
var runcFails = map[string]failure{
	"delete":                         {why: "wants an error for the deletion of a created container, which runc deletes"},
	"hooks":                          {why: "expects a text that its own hooks do not write"},
	"hooks_stdin":                    {why: "expects the status created in prestart hooks; it is creating there"},
	"killsig":                        {why: "sends the signal when the shell may not have set its trap", varies: true, ours: either},
	"linux_cgroups_blkio":            {why: "sets blkio.leaf_weight, which kernels since 5.0 do not have"},
	"linux_cgroups_devices":          {why: "wants device rules listed as they were given; the kernel merges them"},
	"linux_cgroups_memory":           {why: "sets limits of kernel memory, which runc leaves out as deprecated"},
	"linux_cgroups_relative_blkio":   {why: "sets blkio.leaf_weight, which kernels since 5.0 do not have"},
	"linux_cgroups_relative_devices": {why: "wants device rules listed as they were given; the kernel merges them"},
	"linux_cgroups_relative_memory":  {why: "sets limits of kernel memory, which runc leaves out as deprecated"},
	"linux_mount_label":              {why: "wants an SELinux context, without SELinux", varies: true, ours: passes},
	"linux_process_apparmor_profile": {why: "wants an AppArmor profile, which is refused; runc refuses it on hosts without AppArmor", varies: true},
	"linux_rootfs_propagation":       {why: "asks for capabilities that not every host has", varies: true, ours: passes},
	"linux_seccomp":                  {why: "denies getcwd, which runc calls before the container's program"},
	"misc_props":                     {why: "runs a program that it has not put into its bundle"},
	"pidfile":                        {why: "sends a signal to a container whose program, true, has ended", varies: true, ours: either},
	"poststart":                      {why: "wants the container's program to write before the hooks after its start do", varies: true, ours: either},
	"poststart_fail":                 {why: "wants a failing hook to be passed over; since version 1.3 of the specification it ends the container"},
	"poststop_fail":                  {why: "wants a failing hook to be passed over", ours: passes},
	"prestart":                       {why: "wants prestart hooks to run at the start; runc, as the specification now says, runs them at the creation"},
	"process_capabilities":           {why: "asks for capabilities that not every host has", varies: true, ours: passes},
	"process_capabilities_fail":      {why: "wants an error for an unknown capability, of which runc warns"},
	"process_rlimits":                {why: "looks at the limit of open files from Go, whose runtime raises it"},
	"start":                          {why: "creates a container without a process, which runc refuses"},
}

// hierarchies are those of cgroup v1 that programs read, by what is in their
// names; no program knows cgroup v2.
var hierarchies = map[string][]string{
	"delete_only_create_resources": {"pids"},
	"delete_resources":             {"pids"},
	"linux_cgroups_blkio":          {"blkio"},
	"linux_cgroups_cpus":           {"cpu", "cpuset"},
	"linux_cgroups_devices":        {"devices"},
	"linux_cgroups_hugetlb":        {"hugetlb"},
	"linux_cgroups_memory":         {"memory"},
	"linux_cgroups_network":        {"net_cls", "net_prio"},
	"linux_cgroups_pids":           {"pids"},
}

// usesCgroup tells whether a program's containers are in the one cgroup that
// many programs name, and which of its hierarchies this host lacks.
func usesCgroup(name string) (uses bool, missing []string) {
	needed, uses := hierarchies[strings.Replace(name, "_relative_", "_", 1)]
	for _, h := range needed {
		if _, err := os.Stat(filepath.Join("/sys/fs/cgroup", h, "cgroup.procs")); err != nil {
			missing = append(missing, h)
		}
	}
	return uses, missing
}
