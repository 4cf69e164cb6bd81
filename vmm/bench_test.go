package vmm

import (
	"testing"

	"github.com/microvm/microvm/vmm/boot/boottest"
	"github.com/microvm/microvm/vmm/kvm/kvmtest"
	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/rng"
)

// BenchmarkNew is what the host does before the guest's first instruction.
func BenchmarkNew(b *testing.B) {
	system, kernel, initramfs := kvmtest.Require(b), boottest.Kernel(b), boottest.Initramfs(b)
	for b.Loop() {
		vm, err := New(Config{
			KVM: system, CPUs: 2, Memory: 256 << 20, Kernel: kernel, Initramfs: initramfs,
			Console: new(Console), Devices: []virtio.Device{rng.New(), rng.New()},
		})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		vm.Close()
		b.StartTimer()
	}
}
