package qemu

import (
	"os"
	"strings"
	"testing"
)

// monitorOf runs a monitor on what a QEMU would say.
func monitorOf(t testing.TB, text string) *monitor {
	t.Helper()
	ours, theirs, err := socketpair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	go func(f *os.File) {
		f.WriteString(text)
		buf := make([]byte, 100)
		f.Read(buf) // the monitor's request, so that the close is no reset
		f.Close()
	}(theirs)
	m := monitor{ready: make(chan struct{})}
	if err := m.run(ours); err != nil {
		t.Fatal(err)
	}
	<-m.ready
	return &m
}

func TestMonitorReadsEvents(t *testing.T) {
	const greeting = `{"QMP": {"version": {}}}` + "\r\n"
	const shutdown = `{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}` + "\r\n"
	for _, c := range []struct {
		name, text string
		greeted    bool
		shutdown   string
	}{
		{"nothing", "", false, ""},
		{"greeting", greeting, true, ""},
		{"shutdown", greeting + `{"return": {}}` + "\n" + shutdown, true, shutdownReset},
		{"the first counts", greeting + shutdown + strings.ReplaceAll(shutdown, "reset", "panic"), true, shutdownReset},
		{"nonsense between", greeting + "{[\n\x00\n" + shutdown, true, shutdownReset},
		{"wrong types", `{"QMP": 1, "event": [], "data": "x"}` + "\n" + `{"event": "SHUTDOWN", "data": 3}` + "\n", false, ""},
		{"endless line", greeting + strings.Repeat("x", 1<<20) + "\n" + shutdown, true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			greeted, shutdown := monitorOf(t, c.text).state()
			if greeted != c.greeted || shutdown != c.shutdown {
				t.Errorf("%v, %q; want %v, %q", greeted, shutdown, c.greeted, c.shutdown)
			}
		})
	}
}
