package api

import "testing"

func TestSysctlOfIPC(t *testing.T) {
	for name, want := range map[string]bool{
		"kernel.shmmax": true, "kernel.sem": true, "fs.mqueue.msg_max": true,
		"kernel.core_pattern": false, "net.core.somaxconn": false, "fs.mqueue.": false, "fs.mqueue...": false, "fs.mqueue.a/../..": false, "": false,
	} {
		if got := SysctlOfIPC(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}
