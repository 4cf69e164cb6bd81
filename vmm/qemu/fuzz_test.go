package qemu

import "testing"

// FuzzMonitor reads anything that a QEMU under the guest's control may say.
func FuzzMonitor(f *testing.F) {
	f.Add(`{"QMP": {"version": {}}}` + "\r\n" + `{"return": {}}` + "\n" + `{"event": "SHUTDOWN", "data": {"reason": "guest-reset"}}` + "\n")
	f.Add("{[\n\x00\n")
	f.Fuzz(func(t *testing.T, text string) { monitorOf(t, text) })
}
