package net

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/vmm/virtio"
)

// BenchmarkRoundTrip sends a frame to the driver, which answers, one at a time.
// It reports the processor time of both.
func BenchmarkRoundTrip(b *testing.B) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(5)) // as microvm-vmm has it
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	g := newGuest(b, false)
	irq, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(irq)
	rx := g.rx.Activated()
	rx.Interrupt = func() { unix.Write(irq, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }
	for range queueSize / 2 {
		g.rx.Add(nil, 1536)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(fds[1])
	g.attachFD(fds[0])
	g.activateWith(rx)
	frame, p := frame(60), make([]byte, 2048)
	var before, after unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &before)
	b.ResetTimer()
	for range b.N {
		unix.Write(fds[1], frame)
		unix.Read(irq, p[:8])
		if _, _, ok := g.rx.Used(); !ok {
			b.Fatal("no frame")
		}
		g.rx.FreeAll()
		g.rx.Add(nil, 1536)
		g.tx.FreeAll()
		g.tx.Add(append(noHeader[:headerSize:headerSize], frame...), 0)
		g.tx.Kick()
		unix.Read(fds[1], p)
		g.tx.Used()
	}
	b.StopTimer()
	unix.Getrusage(unix.RUSAGE_SELF, &after)
	us := func(r *unix.Rusage) int64 { return r.Utime.Nano() + r.Stime.Nano() }
	b.ReportMetric(float64(us(&after)-us(&before))/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(after.Nvcsw-before.Nvcsw)/float64(b.N), "switches/op")
}

var _ = virtio.Queue{}
