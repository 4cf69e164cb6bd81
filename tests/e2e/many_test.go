package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/microvm/microvm/tests/lab/labtest"
)

// number is a count from the environment, for longer runs than CI's.
func number(t *testing.T, key string, usual int) int {
	t.Helper()
	text := os.Getenv(key)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	return n
}

// Containers get along: each has a life of its own, and newSite checks that
// nothing of any is left. MICROVM_PARALLEL says how many there are.
func TestManyAtOnce(t *testing.T) {
	s := newSite(t)
	var wg sync.WaitGroup
	for i := range number(t, "MICROVM_PARALLEL", 8) {
		want := fmt.Sprintf("%d\n", i)
		b := s.bundle(sh("read line; cat; echo $line > /file; sync; cat /file; exit "+strconv.Itoa(i)), func(spec *specs.Spec) {
			spec.Annotations = map[string]string{"io.microvm.memory": "128"}
		})
		wg.Go(func() {
			o := s.command("run", "--bundle", b.dir, s.name()).Input(strings.NewReader(want + "more\n")).Run()
			if o.Code != i || o.Stdout != "more\n"+want {
				t.Errorf("container %d: %v", i, o)
			}
		})
	}
	wg.Wait()
}

// One after the other leaves nothing either. MICROVM_SEQUENCE says how many.
func TestManyInSequence(t *testing.T) {
	labtest.SameOnBoth(t)
	s := newSite(t)
	b := s.bundle(sh("exit 3"))
	for i := range number(t, "MICROVM_SEQUENCE", 4) {
		id := s.name()
		pid := s.launch(b.dir+"/stdout", "create", "--bundle", b.dir, "--pid-file", b.dir+"/pid", id)
		s.command("start", id).Output()
		if code := waitPid(t, pid); code != 3 {
			t.Fatalf("container %d ends with %d", i, code)
		}
		s.command("delete", id).Output()
	}
}
