package netns

import (
	"encoding/binary"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Keys of the map of listeners.
const (
	keyV4 uint32 = iota
	keyV6
	families
)

// Offsets in struct bpf_sk_lookup (linux/bpf.h).
const (
	lookupFamily     = 8
	lookupProtocol   = 12
	lookupRemotePort = 36 // of the network's byte order
	lookupLocalV4    = 40 // of the network's byte order
)

// pass is SK_PASS.
const pass = 1

// catch has the kernel give connections to the calling thread's namespace to the
// listeners in sockets, unless they come from a port in spared. The
// kernel asks before it looks for a listener of the namespace itself.
func catch(sockets, spared *ebpf.Map) (link.Link, error) {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "microvm", Type: ebpf.SkLookup, AttachType: ebpf.AttachSkLookup, License: "Apache-2.0",
		Instructions: lookup(sockets.FD(), spared.FD()),
	})
	if err != nil {
		return nil, fmt.Errorf("load BPF program: %w", err)
	}
	defer program.Close() // the link holds it
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer here.Close()
	attached, err := link.AttachNetNs(int(here.Fd()), program)
	if err != nil {
		return nil, err // and no link.Link, which a nil pointer would be
	}
	return attached, nil
}

func lookup(sockets, spared int) asm.Instructions {
	context, key := asm.R6, int16(-4)
	return asm.Instructions{
		asm.Mov.Reg(context, asm.R1),
		asm.LoadMem(asm.R2, context, lookupProtocol, asm.Word),
		asm.JNE.Imm(asm.R2, unix.IPPROTO_TCP, "pass"),

		asm.LoadMem(asm.R2, context, lookupRemotePort, asm.Half),
		asm.StoreMem(asm.RFP, key, asm.R2, asm.Word),
		asm.LoadMapPtr(asm.R1, spared),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, int32(key)),
		asm.FnMapLookupElem.Call(),
		asm.JNE.Imm(asm.R0, 0, "pass"),

		asm.StoreImm(asm.RFP, key, int64(keyV6), asm.Word),
		asm.LoadMem(asm.R2, context, lookupFamily, asm.Word),
		asm.JNE.Imm(asm.R2, unix.AF_INET, "assign"),
		asm.StoreImm(asm.RFP, key, int64(keyV4), asm.Word),
		asm.LoadMem(asm.R2, context, lookupLocalV4, asm.Word),
		asm.JEq.Imm(asm.R2, int32(binary.NativeEndian.Uint32([]byte{127, 0, 0, 1})), "assign"),
		asm.And.Imm(asm.R2, int32(binary.NativeEndian.Uint32([]byte{255, 0, 0, 0}))),
		asm.JEq.Imm(asm.R2, int32(binary.NativeEndian.Uint32([]byte{127, 0, 0, 0})), "pass"),

		asm.LoadMapPtr(asm.R1, sockets).WithSymbol("assign"),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, int32(key)),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "pass"),
		asm.Mov.Reg(asm.R7, asm.R0),
		asm.Mov.Reg(asm.R1, context),
		asm.Mov.Reg(asm.R2, asm.R7),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnSkAssign.Call(),
		asm.Mov.Reg(asm.R1, asm.R7),
		asm.FnSkRelease.Call(),

		asm.Mov.Imm(asm.R0, pass).WithSymbol("pass"),
		asm.Return(),
	}
}

// spareKey is the key of a local address in the map of spared ports: the port
// as lookup reads it.
func spareKey(local unix.Sockaddr) uint32 {
	port := 0
	switch a := local.(type) {
	case *unix.SockaddrInet4:
		port = a.Port
	case *unix.SockaddrInet6:
		port = a.Port
	}
	var p [2]byte
	binary.BigEndian.PutUint16(p[:], uint16(port))
	return uint32(binary.NativeEndian.Uint16(p[:]))
}
