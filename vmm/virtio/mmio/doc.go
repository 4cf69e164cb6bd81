// Package mmio is the virtio-mmio transport, version 2 (virtio 1.2, section
// 4.2): it negotiates with a driver through a page of registers and activates
// any virtio.Device with the rings that result.
//
// The driver is the guest and may write anything in any order, from any vCPU.
// What the specification forbids is refused: the write has no effect and is
// counted, and where the rings can't be trusted any more the device says
// DEVICE_NEEDS_RESET.
//
// Locks: Transport.mu is held during register accesses and across the device's
// Activate and Reset. Transport.faultMu is below it: a device's goroutine may
// report a fault while Reset waits for that goroutine.
package mmio
