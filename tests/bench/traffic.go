package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/microvm/microvm/netns"
)

// trafficPort is that of the server, over TCP and UDP.
const trafficPort = 9200

// What a client asks of a connection with its first byte.
const (
	wantsSink    = 's' // read to the end
	wantsSource  = 'd' // send until the client has enough
	wantsEcho    = 'e' // send back byte by byte
	wantsCount   = 'c' // tell how many datagrams have come so far
	wantsPackets = 'p' // send datagrams, as the packets that follows says
)

// Sizes in bytes.
const (
	chunkSize    = 128 << 10
	datagramSize = 64
)

// packets is what a client sends after wantsPackets.
type packets struct {
	Port uint16        // of the client
	Time time.Duration // to send for
}

// serveTraffic is what runs in the guest.
func serveTraffic() error {
	tcp, err := net.Listen("tcp4", fmt.Sprint(":", trafficPort))
	if err != nil {
		return err
	}
	udp, err := net.ListenPacket("udp4", fmt.Sprint(":", trafficPort))
	if err != nil {
		return err
	}
	var datagrams atomic.Uint64
	go countDatagrams(udp, &datagrams)
	for {
		c, err := tcp.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			serveClient(c, udp, &datagrams)
		}()
	}
}

func countDatagrams(c net.PacketConn, n *atomic.Uint64) {
	p := make([]byte, 2048)
	for {
		if _, _, err := c.ReadFrom(p); err != nil {
			return
		}
		n.Add(1)
	}
}

func serveClient(c net.Conn, udp net.PacketConn, datagrams *atomic.Uint64) {
	var want [1]byte
	if _, err := io.ReadFull(c, want[:]); err != nil {
		return
	}
	switch want[0] {
	case wantsSink:
		sink(c)
	case wantsSource:
		source(c)
	case wantsEcho:
		io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
	case wantsCount:
		binary.Write(c, binary.BigEndian, datagrams.Load())
	case wantsPackets:
		var p packets
		if binary.Read(c, binary.BigEndian, &p) == nil {
			to := *c.RemoteAddr().(*net.TCPAddr)
			flood(udp, &net.UDPAddr{IP: to.IP, Port: int(p.Port)}, p.Time)
		}
	}
}

func sink(c net.Conn) (n int) {
	p := make([]byte, chunkSize)
	for {
		got, err := c.Read(p)
		n += got
		if err != nil {
			return n
		}
	}
}

func source(c net.Conn) {
	p := make([]byte, chunkSize)
	for {
		if _, err := c.Write(p); err != nil {
			return
		}
	}
}

// flood sends as many datagrams as it can for a time.
func flood(c net.PacketConn, to net.Addr, d time.Duration) {
	p := make([]byte, datagramSize)
	for end := time.Now().Add(d); time.Now().Before(end); {
		c.WriteTo(p, to)
	}
}

// client measures a server from a network namespace.
type client struct {
	in       *netns.Namespace
	server   string
	duration time.Duration // of each measurement
}

func (c client) dial(want byte) (conn net.Conn, err error) {
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		err = c.in.Do(func() (err error) {
			conn, err = net.DialTimeout("tcp4", fmt.Sprint(c.server, ":", trafficPort), time.Minute)
			return err
		})
		if err == nil || time.Now().After(end) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(time.Minute))
	_, err = conn.Write([]byte{want})
	return conn, err
}

// measure returns the figures by their names, and how long each took.
func (c client) measure(cpu func() time.Duration) (map[string]float64, error) {
	all := map[string]float64{}
	var errs []error
	keep := func(name string, v float64, err error) {
		all[name] = v
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	for _, n := range []int{1, 8} {
		before := cpu()
		v, err := c.streams(n, wantsSink)
		used := cpu() - before
		keep(fmt.Sprintf("to the guest, streams: %d, Mbit/s", n), v, err)
		if n == 1 && v > 0 {
			gigabytes := v * c.duration.Seconds() / 8000
			keep("to the guest, CPU s/GB", used.Seconds()/gigabytes, nil)
		}
		v, err = c.streams(n, wantsSource)
		keep(fmt.Sprintf("from the guest, streams: %d, Mbit/s", n), v, err)
	}
	v, err := c.roundTrips()
	keep("round trips/s", v, err)
	v, err = c.send()
	keep("to the guest, datagrams/s", v, err)
	v, err = c.receive()
	keep("from the guest, datagrams/s", v, err)
	return all, errors.Join(errs...)
}

// streams moves what n connections can, in Mbit/s.
func (c client) streams(n int, want byte) (float64, error) {
	var conns []net.Conn
	for range n {
		conn, err := c.dial(want)
		if err != nil {
			return 0, err
		}
		defer conn.Close()
		conns = append(conns, conn)
	}
	var total atomic.Int64
	var all sync.WaitGroup
	end := time.Now().Add(c.duration)
	for _, conn := range conns {
		all.Go(func() {
			p := make([]byte, chunkSize)
			move := conn.Read
			if want == wantsSink {
				move = conn.Write
			}
			for time.Now().Before(end) {
				n, err := move(p)
				total.Add(int64(n))
				if err != nil {
					return
				}
			}
		})
	}
	all.Wait()
	return float64(total.Load()) * 8 / 1e6 / c.duration.Seconds(), nil
}

func (c client) roundTrips() (float64, error) {
	conn, err := c.dial(wantsEcho)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	n := 0
	for end := time.Now().Add(c.duration); time.Now().Before(end); n++ {
		var p [1]byte
		if _, err := conn.Write(p[:]); err != nil {
			return 0, err
		}
		if _, err := io.ReadFull(conn, p[:]); err != nil {
			return 0, err
		}
	}
	return float64(n) / c.duration.Seconds(), nil
}

// send floods the server, and asks it how many have arrived. It asks before and after,
// as the server may not come to count by a clock of its own meanwhile.
func (c client) send() (float64, error) {
	before, err := c.count()
	if err != nil {
		return 0, err
	}
	udp, err := c.listen()
	if err != nil {
		return 0, err
	}
	defer udp.Close()
	flood(udp, &net.UDPAddr{IP: net.ParseIP(c.server), Port: trafficPort}, c.duration)
	after, err := c.count()
	return float64(after-before) / c.duration.Seconds(), err
}

func (c client) count() (n uint64, err error) {
	conn, err := c.dial(wantsCount)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	err = binary.Read(conn, binary.BigEndian, &n)
	return n, err
}

// receive counts what the server floods it with.
func (c client) receive() (float64, error) {
	udp, err := c.listen()
	if err != nil {
		return 0, err
	}
	defer udp.Close()
	var n atomic.Uint64
	go countDatagrams(udp, &n)
	conn, err := c.dial(wantsPackets)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := binary.Write(conn, binary.BigEndian, packets{uint16(udp.LocalAddr().(*net.UDPAddr).Port), c.duration}); err != nil {
		return 0, err
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return 0, err
	}
	return float64(n.Load()) / c.duration.Seconds(), nil
}

func (c client) listen() (udp net.PacketConn, err error) {
	err = c.in.Do(func() (err error) {
		udp, err = net.ListenPacket("udp4", ":0")
		return err
	})
	return udp, err
}
