package deploy

import (
	"bytes"
	"fmt"
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
		if name == "runtimeclass" && (!strings.Contains(b.String(), "memory: 321Mi\n") || strings.Contains(b.String(), "cpu")) {
			t.Errorf("%s", b.String())
		}
	}
	for _, name := range []string{"", "*", "../deploy", "nosuch"} {
		if err := Write(&bytes.Buffer{}, name, Values{}); err == nil || !strings.Contains(err.Error(), "containerd-v2, containerd-v3") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestNodesOfRuntimeClass(t *testing.T) {
	for text, want := range map[string]Label{
		"microvm=": {"microvm", ""}, "example.com/runs_it=Yes.1": {"example.com/runs_it", "Yes.1"}, "a=b": {"a", "b"},
	} {
		got, err := ParseLabel(text)
		if err != nil || *got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
			continue
		}
		var b bytes.Buffer
		end := fmt.Sprintf("\nscheduling:\n  nodeSelector:\n    %s: %q\n", want.Key, want.Value)
		if err := Write(&b, "runtimeclass", Values{Memory: 1, CPU: 50, Nodes: got}); err != nil || !strings.HasSuffix(b.String(), "memory: 1Mi\n    cpu: 50m"+end) {
			t.Errorf("%v\n%s", err, b.String())
		}
	}
	for _, text := range []string{"", "=", "a", "a=b=c", "a b=c", "-a=b", "a=b-", "a: b\n=c", "UPPER/a=b", strings.Repeat("a", 64) + "=b"} {
		if got, err := ParseLabel(text); err == nil || !strings.Contains(err.Error(), "KEY=VALUE") {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}
