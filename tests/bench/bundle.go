package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// bundle is what both contenders run: busybox saying hello.
type bundle struct {
	dir  string
	spec *specs.Spec
}

func (b *bundle) rootfs() string { return filepath.Join(b.dir, "rootfs") }

// makeBundle makes it in a directory of its own; remove removes that.
func makeBundle(bin string) (*bundle, error) {
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return nil, err
	}
	b := &bundle{dir: dir}
	if err := b.fill(bin); err != nil {
		b.remove()
		return nil, err
	}
	return b, nil
}

func (b *bundle) remove() { _ = os.RemoveAll(b.dir) }

func (b *bundle) fill(bin string) error {
	for _, d := range []string{"bin", "proc", "sys", "dev"} {
		if err := os.MkdirAll(filepath.Join(b.rootfs(), d), 0o755); err != nil {
			return err
		}
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return fmt.Errorf("find busybox: %w: apt-get install busybox-static", err)
	}
	data, err := os.ReadFile(busybox)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.rootfs(), "bin/busybox"), data, 0o755); err != nil {
		return err
	}
	if out, err := exec.Command(filepath.Join(bin, "microvm-runtime"), "spec", "--bundle", b.dir).CombinedOutput(); err != nil {
		return fmt.Errorf("microvm-runtime spec: %w: %s", err, out)
	}
	return b.edit([]string{"/bin/busybox", "echo", "hello"})
}

// edit sets the bundle's command.
func (b *bundle) edit(args []string) error {
	path := filepath.Join(b.dir, "config.json")
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	b.spec = new(specs.Spec)
	if err := json.Unmarshal(data, b.spec); err != nil {
		return err
	}
	b.spec.Process.Args = args
	b.spec.Process.Terminal = false
	return b.write()
}

func (b *bundle) write() error {
	data, err := json.Marshal(b.spec)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.dir, "config.json"), data, 0o644)
}
