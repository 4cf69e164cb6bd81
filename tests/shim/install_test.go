package shim

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"

	"github.com/microvm/microvm/tests/command"
)

// configurations are what hosts have, by what is in them. DIR is containerd's
// directory.
var configurations = map[string]string{
	"nothing":  "-",
	"version":  "version = 2\n",
	"debian":   "version = 2\n\n[plugins]\n  [plugins.\"io.containerd.grpc.v1.cri\"]\n    [plugins.\"io.containerd.grpc.v1.cri\".cni]\n      bin_dir = \"/usr/lib/cni\"\n      conf_dir = \"/etc/cni/net.d\"\n",
	"systemd":  "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\n  default_runtime_name = \"runc\"\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n  runtime_type = \"io.containerd.runc.v2\"\n  [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\n    SystemdCgroup = true\n",
	"imports":  "version = 2\nimports = [\"DIR/conf.d/*.toml\"]\n[debug]\n  level = \"warn\"\n",
	"imported": "version = 2\nimports = [\"DIR/other.toml\"]\n",
}

// onHost is a call of the installed command's with that containerd as the host's.
func onHost(t *testing.T, d *daemon, args ...string) *command.Command {
	t.Helper()
	return command.New(t, append([]string{"env", "PATH=" + d.Bin + ":" + os.Getenv("PATH"), filepath.Join(binDir, "microvm-runtime")}, args...)...)
}

