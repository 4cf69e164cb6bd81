package sandbox

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	sandboxapi "github.com/containerd/containerd/api/runtime/sandbox/v1"
	runtimeoptions "github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/microvm/microvm/runtime/bundle"
)

func TestBundleOfPod(t *testing.T) {
	value, err := proto.Marshal(&PodSandboxConfig{
		Hostname: "pod-host",
		Linux: &LinuxPodSandboxConfig{
			CgroupParent: "/kubepods/pod1", Sysctls: map[string]string{"net.core.somaxconn": "5"},
			Resources: &LinuxContainerResources{CpuPeriod: 100000, CpuQuota: 200000, MemoryLimitInBytes: 300 << 20},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	config, err := podConfig(&anypb.Any{TypeUrl: "type.googleapis.com/runtime.v1.PodSandboxConfig", Value: value})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	r := request{id: "pod", netns: "/run/netns/one", config: config, annotations: map[string]string{"io.microvm.cpus": "3"}}
	if err := writeBundle(dir, r); err != nil {
		t.Fatal(err)
	}
	b, err := bundle.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	size := b.Resources()
	if !b.IsSandbox() || b.Spec.Hostname != "pod-host" || b.CgroupsPath() != "/kubepods/pod1/pod" ||
		b.Namespace(specs.NetworkNamespace).Path != "/run/netns/one" || b.Spec.Linux.Sysctl["net.core.somaxconn"] != "5" ||
		*size.Memory.Limit != 300<<20 || *size.CPU.Quota != 200000 || b.Spec.Annotations["io.microvm.cpus"] != "3" {
		t.Errorf("%+v, resources %+v", b.Spec, size)
	}
}

// TestBundleOfPodThatAsksForTheHost lacks the namespaces by which bundle.Load tells
// what is refused.
func TestBundleOfPodThatAsksForTheHost(t *testing.T) {
	for field, o := range map[string]*NamespaceOption{"hostPID": {Pid: NamespaceMode_NODE}, "hostIPC": {Ipc: NamespaceMode_NODE}} {
		config := &PodSandboxConfig{Linux: &LinuxPodSandboxConfig{SecurityContext: &LinuxSandboxSecurityContext{NamespaceOptions: o}}}
		dir := t.TempDir()
		if err := writeBundle(dir, request{id: "pod", config: config}); err != nil {
			t.Fatal(err)
		}
		if _, err := bundle.Load(dir); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestNameServersOfPod(t *testing.T) {
	got, err := resolvConf(&DNSConfig{Servers: []string{"10.0.0.1", "10.0.0.2"}, Searches: []string{"a.example", "b.example"}, Options: []string{"ndots:5"}})
	if want := "search a.example b.example\nnameserver 10.0.0.1\nnameserver 10.0.0.2\noptions ndots:5\n"; err != nil || got != want {
		t.Errorf("%q, %v", got, err)
	}
}

func TestUserNamespaceOfPod(t *testing.T) {
	one := []*IDMapping{{HostId: uint32(os.Getuid()), ContainerId: 0, Length: 10}}
	for name, c := range map[string]struct {
		userns *UserNamespace
		wrong  string
		has    bool
	}{
		"none":          {},
		"of the node":   {userns: &UserNamespace{Mode: NamespaceMode_NODE}},
		"of the pod":    {userns: &UserNamespace{Mode: NamespaceMode_POD, Uids: one, Gids: one}, has: true},
		"without a map": {userns: &UserNamespace{Mode: NamespaceMode_POD, Uids: one}, wrong: "one range of uids"},
		"of another":    {userns: &UserNamespace{Mode: NamespaceMode_TARGET, Uids: one, Gids: one}, wrong: "TARGET"},
	} {
		value, err := proto.Marshal(&PodSandboxConfig{Linux: &LinuxPodSandboxConfig{
			SecurityContext: &LinuxSandboxSecurityContext{NamespaceOptions: &NamespaceOption{UsernsOptions: c.userns}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		config, err := podConfig(&anypb.Any{TypeUrl: configType, Value: value})
		if c.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		dir := t.TempDir()
		if err == nil {
			err = writeBundle(dir, request{id: "pod", config: config})
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		b, err := bundle.Load(dir)
		if err != nil || (b.Namespace(specs.UserNamespace) != nil) != c.has || (len(b.Spec.Linux.UIDMappings) == 1) != c.has {
			t.Errorf("%s: %v, %+v", name, err, b.Spec.Linux)
		}
	}
}

// TestBundleOfClient keeps what a client other than CRI says of a pod.
func TestBundleOfClient(t *testing.T) {
	dir := t.TempDir()
	data, err := json.Marshal(specs.Spec{
		Version: "1.0", Hostname: "mine", Root: &specs.Root{Path: "/"}, Annotations: map[string]string{"io.microvm.cpus": "2", "io.kubernetes.cri.sandbox-id": "forged"},
		Linux: &specs.Linux{CgroupsPath: "/mine", Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace, Path: "/proc/1/ns/pid"}, {Type: specs.NetworkNamespace, Path: "/run/netns/two"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, bundle.ConfigFile)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	config, err := podConfig(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeBundle(dir, request{id: "pod", config: config}); err != nil {
		t.Fatal(err)
	}
	b, err := bundle.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if b.Spec.Hostname != "mine" || b.CgroupsPath() != "/mine" || b.Spec.Annotations["io.microvm.cpus"] != "2" || bundle.PodID(b.Spec.Annotations) != "pod" ||
		b.Namespace(specs.NetworkNamespace).Path != "/run/netns/two" || b.Namespace(specs.PIDNamespace).Path != "" || b.Spec.Root.Path != emptyRoot || b.Resources() != nil {
		t.Errorf("%+v", b.Spec)
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeBundle(dir, request{id: "pod"}); err == nil {
		t.Error("a broken configuration")
	}
}

// TestPodsAnnotationsNeedLeave wants those that the administrator lets through,
// and no other.
func TestPodsAnnotationsNeedLeave(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(file, []byte(`pod_annotations = ["io.microvm.mem*"]`), 0o600); err != nil {
		t.Fatal(err)
	}
	options, err := anypb.New(&runtimeoptions.Options{ConfigPath: file})
	if err == nil {
		err = SaveOptions(dir, options)
	}
	if err != nil {
		t.Fatal(err)
	}
	pod := &PodSandboxConfig{Annotations: map[string]string{"io.microvm.memory": "400", "io.microvm.machine": "software", "other": "x"}}
	r := &sandboxapi.CreateSandboxRequest{BundlePath: dir, Annotations: map[string]string{"client": "y"}}
	got, err := countingAnnotations(t.Context(), r, pod)
	if want := map[string]string{"io.microvm.memory": "400", "client": "y"}; err != nil || !maps.Equal(got, want) {
		t.Errorf("annotations %v, %v", got, err)
	}
}

func TestCgroupsPath(t *testing.T) {
	for parent, want := range map[string]string{
		"": "", "/a/b": "/a/b/pod", "/kubepods.slice/kubepods-pod1.slice": "kubepods-pod1.slice:cri-containerd:pod",
	} {
		if got := cgroupsPath(parent, "pod"); got != want {
			t.Errorf("%q: %q, not %q", parent, got, want)
		}
	}
}

func TestOptionsAreKept(t *testing.T) {
	dir := t.TempDir()
	if o, err := loadOptions(dir); o != nil || err != nil {
		t.Errorf("none: %v, %v", o, err)
	}
	want := &anypb.Any{TypeUrl: "a", Value: []byte{1, 2}}
	if err := SaveOptions(dir, want); err != nil {
		t.Fatal(err)
	}
	if o, err := loadOptions(dir); err != nil || o.GetTypeUrl() != "a" || !slices.Equal(o.GetValue(), want.Value) {
		t.Errorf("%v, %v", o, err)
	}
}
