package lab

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"
)

func TestNetworkIsSharedByTwo(t *testing.T) {
	network := netip.MustParsePrefix("192.0.2.77/28")
	if got := fmt.Sprint(hostAddress(network), " ", machineAddress(network)); got != "192.0.2.65/28 192.0.2.66/28" {
		t.Errorf("addresses %s", got)
	}
	for _, text := range []string{"2001:db8::/64", "192.0.2.0/31"} {
		o := Options{Args: []string{"true"}, Network: netip.MustParsePrefix(text)}
		if err := o.setDefaults(); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("network %s: %v", text, err)
		}
	}
}

func TestNewestKernelComparesNumbers(t *testing.T) {
	names := []string{"6.1.0-10-cloud", "6.12.3-cloud", "6.1.0-9-cloud", "6.1.0-10-cloud"}
	sort.Slice(names, func(i, j int) bool { return versionLess(names[i], names[j]) })
	want := "6.1.0-9-cloud 6.1.0-10-cloud 6.1.0-10-cloud 6.12.3-cloud"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("sorted %s, want %s", got, want)
	}
}

// writeModules makes a kernel's module directory from depmod's lists.
func writeModules(t *testing.T, dep, builtin string) Kernel {
	t.Helper()
	kernel := Kernel{Modules: t.TempDir(), Release: "1.0"}
	files := map[string]string{"modules.dep": dep, "modules.builtin": builtin}
	for _, line := range strings.Split(dep, "\n") {
		if path, _, ok := strings.Cut(line, ":"); ok {
			files[path] = "content of " + path
		}
	}
	for name, content := range files {
		path := kernel.moduleFile(name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return kernel
}

func TestLoadOrderPutsNeedsFirstAndOnce(t *testing.T) {
	kernel := writeModules(t,
		"a/ring.ko:\na/virtio.ko: a/ring.ko\na/virtio-pci.ko: a/virtio.ko a/ring.ko\nb/fs.ko: a/virtio.ko a/ring.ko\n",
		"c/ext4.ko\n")
	modules, err := loadOrder(kernel, []string{"virtio_pci", "ext4", "fs"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range modules {
		names = append(names, m.name)
	}
	want := "ring.ko virtio.ko virtio_pci.ko fs.ko"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("order %s, want %s", got, want)
	}
	if _, err := loadOrder(kernel, []string{"missing"}); err == nil {
		t.Error("a module that does not exist was found")
	}
}

func TestInitramfsNamesModulesInOrder(t *testing.T) {
	var image bytes.Buffer
	modules := []module{{"z.ko", []byte("zz")}, {"a.ko", []byte("a")}}
	if err := writeInitramfs(&image, []byte("program"), modules); err != nil {
		t.Fatal(err)
	}
	content := map[string]string{}
	for archive := cpio.NewReader(&image); ; {
		header, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		bytes, _ := io.ReadAll(archive)
		content[header.Name] = string(bytes)
	}
	want := map[string]string{
		"init": "program", "modules": "", "modules/z.ko": "zz", "modules/a.ko": "a",
		"modules/order": "z.ko\na.ko\n",
	}
	if fmt.Sprint(content) != fmt.Sprint(want) {
		t.Errorf("archive has %v, want %v", content, want)
	}
}

func TestReadInitRefusesDynamicPrograms(t *testing.T) {
	if _, err := readInit("/bin/sh"); err == nil || !strings.Contains(err.Error(), "CGO_ENABLED=0") {
		t.Errorf("dynamic program: %v, want an error with the remedy", err)
	}
}

func TestConsoleKeepsTheEnd(t *testing.T) {
	var copied bytes.Buffer
	c := &console{copy: &copied}
	for i := range consoleSize {
		fmt.Fprintf(c, "%d\n", i)
	}
	kept := c.String()
	if len(kept) != consoleSize || !strings.HasSuffix(kept, fmt.Sprintf("\n%d\n", consoleSize-1)) {
		t.Errorf("kept %d bytes that end in %q", len(kept), kept[len(kept)-20:])
	}
	if !strings.HasPrefix(copied.String(), "0\n1\n") {
		t.Error("the copy does not begin at the beginning")
	}
}
