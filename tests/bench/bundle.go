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

func makeBundle(bin, dir string) (*bundle, error) {
	b := &bundle{dir: dir}
	if err := os.MkdirAll(filepath.Join(b.rootfs(), "bin"), 0o755); err != nil {
		return nil, err
	}
	for _, d := range []string{"proc", "sys", "dev"} {
		if err := os.Mkdir(filepath.Join(b.rootfs(), d), 0o755); err != nil {
			return nil, err
		}
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return nil, fmt.Errorf("find busybox: %w: apt-get install busybox-static", err)
	}
	data, err := os.ReadFile(busybox)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(b.rootfs(), "bin/busybox"), data, 0o755); err != nil {
		return nil, err
	}
	if out, err := exec.Command(filepath.Join(bin, "microvm-runtime"), "spec", "--bundle", dir).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("microvm-runtime spec: %w: %s", err, out)
	}
	return b, b.edit([]string{"/bin/busybox", "echo", "hello"})
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
