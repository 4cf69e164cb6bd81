package boot

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/microvm/microvm/vmm/guestmem"
	"github.com/microvm/microvm/vmm/x86"
)

// ErrMemory is wrapped when the guest's memory is too small for what it is to
// start with.
var ErrMemory = errors.New("not enough guest memory")

// pageSize aligns the initramfs.
const pageSize = 4096

// Image is a readable file and its size in bytes.
type Image struct {
	io.ReaderAt
	Size int64
}

// Params is what a kernel is started with.
type Params struct {
	// Cmdline is its command line.
	Cmdline string
	// Initramfs may have size 0: there is none then.
	Initramfs Image
	// RAM is the guest's memory, in ascending order from address 0.
	RAM []guestmem.Range
}

// Place writes the initramfs and the start information for k into mem, and
// returns how to enter k.
func Place(mem *guestmem.Memory, k Kernel, p Params) (x86.Entry, error) {
	if err := writeCmdline(mem, p.Cmdline); err != nil {
		return x86.Entry{}, err
	}
	initramfs, err := placeInitramfs(mem, k, p)
	if err != nil {
		return x86.Entry{}, err
	}
	e := x86.Entry{RIP: k.Entry, PVH: k.PVH, Info: x86.ZeroPageAddr}
	info := zeroPage(initramfs, p)
	if k.PVH {
		e.Info = x86.StartInfoAddr
		info = startInfo(initramfs, p)
	}
	if err := mem.WriteAt(info, e.Info); err != nil {
		return x86.Entry{}, fmt.Errorf("write start information: %w", err)
	}
	return e, nil
}

func writeCmdline(mem *guestmem.Memory, cmdline string) error {
	// Linux itself cuts a command line off at 2048 bytes (COMMAND_LINE_SIZE).
	const linuxMax = 2048
	if len(cmdline) >= linuxMax || strings.ContainsAny(cmdline, "\x00\n") {
		return fmt.Errorf("write kernel command line: %d bytes, want fewer than %d without NUL and newline", len(cmdline), linuxMax)
	}
	if err := mem.WriteAt(append([]byte(cmdline), 0), x86.CmdlineAddr); err != nil {
		return fmt.Errorf("write kernel command line: %w", err)
	}
	return nil
}

// placeInitramfs reads the initramfs to the end of the memory below 4 GiB, out
// of the way of the kernel that unpacks it.
func placeInitramfs(mem *guestmem.Memory, k Kernel, p Params) (guestmem.Range, error) {
	if p.Initramfs.Size == 0 {
		return guestmem.Range{}, nil
	}
	size, low := uint64(p.Initramfs.Size), p.RAM[0].Base+p.RAM[0].Size
	if p.Initramfs.Size < 0 || size > low || (low-size)&^(pageSize-1) < k.End {
		return guestmem.Range{}, fmt.Errorf("%w: initramfs of %d MiB beside a kernel that ends at %d MiB of %d",
			ErrMemory, size>>20, k.End>>20, low>>20)
	}
	r := guestmem.Range{Base: (low - size) &^ (pageSize - 1), Size: size}
	dst, err := mem.Slice(r.Base, r.Size)
	if err != nil {
		return guestmem.Range{}, fmt.Errorf("place initramfs: %w", err)
	}
	if err := readFull(p.Initramfs, dst, 0); err != nil {
		return guestmem.Range{}, fmt.Errorf("read initramfs: %w", err)
	}
	return r, nil
}
