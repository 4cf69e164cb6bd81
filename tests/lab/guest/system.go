package guest

import (
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/microvm/microvm/tests/lab/iface"
	"github.com/microvm/microvm/tests/lab/wire"
	"golang.org/x/sys/unix"
)

// maxFiles is the limit of open files that systemd gives to services.
const maxFiles = 1 << 19

// prepareSystem does what an init system would have done by now.
func prepareSystem(start *wire.Start) error {
	for link, target := range map[string]string{
		"/dev/fd":     "/proc/self/fd",
		"/dev/stdin":  "/proc/self/fd/0",
		"/dev/stdout": "/proc/self/fd/1",
		"/dev/stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(target, link); err != nil && !os.IsExist(err) {
			return err
		}
	}
	if err := os.MkdirAll("/run/lock", 0o1777); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte("lab")); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: maxFiles, Max: maxFiles}); err != nil {
		return fmt.Errorf("set limit of open files: %w", err)
	}
	if err := enableControllers("/sys/fs/cgroup"); err != nil {
		return err
	}
	if err := bringUpInterfaces(start); err != nil {
		return err
	}
	return holdKVM()
}

// enableControllers lets the children of the root cgroup use every controller,
// as systemd does for its slices.
func enableControllers(root string) error {
	names, err := os.ReadFile(root + "/cgroup.controllers")
	if err != nil {
		return err
	}
	var enable []string
	for _, name := range strings.Fields(string(names)) {
		enable = append(enable, "+"+name)
	}
	return os.WriteFile(root+"/cgroup.subtree_control", []byte(strings.Join(enable, " ")), 0)
}

// hostInterface is what the kernel calls the interface to the host.
const hostInterface = "eth0"

func bringUpInterfaces(start *wire.Start) error {
	if err := iface.Up("lo", netip.Prefix{}); err != nil || !start.Address.IsValid() {
		return err
	}
	return iface.Up(hostInterface, start.Address)
}
