package usernet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/microvm/microvm/netns"
)

// inside says that the tests run in a network namespace of their own.
const inside = "USERNET_TEST_INSIDE"

// world is an address there that guests reach.
var world = netip.MustParseAddr("10.99.0.1")

// TestMain has the tests run in a network namespace of their own, if it may: whatever a
// guest asks for, nobody else is asked.
func TestMain(m *testing.M) {
	if os.Getenv(inside) == "" && os.Geteuid() == 0 {
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = setUpWorld()
		}
		if err == nil {
			err = unix.Exec("/proc/self/exe", os.Args, append(os.Environ(), inside+"=1"))
		}
		panic(err)
	}
	os.Exit(m.Run())
}

func setUpWorld() error {
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err == nil {
		err = netlink.AddrAdd(lo, &netlink.Addr{IPNet: netlink.NewIPNet(world.AsSlice())})
	}
	if err == nil {
		err = os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647"), 0)
	}
	return err
}

// wire is the guest's end of a gateway that lives as long as the process.
type wire struct {
	socket *os.File
	port   uint16 // of the world's, where all that is said comes back
}

// theWire is one for all inputs: what one leaves behind meets the next.
var theWire = sync.OnceValues(func() (*wire, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp4", "10.99.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(time.Second))
				io.Copy(c, c)
			}()
		}
	}()
	if _, err := New(fds[0]); err != nil {
		return nil, err
	}
	return &wire{os.NewFile(uintptr(fds[1]), "wire"), l.Addr().(*net.TCPAddr).AddrPort().Port()}, nil
})

// answers tells whether the gateway still answers: it is asked for its address
// (RFC 826) as one of 65,536 hosts, so that no earlier answer is taken for this one's.
func (w *wire) answers(serial uint16) error {
	mac := binary.BigEndian.AppendUint16([]byte{2, 0, 0, 0}, serial)
	frame := slices.Concat(bytes.Repeat([]byte{0xff}, 6), mac, []byte{0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1},
		mac, guests[0].AsSlice(), make([]byte, 6), gateways[0].AsSlice())
	if err := w.send(frame); err != nil {
		return err
	}
	got := make([]byte, 1<<16)
	for {
		n, err := w.socket.Read(got)
		if err != nil {
			return fmt.Errorf("wait for an answer: %w", err)
		}
		if n >= header.EthernetMinimumSize && bytes.Equal(got[:6], mac) && got[12] == 8 && got[13] == 6 {
			return nil
		}
	}
}

// send sends a frame, which the gateway takes, and gives it half a minute to answer.
func (w *wire) send(frame []byte) error {
	if err := w.socket.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	if _, err := w.socket.Write(frame); err != nil {
		return fmt.Errorf("send %d bytes: %w", len(frame), err)
	}
	return nil
}

// FuzzFrames sends the gateway frames, each behind its length in two bytes, with their
// checksums set right: whatever they are, it still answers.
func FuzzFrames(f *testing.F) {
	if os.Getenv(inside) == "" {
		f.Skip("needs root, for a network namespace")
	}
	w, err := theWire()
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range seeds(w.port) {
		f.Add(s)
	}
	var serial uint16
	f.Fuzz(func(t *testing.T, data []byte) {
		for n := 0; len(data) > 2 && n < 8; n++ {
			size := min(int(binary.BigEndian.Uint16(data)), len(data)-2)
			frame := slices.Clone(data[2 : 2+size])
			data = data[2+size:]
			sum(frame)
			if len(frame) < header.EthernetMinimumSize || len(frame) > netns.UserMTU+header.EthernetMinimumSize {
				continue // the guest's device drops it
			}
			if err := w.send(frame); err != nil {
				t.Fatal(err)
			}
		}
		serial++
		if err := w.answers(serial); err != nil {
			t.Fatal(err)
		}
	})
}

