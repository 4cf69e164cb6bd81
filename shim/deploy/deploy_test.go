package deploy

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestManifests(t *testing.T) {
	want := []string{"containerd-v2", "containerd-v3", "pod", "runtimeclass"}
	if !slices.Equal(Names(), want) {
		t.Errorf("names %v", Names())
	}
	for _, name := range Names() {
		var b bytes.Buffer
		if err := Write(&b, name, Values{Memory: 321}); err != nil || !strings.Contains(b.String(), "microvm") || strings.Contains(b.String(), "{{") {
			t.Errorf("%s: %v\n%s", name, err, b.String())
		}
		if name == "runtimeclass" && !strings.Contains(b.String(), "memory: 321Mi\n") {
			t.Errorf("%s", b.String())
		}
	}
	for _, name := range []string{"", "*", "../deploy", "nosuch"} {
		if err := Write(&bytes.Buffer{}, name, Values{}); err == nil || !strings.Contains(err.Error(), "containerd-v2, containerd-v3") {
			t.Errorf("%q: %v", name, err)
		}
	}
}
