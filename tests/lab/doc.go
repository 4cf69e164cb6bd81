// Package lab runs commands where /dev/kvm is true hardware virtualisation, on
// any x86-64 Linux host.
//
// On a host whose CPU offers vmx or svm and whose /dev/kvm opens, a command just
// runs there. Elsewhere the lab boots Debian's cloud kernel under QEMU's TCG,
// which emulates AMD's SVM, so that kvm-amd works inside:
//
//	host                                    guest
//	lab ── virtio-serial "lab.control" ──── /init (package guest, PID 1)
//	    ── virtio-serial "lab.input"  ──┘     │ runs the command
//	    ── console ─────────────────────── kernel messages
//	virtiofsd / (read-only)   ── virtiofs ─┐
//	tap (if asked for)        ── virtio-net ─ eth0
//	scratch disk (unlinked)   ── ext4 ─────┴ overlay = the guest's /
//	virtiofsd OUTPUT          ── virtiofs ── /lab/out
//
// The guest thus has every program and file of the host at its usual path, and
// writes to none of them. The lab's own program is the guest's init.
//
// Nothing outlives the lab: sockets are unnamed or abstract, the initramfs is a
// memfd, the disk an unlinked file, the tap one that the kernel removes, and QEMU and
// virtiofsd die with the process that started them.
package lab