// sum sets the checksums of a frame, as far as it is one.
func sum(frame []byte) {
	if len(frame) < header.EthernetMinimumSize {
		return
	}
	packet := frame[header.EthernetMinimumSize:]
	switch header.Ethernet(frame).Type() {
	case header.IPv4ProtocolNumber:
		if len(packet) < header.IPv4MinimumSize {
			return
		}
		ip := header.IPv4(packet)
		head := int(ip.HeaderLength())
		if head < header.IPv4MinimumSize || head > len(packet) {
			return
		}
		ip.SetChecksum(0)
		ip.SetChecksum(^ip.CalculateChecksum())
		sumTransport(ip.TransportProtocol(), packet[head:min(len(packet), max(head, int(ip.TotalLength())))], ip.SourceAddress(), ip.DestinationAddress())
	case header.IPv6ProtocolNumber:
		if len(packet) < header.IPv6MinimumSize {
			return
		}
		ip := header.IPv6(packet)
		sumTransport(ip.TransportProtocol(), packet[header.IPv6MinimumSize:min(len(packet), header.IPv6MinimumSize+int(ip.PayloadLength()))], ip.SourceAddress(), ip.DestinationAddress())
	}
}

// sumTransport sets the checksum of what IP carries.
func sumTransport(number tcpip.TransportProtocolNumber, p []byte, from, to tcpip.Address) {
	offset := map[tcpip.TransportProtocolNumber]int{
		header.TCPProtocolNumber: 16, header.UDPProtocolNumber: 6, header.ICMPv4ProtocolNumber: 2, header.ICMPv6ProtocolNumber: 2,
	}[number]
	if offset == 0 || len(p) < offset+2 {
		return
	}
	var initial uint16
	if number != header.ICMPv4ProtocolNumber {
		initial = header.PseudoHeaderChecksum(number, from, to, uint16(len(p)))
	}
	binary.BigEndian.PutUint16(p[offset:], 0)
	binary.BigEndian.PutUint16(p[offset:], ^checksum.Checksum(p, initial))
}

// seeds are frames of all the kinds that the gateway knows.
func seeds(port uint16) (all [][]byte) {
	question, err := new(dns.Msg).SetQuestion("localhost.", dns.TypeA).Pack()
	if err != nil {
		panic(err)
	}
	syn := slices.Concat(ports(4000, port), []byte{0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0})
	data := slices.Concat(ports(4000, port), []byte{0, 0, 0, 2, 0, 0, 0, 0, 0x50, 0x19, 0xff, 0xff, 0, 0, 0, 0}, []byte("said"))
	datagram := slices.Concat(ports(5000, port), []byte{0, 12, 0, 0}, []byte("said"))
	names := slices.Concat(ports(6000, namesPort), []byte{0, byte(8 + len(question)), 0, 0}, question)
	echo := []byte{8, 0, 0, 0, 0, 7, 0, 1, 'p', 'i', 'n', 'g'}
	echo6 := []byte{128, 0, 0, 0, 0, 7, 0, 1, 'p', 'i', 'n', 'g'}
	solicit := slices.Concat([]byte{135, 0, 0, 0, 0, 0, 0, 0}, gateways[1].AsSlice())
	return [][]byte{
		input(ip4(world, 6, syn), ip4(world, 6, data)),
		input(ip4(world, 17, datagram), ip4(gateways[0], 17, names)),
		input(ip4(world, 1, echo), ip4(gateways[0], 1, echo)),
		input(ip6(gateways[1], 58, echo6), ip6(gateways[1], 58, solicit)),
		input(ip6(netip.MustParseAddr("fd99::1"), 44, slices.Concat([]byte{58, 0, 0, 1, 0, 0, 0, 9}, echo6))),
	}
}

func ports(from, to uint16) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, from), to)
}

func ip4(to netip.Addr, protocol byte, payload []byte) []byte {
	head := []byte{0x45, 0, 0, byte(20 + len(payload)), 0, 0, 0, 0, 64, protocol, 0, 0}
	return slices.Concat(ethernet(0x0800), head, guests[0].AsSlice(), to.AsSlice(), payload)
}

func ip6(to netip.Addr, next byte, payload []byte) []byte {
	head := []byte{0x60, 0, 0, 0, 0, byte(len(payload)), next, 64}
	return slices.Concat(ethernet(0x86dd), head, guests[1].AsSlice(), to.AsSlice(), payload)
}

func ethernet(kind uint16) []byte {
	to, _ := net.ParseMAC(netns.UserGatewayMAC)
	return binary.BigEndian.AppendUint16(slices.Concat(to, []byte{2, 0, 0, 0, 0, 1}), kind)
}

func input(frames ...[]byte) (all []byte) {
	for _, f := range frames {
		all = append(binary.BigEndian.AppendUint16(all, uint16(len(f))), f...)
	}
	return all
}
