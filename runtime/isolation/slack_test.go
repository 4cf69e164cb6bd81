package isolation

import (
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// TestTimerSlack has it in the process that is started, and nowhere else.
func TestTimerSlack(t *testing.T) {
	var said strings.Builder
	cmd := exec.Command("cat", "/proc/self/timerslack_ns")
	cmd.Stdout = &said
	if err := errors.Join(withSlack(cmd.Start), cmd.Wait()); err != nil {
		t.Fatal(err)
	}
	want := strconv.FormatInt(timerSlack.Nanoseconds(), 10)
	if got := strings.TrimSpace(said.String()); got != want {
		t.Errorf("slack %s ns, not %s", got, want)
	}
	out, err := exec.Command("cat", "/proc/self/timerslack_ns").Output()
	if got := strings.TrimSpace(string(out)); err != nil || got == want {
		t.Errorf("slack of another process %s ns, %v", got, err)
	}
}
