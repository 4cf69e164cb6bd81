package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Down ends a node, in whatever state it is, and takes back what it has made. The
// directory stays if there is something that could not be taken back.
func (n *Node) Down(say func(string)) error {
	var err error
	step := func(about string, do func() error) {
		if e := do(); e != nil {
			err = errors.Join(err, fmt.Errorf("end node: %s: %w", about, e))
			return
		}
		say(about)
	}
	step("control plane, kubelet", func() error {
		return n.killAll("kubelet", "kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd")
	})
	step("pods", n.removePods)
	step("kube-proxy, containerd", func() error { return n.killAll("kube-proxy", "containerd") })
	step("what was left of pods", n.killStrays)
	step("packet filter rules", n.removeRules)
	step("interfaces", removeLinks)
	step("mounts", n.unmountAll)
	step("control groups", removeGroups)
	step("settings of the kernel", n.restoreSettings)
	step("directories of kubelet", n.removeFixed)
	if err != nil {
		return err
	}
	return os.RemoveAll(n.Dir)
}

func (n *Node) killAll(names ...string) (err error) {
	for _, name := range names {
		err = errors.Join(err, n.Kill(name, unix.SIGTERM))
	}
	return err
}

// removePods has containerd remove all, and so CNI's plugins what they have made.
// A containerd that is not there is started for that.
func (n *Node) removePods() error {
	p, err := n.record("containerd")
	if errors.Is(err, os.ErrNotExist) {
		return nil // there never was one
	}
	if !p.alive() {
		if err := n.startAll("containerd"); err != nil {
			return err
		}
	}
	_, err = n.Crictl("rmp", "--force", "--all")
	return err
}

// killStrays ends what is left when containerd has removed all: nothing, unless
// something is wrong.
func (n *Node) killStrays() (err error) {
	for _, p := range n.strays() {
		err = errors.Join(err, end(strings.Join(p.Args, " "), p, unix.SIGKILL))
	}
	return err
}

// unmountAll takes away what is mounted below the directory, the last first.
func (n *Node) unmountAll() (err error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var points []string
	for line := range strings.Lines(string(table)) {
		if point := strings.Fields(line)[4]; strings.HasPrefix(point, n.Dir+"/") {
			points = append(points, point)
		}
	}
	for _, point := range slices.Backward(points) {
		if uerr := unix.Unmount(point, unix.MNT_DETACH); uerr != nil {
			err = errors.Join(err, fmt.Errorf("unmount %s: %w", point, uerr))
		}
	}
	return err
}

// removeGroups removes kubelet's control groups, the innermost first.
func removeGroups() (err error) {
	v1, _ := filepath.Glob("/sys/fs/cgroup/*/kubepods")
	for _, root := range append(v1, "/sys/fs/cgroup/kubepods") {
		var groups []string
		_ = filepath.WalkDir(root, func(path string, e os.DirEntry, werr error) error {
			if werr == nil && e.IsDir() {
				groups = append(groups, path)
			}
			return nil
		})
		for _, g := range slices.Backward(groups) {
			if rerr := unix.Rmdir(g); rerr != nil && !errors.Is(rerr, unix.ENOENT) {
				err = errors.Join(err, fmt.Errorf("remove control group %s: %w", g, rerr))
			}
		}
	}
	return err
}

// removeFixed removes what kubelet makes in places that cannot be configured:
// links to containers' logs, and a directory for plugins of devices.
func (n *Node) removeFixed() (err error) {
	const logs = "/var/log/containers"
	links, _ := filepath.Glob(logs + "/*.log")
	for _, l := range links {
		if to, rerr := os.Readlink(l); rerr == nil && strings.HasPrefix(to, n.Dir+"/") {
			err = errors.Join(err, os.Remove(l))
		}
	}
	const plugins = "/var/lib/kubelet/device-plugins"
	for _, path := range []string{logs, plugins + "/kubelet.sock", plugins, "/var/lib/kubelet"} {
		_ = os.Remove(path) // a directory may have others' in it
	}
	return err
}
