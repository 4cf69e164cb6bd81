package e2e

import (
	"os"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/microvm/microvm/tests/command"
)

// TestCachePolicies changes files of volumes behind a container's back: one that
// the annotation calls unchanging stays as it was seen, the other is seen to change
// at once.
func TestCachePolicies(t *testing.T) {
	s := newSite(t)
	kept := hostTree(t, map[string]string{"file": "old"})
	asked := hostTree(t, map[string]string{"file": "old"})
	const script = `
look() { echo "$1 $(cat /kept/file) $(stat -c %s /kept/file) $(test -e /kept/new && echo new)," "$(cat /asked/file) $(stat -c %s /asked/file) $(test -e /asked/new && echo new)"; }
look before
while ! test -e /asked/go; do sleep 0.1; done
look after`
	b := s.bundle(sh(script), annotated("io.microvm.cache", "never,/kept=always"), func(spec *specs.Spec) {
		spec.Mounts = append(spec.Mounts, bind(kept, "/kept"), bind(asked, "/asked"))
	})
	_, _, out := s.detached(b)
	seen := func() string { text, _ := os.ReadFile(out); return string(text) }
	command.Eventually(t, "the first look", func() bool { return seen() != "" })
	for _, path := range []string{kept + "/file", kept + "/new", asked + "/file", asked + "/new", asked + "/go"} {
		if err := os.WriteFile(path, []byte("changed"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := "before old 3 , old 3 \nafter old 3 , changed 7 new\n"
	command.Eventually(t, "the second look", func() bool { return len(seen()) >= len(want)-1 })
	if got := seen(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
