package guest

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestSpareBlocks(t *testing.T) {
	const size = 128 << 20
	for cmdline, want := range map[string][]uint64{
		"quiet microvm.spare=0x1000000-0x18000000,0x100000000-0x10fffffff x": {0x8000000, 0x10000000, 0x100000000},
		"quiet": nil, "microvm.spare=": nil, "microvm.spare=x-y,5": nil, "microvm.spare=0x20000000-0x10000000": nil,
	} {
		if got := spareBlocks(cmdline, size); !slices.Equal(got, want) {
			t.Errorf("%s: %#x", cmdline, got)
		}
	}
}

func TestStartCPUs(t *testing.T) {
	dir := t.TempDir()
	for i, state := range []string{"1\n", "1\n", "0\n", "0\n"} {
		cpu := filepath.Join(dir, "cpu"+string(rune('0'+i)))
		if err := os.Mkdir(cpu, 0o755); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			continue // the kernel's first has no switch
		}
		if err := os.WriteFile(filepath.Join(cpu, "online"), []byte(state), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := startCPUs(dir, 3); err != nil {
		t.Fatal(err)
	}
	var states string
	for _, cpu := range []string{"cpu1", "cpu2", "cpu3"} {
		state, _ := os.ReadFile(filepath.Join(dir, cpu, "online"))
		states += string(state[:1])
	}
	if states != "110" {
		t.Errorf("running: %s", states)
	}
	if err := startCPUs(dir, 5); !errors.Is(err, errNoMore) {
		t.Errorf("five of four: %v", err)
	}
}
