package bundle

import (
	"slices"
	"strings"
)

// MountOptions are the options that the guest knows by name, sorted; any other
// is passed to the file system.
func MountOptions() []string {
	all := strings.Fields(`async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev
		nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow rbind relatime remount
		ro rw silent strictatime suid symfollow sync
		private rprivate slave rslave shared rshared unbindable runbindable
		rro rrw rnosuid rsuid rnodev rdev rnoexec rexec rnodiratime rdiratime rrelatime rnorelatime rnoatime ratime
		rstrictatime rnostrictatime rnosymfollow rsymfollow tmpcopyup`)
	slices.Sort(all)
	return all
}

// Namespaces are the kinds that a container can have, sorted.
func Namespaces() []string {
	var all []string
	for _, ns := range namespaces {
		all = append(all, string(ns))
	}
	slices.Sort(all)
	return all
}

// Capabilities are those of the guest's kernel, by number.
func Capabilities() []string {
	names := strings.Fields(`CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
		NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE
		SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL
		SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE`)
	for i := range names {
		names[i] = "CAP_" + names[i]
	}
	return names
}
