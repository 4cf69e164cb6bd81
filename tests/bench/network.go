package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/vishvananda/netlink"

	"github.com/microvm/microvm/netns"
)

// Addresses and namespaces of the network's measurements.
const (
	guestNS, peerNS      = "bench-guest", "bench-peer"
	guestAddr, peerAddr  = "10.81.0.2", "10.81.0.1"
	trafficName, tapName = "/bin/traffic", "tap0"
	qemuProgram          = "qemu-system-x86_64"
)

// contenders run the traffic server somewhere and return what ends it. programs are
// those whose processor time counts; in software QEMU has our vCPUs, too.
var contenders = []struct {
	name     string
	programs []string
	start    func(b *bench, bundle *bundle) (stop func(), err error)
}{
	{"microvm", ourPrograms, trafficMicrovm},
	{"qemu", []string{qemuProgram}, trafficQEMU},
	{"veth", nil, trafficVeth},
}

var ourPrograms = []string{"microvm-vmm", qemuProgram}

// measureNetwork measures each contender in turn, rounds times.
func (b *bench) measureNetwork(r *report) error {
	bundle, err := trafficBundle(b.bin)
	if err != nil {
		return err
	}
	defer bundle.remove()
	r.Network = map[string]map[string][]float64{}
	for i := range b.networkRounds {
		for _, c := range contenders {
			fmt.Fprintf(os.Stderr, "network round %d of %d: %s\n", i+1, b.networkRounds, c.name)
			figures, err := b.measureContender(bundle, c.programs, c.start)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			if r.Network[c.name] == nil {
				r.Network[c.name] = map[string][]float64{}
			}
			for k, v := range figures {
				r.Network[c.name][k] = append(r.Network[c.name][k], v)
			}
		}
	}
	return nil
}

func (b *bench) measureContender(bundle *bundle, programs []string, start func(*bench, *bundle) (func(), error)) (map[string]float64, error) {
	for _, ns := range []string{guestNS, peerNS} {
		if err := ip("netns", "add", ns); err != nil {
			return nil, err
		}
		defer func() { _ = ip("netns", "del", ns) }()
	}
	in, err := netns.Open("/run/netns/" + peerNS)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	stop, err := start(b, bundle)
	if err != nil {
		return nil, err
	}
	defer stop()
	return client{in, guestAddr, b.networkTime}.measure(func() time.Duration { return cpuOf(programs) })
}

// trafficBundle runs this program as the server.
func trafficBundle(bin string) (*bundle, error) {
	b, err := makeBundle(bin)
	if err != nil {
		return nil, err
	}
	if err := b.serveTraffic(); err != nil {
		b.remove()
		return nil, err
	}
	return b, nil
}

// serveTraffic makes the server of the network's measurements its command.
func (b *bundle) serveTraffic() error {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.rootfs(), trafficName), self, 0o755); err != nil {
		return err
	}
	return b.edit([]string{trafficName, "-serve"})
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// makePair joins both namespaces by two interfaces called eth0.
func makePair() error {
	return errors.Join(
		ip("-n", guestNS, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", peerNS),
		ip("-n", guestNS, "addr", "add", guestAddr+"/24", "dev", "eth0"), ip("-n", guestNS, "link", "set", "eth0", "up"),
		ip("-n", peerNS, "addr", "add", peerAddr+"/24", "dev", "eth0"), ip("-n", peerNS, "link", "set", "eth0", "up"),
	)
}

func trafficMicrovm(b *bench, bundle *bundle) (func(), error) {
	if err := makePair(); err != nil {
		return nil, err
	}
	for i := range bundle.spec.Linux.Namespaces {
		if ns := &bundle.spec.Linux.Namespaces[i]; ns.Type == specs.NetworkNamespace {
			ns.Path = "/run/netns/" + guestNS
		}
	}
	if err := bundle.write(); err != nil {
		return nil, err
	}
	if out, err := runToFile(runtime(b.bin, bundle, "run", "--detach", "--bundle", bundle.dir, "bench-network"), bundle); err != nil {
		return nil, fmt.Errorf("run: %w: %s", err, out)
	}
	return func() { _ = runtime(b.bin, bundle, "delete", "--force", "bench-network").Run() }, nil
}

// trafficQEMU has QEMU's own virtio-net on a tap of the peer's namespace.
func trafficQEMU(b *bench, _ *bundle) (func(), error) {
	err := errors.Join(
		ip("-n", peerNS, "tuntap", "add", tapName, "mode", "tap", "vnet_hdr"), ip("-n", peerNS, "addr", "add", peerAddr+"/24", "dev", tapName),
		ip("-n", peerNS, "link", "set", tapName, "up"),
	)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "bench-qemu-")
	if err != nil {
		return nil, err
	}
	stop, err := b.bootTrafficGuest(dir)
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	return func() { stop(); _ = os.RemoveAll(dir) }, nil
}

