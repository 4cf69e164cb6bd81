package netns

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// vnetHeader is the size of struct virtio_net_hdr as a new tap has it.
const vnetHeader = 10

// pair makes two joined interfaces in the calling thread's namespace.
func pair(t *testing.T, a, b string) (netlink.Link, netlink.Link) {
	t.Helper()
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: a}, PeerName: b}); err != nil {
		t.Fatal(err)
	}
	var links []netlink.Link
	for _, name := range []string{a, b} {
		l, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkSetUp(l)
		}
		if err != nil {
			t.Fatal(err)
		}
		links = append(links, l)
	}
	return links[0], links[1]
}

const testProtocol = 0x88b5 // for local experiments

// wire opens the raw frames of an interface.
func wire(t *testing.T, l netlink.Link) *os.File {
	t.Helper()
	var protocol [2]byte
	binary.BigEndian.PutUint16(protocol[:], testProtocol)
	number := binary.NativeEndian.Uint16(protocol[:])
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(number))
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: l.Attrs().Index, Protocol: number})
	}
	if err == nil {
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10})
	}
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), l.Attrs().Name)
}

func testFrame(payload string) []byte {
	f := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}
	f = binary.BigEndian.AppendUint16(f, testProtocol)
	return append(f, bytes.Repeat([]byte(payload), 20)...)
}

func inNewNamespace(t *testing.T, f func()) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	onThread(func() {
		if err := New(); err != nil {
			t.Error(err)
			return
		}
		f()
	})
}

func TestTapStandsInForAnInterface(t *testing.T) {
	inNewNamespace(t, func() {
		near, far := pair(t, "near", "far")
		for _, queues := range []int{1, 3} {
			tap, err := NewTap(near.Attrs().Index, "near", queues)
			if err != nil {
				t.Fatal(err)
			}
			if len(tap.Files()) != queues {
				t.Errorf("%d queues, want %d", len(tap.Files()), queues)
			}
			exchange(t, tap.Files(), far)
			for _, others := range []int{1, 3} {
				if _, err := NewTap(near.Attrs().Index, "near", others); err == nil || !strings.Contains(err.Error(), "another machine") {
					t.Errorf("a second machine: %v", err)
				}
			}
			if err := tap.Close(); err != nil {
				t.Error(err)
			}
			links, err := netlink.LinkList()
			if err != nil || len(links) != 3 {
				t.Errorf("%d interfaces are left, want lo and the pair: %v", len(links), err)
			}
		}
	})
}

// TestQdiscs has a filter for what an interface receives, which is told of, and a
// queueing discipline for what it sends, which a tap's frames take, too.
func TestQdiscs(t *testing.T) {
	inNewNamespace(t, func() {
		near, far := pair(t, "near", "far")
		if err := addFilter(near.Attrs().Index, far.Attrs().Index); err != nil {
			t.Fatal(err)
		}
		c, err := Read()
		if err != nil || !slices.Equal(c.Filtered, []string{"near"}) {
			t.Errorf("%q, %v", c.Filtered, err)
		}
		if err := removeIngress(near.Attrs().Index); err != nil {
			t.Fatal(err)
		}
		root := netlink.QdiscAttrs{LinkIndex: near.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}
		if err := netlink.QdiscAdd(&netlink.GenericQdisc{QdiscAttrs: root, QdiscType: "pfifo"}); err != nil {
			t.Fatal(err)
		}
		tap, err := NewTap(near.Attrs().Index, "near", 1)
		if err != nil {
			t.Fatal(err)
		}
		defer tap.Close()
		exchange(t, tap.Files(), far)
		all, err := netlink.QdiscList(near)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range all {
			if s := q.Attrs().Statistics; q.Attrs().Handle == root.Handle && s != nil && s.Basic.Packets > 0 {
				return
			}
		}
		t.Error("the frame has not been in the queue")
	})
}

// exchange sends a frame each way between the tap's queues and the interface beyond.
func exchange(t *testing.T, queues []*os.File, far netlink.Link) {
	t.Helper()
	beyond := wire(t, far)
	defer beyond.Close()
	p := make([]byte, 1<<16)
	out := testFrame("out")
	for _, queue := range queues {
		if _, err := queue.Write(append(make([]byte, vnetHeader), out...)); err != nil {
			t.Fatal(err)
		}
		if n, err := beyond.Read(p); err != nil || !bytes.Equal(p[:n], out) {
			t.Fatalf("%x arrived, %v", p[:n], err)
		}
	}
	in := testFrame("in ")
	if _, err := beyond.Write(in); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		for _, queue := range queues { // the kernel chooses
			queue.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
			n, err := queue.Read(p)
			if err == nil && bytes.Equal(p[min(n, vnetHeader):n], in) { // others are the kernel's own
				return
			}
		}
	}
	t.Fatal("nothing arrived at the tap")
}

