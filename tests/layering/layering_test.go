// Package layering keeps the import rules of the house: who may know whom.
package layering

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/microvm/microvm/"

// rule forbids packages under from to depend on packages under any of not,
// directly or through others.
type rule struct {
	from string
	not  []string
	// except are packages under not that are allowed after all.
	except []string
	why    string
}

var rules = []rule{
	{from: "vmm", not: []string{"runtime", "shim", "agent", "cmd"}, why: "the VM process knows nothing of containers"},
	{from: "cmd/microvm-vmm", not: []string{"runtime", "shim", "agent"}, why: "the VM process is small and starts fast"},
	{from: "rootfs/export", not: []string{"runtime", "shim", "agent", "vmm", "cmd"}, why: "the file server is bytes in, bytes out"},
	{from: "agent", not: []string{"runtime", "shim", "vmm", "rootfs", "cmd"}, except: []string{"rootfs/changes"}, why: "the guest knows nothing of the host's side"},
	{from: "cmd/microvm-agent", not: []string{"runtime", "shim", "vmm", "rootfs"}, except: []string{"rootfs/changes"}, why: "the guest knows nothing of the host's side"},
	{from: "runtime", not: []string{"shim", "cmd", "vmm", "agent"}, except: []string{"vmm/control", "agent/api"}, why: "the runtime drives VM process and agent through their protocols only"},
	{from: "shim", not: []string{"cmd", "vmm", "agent", "rootfs"}, except: []string{"vmm/control", "agent/api", "rootfs/pivot"}, why: "the shim translates to the runtime"},
	{from: "shim/task", not: []string{"shim/sandbox", "shim/manager"}, why: "a sandbox is made of what the task service offers"},
	{from: "shim/events", not: []string{"runtime", "shim/task", "shim/manager"}, why: "events are handed on, whatever they say"},
	{from: "netns", not: []string{"runtime", "shim", "cmd", "vmm", "agent", "rootfs"}, except: []string{"agent/api"}, why: "namespaces are read and wired for anyone"},
	{from: "runtime/bundle", not: []string{"runtime/container", "runtime/sandbox", "runtime/state", "vmm"}, why: "a bundle is read without side effects"},
	{from: "vmm/virtio/fs", not: []string{"vmm/virtio/mmio", "vmm/virtio/vhostuser", "vmm/kvm"}, why: "devices never know their transport"},
	{from: "vmm/virtio/vsock", not: []string{"vmm/virtio/mmio", "vmm/virtio/vhostuser", "vmm/kvm"}, why: "devices never know their transport"},
	{from: "vmm/virtio/net", not: []string{"vmm/virtio/mmio", "vmm/virtio/vhostuser", "vmm/kvm"}, why: "devices never know their transport"},
	{from: "vmm/virtio/rng", not: []string{"vmm/virtio/mmio", "vmm/virtio/vhostuser", "vmm/kvm"}, why: "devices never know their transport"},
	{from: "vmm/virtio/console", not: []string{"vmm/virtio/mmio", "vmm/virtio/vhostuser", "vmm/kvm"}, why: "devices never know their transport"},
	{from: "vmm/virtio/mmio", not: []string{"vmm/virtio/fs", "vmm/virtio/vsock", "vmm/virtio/rng", "vmm/virtio/console", "vmm/virtio/net"}, why: "transports never know their device's kind"},
	{from: "vmm/virtio/vhostuser", not: []string{"vmm/virtio/fs", "vmm/virtio/vsock", "vmm/virtio/rng", "vmm/virtio/console", "vmm/virtio/net"}, why: "transports never know their device's kind"},
	{from: "vmm/kvm", not: []string{"vmm/virtio", "vmm/boot", "vmm/bus", "vmm/legacy", "vmm/x86"}, why: "the ioctls are the lowest layer"},
}

// foreign lists what must not be linked into a binary, with the reason.
var foreign = []rule{
	{from: "cmd/microvm-vmm", not: []string{"github.com/containerd/", "google.golang.org/", "github.com/opencontainers/"}, why: "the VM process is small and starts fast"},
	{from: "cmd/microvm-runtime", not: []string{"gvisor.dev/"}, why: "the user-mode network is a process of its own, without rights"},
	{from: "cmd/microvm-runtime", not: []string{"github.com/opencontainers/runc/"}, why: "libcontainer runs in the guest; on the host it only costs start time"},
}

type pkg struct {
	ImportPath string
	Deps       []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-deps=false", "-json=ImportPath,Deps", module+"...").Output()
	if err != nil {
		t.Fatalf("list packages: %v", err)
	}
	var all []pkg
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func under(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

func TestImportsPointDownward(t *testing.T) {
	all := packages(t)
	for _, r := range rules {
		seen := false
		for _, p := range all {
			if !under(strings.TrimPrefix(p.ImportPath, module), r.from) {
				continue
			}
			seen = true
			for _, dep := range p.Deps {
				if path, ours := strings.CutPrefix(dep, module); ours && forbidden(r, path) {
					t.Errorf("%s imports %s: %s", p.ImportPath, dep, r.why)
				}
			}
		}
		if !seen {
			t.Errorf("rule for %s matches no package", r.from)
		}
	}
}

func forbidden(r rule, path string) bool {
	hit := func(dir string) bool { return under(path, dir) && !under(r.from, dir) }
	return slices.ContainsFunc(r.not, hit) && !slices.ContainsFunc(r.except, func(e string) bool { return path == e })
}

func TestBinariesStaySmall(t *testing.T) {
	all := packages(t)
	for _, r := range foreign {
		i := slices.IndexFunc(all, func(p pkg) bool { return p.ImportPath == module+r.from })
		if i < 0 {
			t.Errorf("no package %s", r.from)
			continue
		}
		for _, dep := range all[i].Deps {
			for _, not := range r.not {
				if strings.HasPrefix(dep, not) {
					t.Errorf("%s links %s: %s", r.from, dep, r.why)
				}
			}
		}
	}
}

func TestPackageNamesSayWhatTheyAre(t *testing.T) {
	for _, p := range packages(t) {
		for _, bad := range []string{"util", "utils", "common", "helpers", "types", "misc"} {
			if strings.HasSuffix(p.ImportPath, "/"+bad) {
				t.Errorf("%s: a package is a noun of the field", p.ImportPath)
			}
		}
	}
}
