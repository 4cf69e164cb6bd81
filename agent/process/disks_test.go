package process

import (
	"fmt"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// A rule is translated once, also where one disk's number in the guest is that
// of another one on the host.
func TestTranslateRules(t *testing.T) {
	rule := func(kind string, major, minor int64) specs.LinuxDeviceCgroup {
		return specs.LinuxDeviceCgroup{Allow: true, Type: kind, Major: &major, Minor: &minor, Access: "rwm"}
	}
	rules := []specs.LinuxDeviceCgroup{{Access: "rwm"}, rule("b", 8, 0), rule("b", 254, 0), rule("c", 8, 0), rule("b", 8, -1)}
	translate(rules, map[number]number{{8, 0}: {254, 0}, {254, 0}: {254, 16}})
	var got string
	for _, r := range rules[1:] {
		got += fmt.Sprintf("%s %d:%d ", r.Type, *r.Major, *r.Minor)
	}
	if want := "b 254:0 b 254:16 c 8:0 b 8:-1 "; got != want || rules[0].Major != nil {
		t.Errorf("got %q, want %q", got, want)
	}
}
