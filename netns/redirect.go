package netns

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// redirectTCX attaches a BPF program to each of both interfaces' ingress.
func redirectTCX(a, b int) (cut func() error, err error) {
	there, err := attachTCX(a, b)
	if err != nil {
		return nil, err
	}
	back, err := attachTCX(b, a)
	if err != nil {
		return nil, errors.Join(err, there.Close())
	}
	return func() error { return errors.Join(there.Close(), back.Close()) }, nil
}

func attachTCX(from, to int) (link.Link, error) {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "microvm", Type: ebpf.SchedCLS, License: "Apache-2.0",
		Instructions: asm.Instructions{
			asm.Mov.Imm(asm.R1, int32(to)),
			asm.Mov.Imm(asm.R2, 0),
			asm.FnRedirect.Call(),
			asm.Return(),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("load BPF program: %w", err)
	}
	defer program.Close() // the link holds it
	return link.AttachTCX(link.TCXOptions{Interface: from, Program: program, Attach: ebpf.AttachTCXIngress})
}

// redirectTC gives each of both interfaces an ingress queue with one filter.
func redirectTC(a, b int) (cut func() error, err error) {
	if err := addFilter(a, b); err != nil {
		return nil, err
	}
	if err := addFilter(b, a); err != nil {
		return nil, errors.Join(err, removeIngress(a))
	}
	// The tap takes its own queue with it.
	return func() error { return removeIngress(a) }, nil
}

func addFilter(from, to int) error {
	// One that a killed monitor has left redirects to nothing.
	_ = removeIngress(from)
	if err := netlink.QdiscAdd(ingress(from)); err != nil {
		return fmt.Errorf("add ingress queue: %w", err)
	}
	err := netlink.FilterAdd(&netlink.U32{ // it matches all
		FilterAttrs: netlink.FilterAttrs{LinkIndex: from, Parent: ingressHandle, Priority: 1, Protocol: unix.ETH_P_ALL},
		Actions:     []netlink.Action{netlink.NewMirredAction(to)},
	})
	if err != nil {
		return errors.Join(fmt.Errorf("add filter: %w", err), removeIngress(from))
	}
	return nil
}

// ingressHandle is ffff:0.
const ingressHandle = 0xffff << 16

func ingress(index int) *netlink.Ingress {
	return &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: ingressHandle, Parent: netlink.HANDLE_INGRESS}}
}

// removeIngress forgives an interface that is gone.
func removeIngress(index int) error {
	err := netlink.QdiscDel(ingress(index))
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}
