package config

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoad(t *testing.T) {
	c, err := Load(write(t, "machine = \"kvm\"\nmemory = 256\ncpus = 2\nkernel = \"/k\"\ninitramfs = \"/i\"\nvmm = \"/v\"\nqemu = \"/q\"\ndebug = true\ningress = \"10M\"\negress_frames = 500\ncache = \"never,/x=always\"\n"))
	want := Config{Machine: "kvm", Memory: 256, CPUs: 2, Kernel: "/k", Initramfs: "/i", VMM: "/v", QEMU: "/q", Debug: true, Ingress: 10e6, EgressFrames: 500, Cache: "never,/x=always"}
	if err != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestMistakesAreNamed(t *testing.T) {
	for text, want := range map[string]string{
		"\nkernle = 'x'":          `line 2: unknown key "kernle"`,
		"kernel = ":               "line 1",
		"machine = 'xen'":         `"xen" is not one of`,
		"memory = 64":             "64 MiB is less than the 128 MiB",
		"memory = 'much'":         "Config.Memory",
		"cpus = 1000":             "1000 is not between",
		"cpus = -1":               "-1 is not between",
		"network = 'tap'":         `"tap" is not one of`,
		"mitigations = 'some'":    `"some" is not one of`,
		"cache = 'maybe'":         `"maybe" in "maybe" is not one of`,
		"ingress = '10m'":         `"10m" is no rate`,
		"[machine]\nfoo = 1":      "store a table",
		"guests = ['vmlinux']":    `"vmlinux" is no pattern`,
		"pod_annotations = ['[']": `"[" is no pattern`,
	} {
		path := write(t, text)
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := Load("/no/such/config.toml"); err == nil {
		t.Error("a file that was asked for may be missing")
	}
}

func TestAnnotations(t *testing.T) {
	c, err := Config{Memory: 256, CPUs: 3, Guests: []string{"/k"}}.WithAnnotations(map[string]string{"io.microvm.memory": "1024", "io.microvm.kernel": "/k", "other": "x"})
	if want := (Config{Memory: 1024, CPUs: 3, Kernel: "/k", Guests: []string{"/k"}}); err != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("%+v, %v", c, err)
	}
	limited := Config{Ingress: 1000}
	if c, err := limited.WithAnnotations(map[string]string{"io.microvm.ingress": "900", "io.microvm.egress": "2G"}); err != nil || c.Ingress != 900 || c.Egress != 2e9 {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := limited.WithAnnotations(map[string]string{"io.microvm.ingress": "2k"}); err == nil {
		t.Error("an annotation raises a limit")
	}
	if c, err := (Config{Mitigations: "off"}).WithAnnotations(map[string]string{"io.microvm.mitigations": "on"}); err != nil || c.Mitigations != MitigationsOn {
		t.Errorf("%+v, %v", c, err)
	}
	for _, of := range []string{"", "on"} {
		if _, err := (Config{Mitigations: of}).WithAnnotations(map[string]string{"io.microvm.mitigations": "off"}); err == nil {
			t.Errorf("an annotation switches mitigations off that are %q", of)
		}
	}
	for k, v := range map[string]string{"egress": "0", "ingress_frames": "fast", "memory": "8", "cpus": "many", "machine": "xen", "vmm": "/bin/sh", "foo": "", "network": "tap", "publish": "80", "mitigations": "some", "cache": "auto,data=never"} {
		if _, err := (Config{}).WithAnnotations(map[string]string{"io.microvm." + k: v}); err == nil || !strings.Contains(err.Error(), "io.microvm."+k) {
			t.Errorf("%s=%s: %v", k, v, err)
		}
	}
}

// TestAnnotationsNameNoFileOfTheHost but those that the configuration lets them: all
// of an initramfs is in the guest's memory.
func TestAnnotationsNameNoFileOfTheHost(t *testing.T) {
	for _, key := range []string{"kernel", "initramfs"} {
		for file, fine := range map[string]bool{"/guests/new": true, "/guests/../etc/shadow": false, "/guests/": false, "/guests/a/b": false, "/etc/shadow": false, "guests/new": false, "": false} {
			c := Config{Guests: []string{"/guests/?*"}}
			if _, err := c.WithAnnotations(map[string]string{"io.microvm." + key: file}); (err == nil) != fine {
				t.Errorf("%s %q: %v", key, file, err)
			}
			if _, err := (Config{}).WithAnnotations(map[string]string{"io.microvm." + key: file}); err == nil {
				t.Errorf("%s %q without a pattern", key, file)
			}
		}
	}
}

func TestPublications(t *testing.T) {
	got, err := Config{Publish: "8080:80,0.0.0.0:53:5353/udp,[::1]:1:2"}.Publications()
	if want := []string{"127.0.0.1:8080=80", "0.0.0.0:53=5353/udp", "[::1]:1=2"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	for _, p := range []string{"80", "x:80", "80:x", "0:80", "80:0", "80:70000", "host::80", ":80", "80/udp:80", "80:80/sctp"} {
		if got, err := (Config{Publish: p}).Publications(); err == nil {
			t.Errorf("%s: %q", p, got)
		}
	}
}

func TestCaches(t *testing.T) {
	type place struct {
		path      string
		immutable bool
	}
	for setting, want := range map[string]map[place]string{
		"":                            {{"/", false}: "", {"/", true}: "always"},
		"never":                       {{"/", true}: "never", {"/data", false}: "never"},
		"always,/data=auto,/x/=never": {{"/", false}: "always", {"/data", true}: "auto", {"x", false}: "never", {"/x/y", false}: "always"},
		"/=auto":                      {{"/", true}: "auto", {"/image", true}: "always", {"/data", false}: ""},
	} {
		all, err := Config{Cache: setting}.Caches()
		if err != nil {
			t.Fatal(err)
		}
		for p, policy := range want {
			if got := all.Of(p.path, p.immutable); got != policy {
				t.Errorf("%q of %+v: %q", setting, p, got)
			}
		}
	}
	for _, bad := range []string{"on", "auto,never", "data=always", "=auto", "/data=", "/data"} {
		if all, err := (Config{Cache: bad}).Caches(); err == nil {
			t.Errorf("%s: %+v", bad, all)
		}
	}
}

func TestLocate(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"vmlinux", "microvm-vmm"} {
		if err := os.WriteFile(filepath.Join(dir, n), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	a := Config{Initramfs: dir}.Locate(dir)
	if a.Kernel.Path != dir+"/vmlinux" || a.VMM.Path != dir+"/microvm-vmm" {
		t.Errorf("%+v", a)
	}
	if err := a.Missing(MachineKVM); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Error(err)
	}
	a = Config{Kernel: "/no/such/vmlinux"}.Locate(dir)
	if err := a.Missing(MachineKVM); err == nil || !strings.Contains(err.Error(), "/no/such/vmlinux") {
		t.Error(err)
	}
}

func TestPodsAnnotations(t *testing.T) {
	all := map[string]string{"io.microvm.cpus": "2", "io.microvm.debug": "true", "io.kubernetes.cri.sandbox-id": "x"}
	for _, c := range []struct {
		patterns []string
		want     int
	}{{nil, 0}, {[]string{"io.microvm.d*"}, 1}, {[]string{"io.microvm.cpus", "io.microvm.debug"}, 2}, {[]string{"*"}, 2}} {
		if got := (Config{PodAnnotations: c.patterns}).OfPod(all); len(got) != c.want {
			t.Errorf("%v lets through %v", c.patterns, got)
		}
	}
}