// TestTrafficControl tests the way of kernels before Linux 6.6 on any kernel
// that has it.
func TestTrafficControl(t *testing.T) {
	inNewNamespace(t, func() {
		near, far := pair(t, "near", "far")
		f, err := openQueue("tap0", unix.IFF_TAP|unix.IFF_NO_PI|unix.IFF_VNET_HDR)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		tap, err := netlink.LinkByName("tap0")
		if err == nil {
			err = netlink.LinkSetUp(tap)
		}
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second replaces what a killed process has left
			cut, err := redirectTC(near.Attrs().Index, tap.Attrs().Index)
			if err != nil {
				t.Fatal(err)
			}
			exchange(t, []*os.File{f}, far)
			defer cut()
		}
		if err := removeIngress(near.Attrs().Index); err != nil {
			t.Error(err)
		}
		if err := removeIngress(near.Attrs().Index); err != nil {
			t.Errorf("the second time: %v", err)
		}
	})
}

func TestReadTellsWhatIsThere(t *testing.T) {
	inNewNamespace(t, func() {
		near, _ := pair(t, "near", "far")
		address, err := netlink.ParseAddr("192.0.2.7/24")
		if err == nil {
			err = netlink.AddrAdd(near, address)
		}
		if err == nil {
			_, dst, _ := net.ParseCIDR("198.51.100.0/24")
			err = netlink.RouteAdd(&netlink.Route{LinkIndex: near.Attrs().Index, Dst: dst, Gw: []byte{192, 0, 2, 1}, MTU: 1300})
		}
		if err != nil {
			t.Fatal(err)
		}
		c, err := Read()
		if err != nil || len(c.Links) != 2 || len(c.Routes) != 1 {
			t.Fatalf("%+v, %v", c, err)
		}
		var found bool
		for _, l := range c.Links {
			found = found || l.Name == "near" && l.MAC == near.Attrs().HardwareAddr.String() &&
				len(l.Addresses) > 0 && l.Addresses[0].Prefix.String() == "192.0.2.7/24"
		}
		if r := c.Routes[0]; !found || r.Interface != "near" || r.Destination.String() != "198.51.100.0/24" || r.Gateway.String() != "192.0.2.1" || r.MTU != 1300 {
			t.Errorf("%+v", c)
		}
	})
}

// TestReadTellsWhatRoutersSay has an address that lasts for a time.
func TestReadTellsWhatRoutersSay(t *testing.T) {
	inNewNamespace(t, func() {
		near, _ := pair(t, "near", "far")
		heard, err := netlink.ParseAddr("2001:db8::7/64")
		if err != nil {
			t.Fatal(err)
		}
		heard.ValidLft, heard.PreferedLft = 1000, 500
		way := &netlink.Route{LinkIndex: near.Attrs().Index, Gw: net.ParseIP("2001:db8::1"), Protocol: unix.RTPROT_RA, Flags: unix.RTNH_F_ONLINK}
		if err := errors.Join(netlink.AddrAdd(near, heard), netlink.RouteAdd(way)); err != nil {
			t.Fatal(err)
		}
		c, err := Read()
		if err != nil || len(c.Routes) != 1 || c.Routes[0].Protocol != unix.RTPROT_BOOT || c.Routes[0].Priority != 1025 {
			t.Fatalf("%+v, %v", c, err)
		}
		for _, l := range c.Links {
			for _, a := range l.Addresses {
				if is := a.Prefix.String() == heard.IPNet.String(); is != (a.Valid > 0) || is && (a.Valid > 1000 || a.Preferred > 500) {
					t.Errorf("%s: %+v", l.Name, a)
				}
			}
		}
	})
}

func TestPortsOfABridgeAreTheBridges(t *testing.T) {
	inNewNamespace(t, func() {
		near, _ := pair(t, "near", "far")
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "bridge"}}
		err := errors.Join(netlink.LinkAdd(bridge), netlink.LinkSetUp(bridge), netlink.LinkSetMaster(near, bridge))
		if err != nil {
			t.Fatal(err)
		}
		c, err := Read()
		if err != nil || len(c.Links) != 2 || c.has("near") || !c.has("bridge") || !c.has("far") {
			t.Errorf("%+v, %v", c, err)
		}
	})
}

func TestReadTellsRules(t *testing.T) {
	inNewNamespace(t, func() {
		_, from, _ := net.ParseCIDR("192.0.2.0/24")
		rule := netlink.NewRule()
		rule.Priority, rule.Table, rule.Src = 77, 100, from
		dead := &netlink.Route{Dst: from, Type: unix.RTN_BLACKHOLE}
		if err := errors.Join(netlink.RuleAdd(rule), netlink.RouteAdd(dead)); err != nil {
			t.Fatal(err)
		}
		c, err := Read()
		if err != nil || len(c.Rules) != 1 || len(c.Routes) != 1 {
			t.Fatalf("%+v, %v", c, err)
		}
		if r := c.Rules[0]; r.IPv6 || r.Priority != 77 || r.Table != 100 || r.From.String() != from.String() || r.Goto != nil || r.SuppressPrefix != nil {
			t.Errorf("%+v", r)
		}
		if r := c.Routes[0]; r.Interface != "" || r.Type != unix.RTN_BLACKHOLE || r.Destination.String() != from.String() {
			t.Errorf("%+v", r)
		}
	})
}