// dumped is what containerd makes of its configuration, without the list of
// files.
func dumped(t *testing.T, d *daemon, config string) map[string]any {
	t.Helper()
	out, err := exec.Command(filepath.Join(d.Bin, "containerd"), "--config", config, "config", "dump").Output()
	if err != nil {
		t.Fatalf("config dump: %v", err)
	}
	all := map[string]any{}
	if err := toml.Unmarshal(out, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// criRuntimes are CRI's in that.
func criRuntimes(t *testing.T, all map[string]any) map[string]any {
	t.Helper()
	plugins := all["plugins"].(map[string]any)
	for _, key := range []string{"io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri"} {
		if cri, ok := plugins[key].(map[string]any); ok {
			return cri["containerd"].(map[string]any)["runtimes"].(map[string]any)
		}
	}
	t.Fatal("containerd says nothing of CRI")
	return nil
}

// TestInstall tells every containerd of the runtime, whatever its configuration,
// and takes it back to the byte.
func TestInstall(t *testing.T) {
	for _, d := range daemons {
		for name, text := range configurations {
			t.Run(d.name+"-"+name, func(t *testing.T) {
				dir := t.TempDir()
				file := filepath.Join(dir, "etc", "config.toml")
				other := filepath.Join(dir, "etc", "other.toml")
				text := strings.ReplaceAll(text, "DIR", filepath.Dir(file))
				if text != "-" {
					put(t, file, text)
				}
				put(t, other, "version = 2\noom_score = -7\n")
				args := []string{"--prefix", filepath.Join(dir, "usr"), "--containerd-config", file}
				onHost(t, d, append([]string{"install", "--dry-run"}, args...)...).Output()
				if _, err := os.Stat(filepath.Join(dir, "usr")); err == nil {
					t.Error("a dry run has installed something")
				}
				onHost(t, d, append([]string{"install"}, args...)...).Output()
				got := dumped(t, d, file)
				all := criRuntimes(t, got)
				own, _ := all["microvm"].(map[string]any)
				runc, _ := all["runc"].(map[string]any)
				if own["runtime_type"] != filepath.Join(dir, "usr/bin/containerd-shim-microvm-v1") || runc["runtime_type"] != "io.containerd.runc.v2" {
					t.Errorf("runtimes: %v", all)
				}
				if name == "systemd" && runc["options"].(map[string]any)["SystemdCgroup"] != true {
					t.Errorf("runc's options: %v", runc)
				}
				if name == "imported" && got["oom_score"] != int64(-7) {
					t.Errorf("the other import is lost: oom_score %v", got["oom_score"])
				}
				if again := onHost(t, d, append([]string{"install"}, args...)...).Output(); strings.Contains(again, "write ") {
					t.Errorf("the second install: %s", again)
				}
				onHost(t, d, "uninstall", "--prefix", args[1]).Output()
				after, err := os.ReadFile(file)
				if text == "-" && !os.IsNotExist(err) || text != "-" && string(after) != text {
					t.Errorf("after uninstall: %q, %v", after, err)
				}
				for _, left := range []string{filepath.Join(dir, "usr"), filepath.Join(dir, "etc/conf.d")} {
					if _, err := os.Stat(left); !os.IsNotExist(err) {
						t.Errorf("%s is left", left)
					}
				}
			})
		}
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestInstallKeepsOff changes no configuration that it does not understand, and
// then says what to add.
func TestInstallKeepsOff(t *testing.T) {
	for _, d := range daemons {
		for name, text := range map[string]string{
			"broken":   "version = 2\n[plugins\n",
			"ancient":  "[plugins.cri]\n",
			"inlined":  "version = 2\nimports = [ # none yet\n]\nplugins = {\"io.containerd.grpc.v1.cri\" = {containerd = {default_runtime_name = \"runc\"}}}\n",
			"disabled": "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n",
		} {
			t.Run(d.name+"-"+name, func(t *testing.T) {
				dir := t.TempDir()
				file := filepath.Join(dir, "etc", "config.toml")
				put(t, file, text)
				o := onHost(t, d, "install", "--prefix", filepath.Join(dir, "usr"), "--containerd-config", file).Run()
				if fails := name != "disabled"; (o.Code != 0) != fails || fails && !strings.Contains(o.Stderr, file) {
					t.Errorf("%v", o)
				}
				if name == "inlined" && !strings.Contains(o.Stderr, "containerd.runtimes.microvm]") {
					t.Errorf("it does not say what to add: %v", o)
				}
				if _, err := os.Stat(filepath.Join(dir, "usr")); (err == nil) != (name == "disabled") {
					t.Errorf("programs: %v", err)
				}
				files, _ := os.ReadDir(filepath.Dir(file))
				if got, _ := os.ReadFile(file); string(got) != text || len(files) != 1 {
					t.Errorf("configuration is %q, files %v", got, files)
				}
			})
		}
	}
}

// TestInstalledRuntime runs a pod with what install has put in place. One of the
// host's network it refuses.
func TestInstalledRuntime(t *testing.T) {
	plain, _, _ := strings.Cut(configuration, "    default_runtime_name")
	for _, known := range daemons {
		dir := t.TempDir()
		d, err := makeDaemon(known.Bin, filepath.Join(dir, "d"), plain)
		if err != nil {
			t.Fatal(err)
		}
		prefix := filepath.Join(dir, "usr")
		onHost(t, d, "install", "--prefix", prefix, "--containerd-config", filepath.Join(d.Dir, "config.toml")).Output()
		if err := d.begin(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(d.Stop)
		withPods(t, d, "microvm", func(t *testing.T, p pods) {
			one := p.podWith(withNamespaces(nil, object{"network": ofPod}))
			if got := p.in(one.container(idle, withNamespaces(nil, object{"network": ofPod, "pid": ofSelf})), "uname", "-r"); !strings.Contains(got, "microvm") {
				t.Errorf("kernel %s", got)
			}
			exe, err := os.Readlink("/proc/" + strconv.Itoa(p.shimOf(one.machine())) + "/exe")
			if err != nil || exe != filepath.Join(prefix, "bin/containerd-shim-microvm-v1") {
				t.Errorf("the shim is %s, %v", exe, err)
			}
			for field, options := range map[string]object{
				"hostNetwork": {"network": ofNode}, "hostPID": {"network": ofPod, "pid": ofNode}, "hostIPC": {"network": ofPod, "ipc": ofNode},
			} {
				hosts := p.file(object{
					"metadata": object{"name": "hosts", "namespace": "default", "attempt": 1, "uid": newID(t)},
					"linux":    withNamespaces(nil, options),
				})
				if r := p.crictl("runp", "--runtime", p.handler, hosts).Run(); r.Code == 0 || !strings.Contains(r.Stderr, field) {
					t.Errorf("a pod with %s: %+v", field, r)
				}
			}
		})
	}
}
