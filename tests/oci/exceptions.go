package oci

// notApplicable are the programs that runc passes and that the boundary of the
// machine makes meaningless.
var notApplicable = map[string]string{
	"linux_ns_itype":   "compares namespaces of the container's pid on the host, which is not the container's process",
	"linux_ns_nopath":  "compares namespaces of the container's pid on the host, which is not the container's process",
	"linux_ns_path":    "joins the namespaces of a process of the host, which a container in a machine of its own cannot",
	"delete_resources": "reads the container's pids limit in the host's cgroup, where the machine is; the limit holds in the guest",
}

// failure is a program that runc 1.1.5 was measured to fail.
type failure struct {
	why string
	// passes says that microvm-runtime passes it, and has to.
	passes bool
}

// runcFails was measured on Debian 12 with cgroup v1; TestPeer measures it
// again.
var runcFails = map[string]failure{
	"delete":                         {why: "runc deleted a container that was created only"},
	"hooks":                          {why: "hooks were not called in the listed order, it says"},
	"hooks_stdin":                    {why: "expects the status created in prestart hooks; it is creating there"},
	"killsig":                        {why: "delete found the container still running after the signal"},
	"linux_cgroups_blkio":            {why: "the kernel has no blkio.leaf_weight"},
	"linux_cgroups_devices":          {why: "device rules were not found in the listed order"},
	"linux_cgroups_hugetlb":          {why: "runc could not set a hugetlb limit"},
	"linux_cgroups_memory":           {why: "kernel memory limits were not set"},
	"linux_cgroups_network":          {why: "runc could not set a net_cls limit"},
	"linux_cgroups_relative_blkio":   {why: "runc could not open a blkio file of the cgroup"},
	"linux_cgroups_relative_devices": {why: "device rules were not found in the listed order"},
	"linux_cgroups_relative_hugetlb": {why: "runc could not set a hugetlb limit"},
	"linux_cgroups_relative_memory":  {why: "two of its nine assertions fail"},
	"linux_cgroups_relative_network": {why: "runc could not set a net_cls limit"},
	"linux_mount_label":              {why: "runc could not mount with an SELinux context", passes: true},
	"linux_process_apparmor_profile": {why: "runc could not apply the profile", passes: true},
	"linux_rootfs_propagation":       {why: "runc could not apply the capabilities it asks for", passes: true},
	"linux_seccomp":                  {why: "its filter denies a call that runc makes"},
	"misc_props":                     {why: "its bundle has no runtimetest"},
	"pidfile":                        {why: "kill found the container not running"},
	"poststart":                      {why: "hooks ran too late, it says"},
	"poststart_fail":                 {why: "a failing hook ended the start, it says", passes: true},
	"poststop_fail":                  {why: "a failing hook was not passed over, it says", passes: true},
	"prestart":                       {why: "hooks ran before start, it says"},
	"process_capabilities":           {why: "runc could not apply the capabilities it asks for", passes: true},
	"process_capabilities_fail":      {why: "wants an error for an unknown capability, which runc logs"},
	"process_rlimits":                {why: "found another soft limit on open files than it expected"},
	"start":                          {why: "start found the container stopped"},
}
