package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
)

func TestTemplates(t *testing.T) {
	made := []*layer{{source: "/dev/a", place: "/l/0"}, {target: "there", place: "/l/1"}, {place: "/l/2"}}
	for text, want := range map[string]string{
		"":                            "",
		"plain {x}":                   "plain {x}",
		"{{ mount 0 }}/upper":         "/l/0/upper",
		"{{mount 2}}:{{ source 0 }}":  "/l/2:/dev/a",
		"a={{ target 1 }}":            "a=there",
		"lowerdir={{ overlay 0 2 }}":  "lowerdir=/l/0:/l/1:/l/2",
		"lowerdir={{  overlay 2 1 }}": "lowerdir=/l/2:/l/1",
		"{{ overlay 1 1 }}":           "/l/1",
	} {
		if got, err := fillIn(text, made); err != nil || got != want {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"{{ mount 3 }}", "{{ overlay 0 3 }}", "{{ overlay 0 }}", "{{ mount 0 1 }}", "{{ mount -1 }}", "{{ mount x }}", "{{ mount }}",
		"{{ env 0 }}", "{{", "{{ mount 99999999999999999999 }}", `{{ printf "%s" 1 }}`,
	} {
		if got, err := fillIn(text, made); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
}

// assembled makes a root file system, and returns where it is and what takes it
// apart.
func assembled(t *testing.T, mounts ...*api.Mount) (root string, undo func(), err error) {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	c := &container{disks: new(disks)}
	root = dir + "/root"
	if err := c.root.mkdir(root); err != nil {
		t.Fatal(err)
	}
	err = c.assemble(root, dir+"/layers", mounts)
	undo = func() {
		t.Helper()
		if err := c.root.unmount(); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left: %v, %v", left, err)
		}
	}
	return root, undo, err
}

func tmpfs(options ...string) *api.Mount { return &api.Mount{Type: "tmpfs", Options: options} }

// lower is a file system with a file in a directory.
func lower(t *testing.T, name string) *api.Mount {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/dir", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/dir/"+name, []byte(name), 0o644); err != nil {
		t.Fatal(err)
	}
	return &api.Mount{Type: "bind", Source: dir, Options: []string{"rbind", "ro"}}
}

func TestAssemble(t *testing.T) {
	root, undo, err := assembled(t, tmpfs("mode=755", "nodev"), lower(t, "a"), lower(t, "b"), &api.Mount{Type: "format/mkdir/overlay", Options: []string{
		"X-containerd.mkdir.path={{ mount 0 }}/upper:0751:7:8", "X-containerd.mkdir.path={{ mount 0 }}/work",
		"upperdir={{ mount 0 }}/upper", "workdir={{ mount 0 }}/work", "lowerdir={{ overlay 1 2 }}", "noatime", "rw",
	}}, &api.Mount{Type: "tmpfs", Target: "dir/../dir", Options: []string{"size=1m", "ro"}})
	defer undo()
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(root, &st); err != nil || st.Mode&0o7777 != 0o751 || st.Uid != 7 || st.Gid != 8 {
		t.Errorf("the upper directory: %o %d:%d, %v", st.Mode, st.Uid, st.Gid, err)
	}
	if err := os.WriteFile(root+"/new", nil, 0o644); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(root+"/dir/new", nil, 0o644); !errors.Is(err, unix.EROFS) {
		t.Errorf("the mount in the root: %v", err)
	}
	if err := unix.Unmount(root+"/dir", 0); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if text, err := os.ReadFile(root + "/dir/" + name); err != nil || string(text) != name {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	if err := unix.Mount("tmpfs", root+"/dir", "tmpfs", 0, ""); err != nil { // for undo
		t.Fatal(err)
	}
}

func TestAssembleNot(t *testing.T) {
	evil := t.TempDir()
	for _, name := range []string{"out", "target"} {
		if err := os.Symlink("/", evil+"/"+name); err != nil {
			t.Fatal(err)
		}
	}
	image := &api.Mount{Type: "bind", Source: evil}
	overlay := func(options ...string) *api.Mount { return &api.Mount{Type: "format/mkdir/overlay", Options: options} }
	for want, mounts := range map[string][]*api.Mount{
		"mount 0 of type nofs: open file system nofs: no such device": {{Type: "nofs"}},
		"set option wrong: invalid argument: e tmpfs: Unknown":        {tmpfs("wrong=1")},
		"the transformation mkfs is not supported":                    {{Type: "mkfs/ext4"}},
		"disk nothere: file does not exist":                           {{Type: "ext4", Source: api.DisksDir + "/nothere"}},
		"out: too many levels of symbolic links":                      {image, {Type: "format/bind", Source: "{{ mount 0 }}/out"}},
		"out/etc: too many levels of symbolic links":                  {image, overlay("lowerdir={{ mount 0 }}", "upperdir={{ mount 0 }}/out/etc", "workdir={{ mount 0 }}/out")},
		"out: too many levels of symbolic":                            {image, overlay("X-containerd.mkdir.path={{ mount 0 }}/out/new")},
		"out: too many levels":                                        {image, overlay("X-containerd.mkdir.path={{ mount 0 }}/out")},
		"target: too many levels of symbolic links":                   {image, {Type: "tmpfs", Target: "target"}},
		"with a path in a mount before":                               {image, overlay("X-containerd.mkdir.path={{ mount 0 }}/../../new")},
		"option X-containerd.mkdir.path=/x:1:2":                       {image, overlay("X-containerd.mkdir.path=/x:1:2")},
	} {
		_, undo, err := assembled(t, mounts...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
		undo()
	}
	if left, err := os.ReadDir(evil); err != nil || len(left) != 2 {
		t.Errorf("%v, %v", left, err)
	}
}

func TestNamesAreKept(t *testing.T) {
	for text, want := range map[string]int{"": 1, "nameserver": 1, "search x\n nameserver 1.2.3.4\n": 0, "link": 0} {
		root := t.TempDir()
		if err := os.Mkdir(root+"/etc", 0o755); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(root, "etc/resolv.conf")
		if text == "link" { // as to the root of the container, and not out of it
			text = "nameserver ::1"
			if err := os.Symlink("/../stub", file); err != nil {
				t.Fatal(err)
			}
			file = root + "/stub"
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		spec := &specs.Spec{Root: &specs.Root{Path: root}, Mounts: []specs.Mount{
			{Destination: "/etc/resolv.conf", Options: []string{"bind", api.OptionUnlessNamed}}, {Destination: "/x"},
		}}
		keepNames(spec)
		if got := len(spec.Mounts) - 1; got != want || strings.Contains(fmt.Sprint(spec.Mounts), api.OptionUnlessNamed) {
			t.Errorf("%q: %v", text, spec.Mounts)
		}
	}
}
