package lab

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// guestModules are what the guest needs before it has the host's /lib/modules,
// and what the kernel would not load by itself when it is asked for.
var guestModules = []string{
	"virtio_pci", "virtio_console", "virtiofs", "virtio_blk", "virtio_net", "ext4", "overlay",
	"kvm_amd", "tun", "vhost_vsock", "vhost_net",
}

// module is one module file that is to be loaded.
type module struct {
	name    string // file name without compression suffix
	content []byte
}

// loadOrder returns the wanted modules and all they need, in an order in which
// they can be loaded one by one. Modules that are built in are left out.
func loadOrder(kernel Kernel, wanted []string) ([]module, error) {
	needs, err := readDependencies(kernel)
	if err != nil {
		return nil, err
	}
	builtin, err := readBuiltin(kernel)
	if err != nil {
		return nil, err
	}
	var order []module
	seen := map[string]bool{}
	for _, name := range wanted {
		path, found := needs.find(name)
		if !found && builtin[name] {
			continue
		}
		if !found {
			return nil, fmt.Errorf("find module %s: not in %s", name, kernel.moduleFile(""))
		}
		for _, file := range needs.closure(path) {
			if seen[file] {
				continue
			}
			seen[file] = true
			content, err := readModule(kernel.moduleFile(file))
			if err != nil {
				return nil, err
			}
			order = append(order, module{name: moduleBase(file) + ".ko", content: content})
		}
	}
	return order, nil
}

// dependencies maps each module's path to the paths it needs (depmod's
// modules.dep: what must be loaded first comes last).
type dependencies map[string][]string

func readDependencies(kernel Kernel) (dependencies, error) {
	file, err := os.Open(kernel.moduleFile("modules.dep"))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	needs := dependencies{}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if path, rest, ok := strings.Cut(lines.Text(), ":"); ok {
			needs[path] = strings.Fields(rest)
		}
	}
	return needs, lines.Err()
}

func (d dependencies) find(name string) (path string, found bool) {
	for path := range d {
		if moduleBase(path) == name {
			return path, true
		}
	}
	return "", false
}

// closure lists a module behind everything that it needs.
func (d dependencies) closure(path string) []string {
	needed := d[path]
	order := make([]string, 0, len(needed)+1)
	for i := len(needed) - 1; i >= 0; i-- {
		order = append(order, needed[i])
	}
	return append(order, path)
}

func readBuiltin(kernel Kernel) (map[string]bool, error) {
	content, err := os.ReadFile(kernel.moduleFile("modules.builtin"))
	if err != nil {
		return nil, err
	}
	builtin := map[string]bool{}
	for _, path := range strings.Fields(string(content)) {
		builtin[moduleBase(path)] = true
	}
	return builtin, nil
}

// moduleBase is a module's name as the kernel spells it.
func moduleBase(path string) string {
	name, _, _ := strings.Cut(filepath.Base(path), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// readModule reads a module and undoes the compression that newer Debian kernels
// have, as the guest's init has no decompressor.
func readModule(path string) ([]byte, error) {
	decompressors := map[string]string{".xz": "xz", ".zst": "zstd", ".gz": "gzip"}
	program, compressed := decompressors[filepath.Ext(path)]
	if !compressed {
		return os.ReadFile(path)
	}
	content, err := exec.Command(program, "-dc", path).Output()
	if err != nil {
		return nil, fmt.Errorf("decompress %s: %w", path, err)
	}
	return content, nil
}
