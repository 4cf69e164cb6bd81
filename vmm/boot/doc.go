// Package boot puts a Linux kernel, its initramfs and its start information
// into guest memory, without firmware: an uncompressed vmlinux is entered
// through its PVH note, or at its 64-bit entry if it has none.
//
// Kernel and initramfs come from the user, so their contents are checked
// before they are followed.
package boot
