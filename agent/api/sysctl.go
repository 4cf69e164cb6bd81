package api

import (
	"slices"
	"strings"
)

// ipcSysctls are those of an IPC namespace (ipc_namespaces(7)).
var ipcSysctls = []string{
	"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
}

// SysctlOfIPC tells whether a name, with dots, is that of a setting of an IPC
// namespace.
func SysctlOfIPC(name string) bool {
	rest, queue := strings.CutPrefix(name, "fs.mqueue.")
	return slices.Contains(ipcSysctls, name) || queue && rest != "" && !strings.ContainsAny(rest, "./")
}