// bootTrafficGuest boots a QEMU that serves at guestAddr. Its console is in dir.
func (b *bench) bootTrafficGuest(dir string) (stop func(), err error) {
	initramfs := filepath.Join(dir, "initramfs")
	if err := writeInitramfs(initramfs); err != nil {
		return nil, err
	}
	args := append([]string{"netns", "exec", peerNS, qemuProgram}, b.guestArgs(initramfs, addressVariable+"="+guestAddr+"/24")...)
	args = append(args, "-chardev", "file,id=console,path="+filepath.Join(dir, "console"),
		"-netdev", "tap,id=net,ifname="+tapName+",script=no,downscript=no,vhost=off", "-device", "virtio-net-device,netdev=net")
	qemu := exec.Command("ip", args...) // which becomes QEMU
	qemu.Stderr = os.Stderr
	if err := qemu.Start(); err != nil {
		return nil, err
	}
	return func() { _ = qemu.Process.Kill(); _ = qemu.Wait() }, nil
}

// guestTraffic serves at an address of the guest's only interface.
func guestTraffic(address string) error {
	link, err := netlink.LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("find eth0: %w", err)
	}
	addr, err := netlink.ParseAddr(address)
	if err != nil {
		return fmt.Errorf("kernel command line: %w", err)
	}
	if err := errors.Join(netlink.AddrAdd(link, addr), netlink.LinkSetUp(link)); err != nil {
		return fmt.Errorf("set up eth0: %w", err)
	}
	return serveTraffic()
}

// trafficVeth has the server in the namespace itself, as runc would.
func trafficVeth(_ *bench, bundle *bundle) (func(), error) {
	if err := makePair(); err != nil {
		return nil, err
	}
	server := exec.Command("ip", "netns", "exec", guestNS, filepath.Join(bundle.rootfs(), trafficName), "-serve")
	if err := server.Start(); err != nil {
		return nil, err
	}
	return func() { _ = server.Process.Kill(); _ = server.Wait() }, nil
}

// cpuOf is the processor time of all processes of the programs, the guest's included.
func cpuOf(programs []string) (sum time.Duration) {
	for _, name := range programs {
		pids, err := processesNamed(name)
		if err != nil {
			return 0
		}
		for _, pid := range pids {
			sum += processTime(pid)
		}
	}
	return sum
}

// processTime reads fields 14 and 15 of proc(5)'s stat, in ticks of 10 ms.
func processTime(pid int) time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	var user, system int64
	if len(fields) > 12 {
		_, _ = fmt.Sscan(fields[11], &user)
		_, _ = fmt.Sscan(fields[12], &system)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

// networkRows are in the order of the table.
var networkRows = []string{
	"to the guest, streams: 1, Mbit/s", "from the guest, streams: 1, Mbit/s",
	"to the guest, streams: 8, Mbit/s", "from the guest, streams: 8, Mbit/s",
	"round trips/s", "to the guest, datagrams/s", "from the guest, datagrams/s", "to the guest, CPU s/GB",
}

func (r *report) printNetwork(w *tabwriter.Writer) {
	if r.Network == nil {
		return
	}
	fmt.Fprintln(w, "network\tmicrovm\tqemu -M microvm, tap\tratio\tveth")
	for _, row := range networkRows {
		ours, theirs := median(r.Network["microvm"][row]), median(r.Network["qemu"][row])
		fmt.Fprintf(w, "%s\t%.4g\t%.4g\t%.2f\t%.4g\n", row, ours, theirs, ours/theirs, median(r.Network["veth"][row]))
	}
}
