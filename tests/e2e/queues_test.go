package e2e

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestQueuesForEachProcessor has two machines with two processors each talk over
// network devices with as many pairs of queues, of which one uses fewer for a while.
func TestQueuesForEachProcessor(t *testing.T) {
	b := newBridge(t, 1500)
	_, there := b.port(0)
	_, here := b.port(1)
	s := newSite(t)
	two := annotated("io.microvm.cpus", "2")
	s.detached(s.withProgram(s.bundle([]string{programName, "echo"}, there, two)))
	v4, v6 := b.addresses(0)
	script := fmt.Sprintf(`talk() {
			ls /sys/class/net/eth0/queues | tr '\n' ' '
			for i in 1 2; do for address in %s [%s]; do %[3]s ask tcp $address 100000 & pids="$pids $!"; done; done
			for p in $pids; do wait $p && echo -n "echoed "; done; pids=; echo
		}
		talk; %[3]s 'use pairs' eth0 1 && talk; %[3]s 'use pairs' eth0 2 && talk
		%[3]s 'use pairs' eth0 3 2>/dev/null || echo no third pair`, v4, v6, programName)
	const one, both, echoed = "rx-0 tx-0 ", "rx-0 rx-1 tx-0 tx-1 ", "echoed echoed echoed echoed \n"
	want := both + echoed + one + echoed + both + echoed + "no third pair\n"
	if o := s.runBundle(s.withProgram(s.bundle(sh(script), here, two, netAdmin))); o.Stdout != want {
		t.Errorf("%v, want %q", o, want)
	}
}

// usePairs does what `ethtool --set-channels INTERFACE combined NUMBER` does.
func usePairs(args []string) error {
	const setChannels = 0x3d // ETHTOOL_SCHANNELS, see linux/ethtool.h
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	// struct ethtool_channels: the command, four maxima, and four numbers.
	channels := [9]uint32{0: setChannels, 8: uint32(n)}
	request := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		rest [16]byte
	}{data: unsafe.Pointer(&channels)}
	copy(request.name[:], args[0])
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return os.NewSyscallError("SIOCETHTOOL", errno)
	}
	return nil
}
