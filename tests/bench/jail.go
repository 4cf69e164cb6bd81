package main

import (
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/microvm/microvm/runtime/state"
)

// unjailed is the directory, below that of the binaries, of those that were built
// without a jail.
const unjailed = "unjailed"

// What the jail is measured by, besides the rows of files and networks.
const (
	firstInstructionRow = "start to the guest's first instruction, ms"
	firstByteRow        = "start to the first byte of output, ms"
	jailMemoryRow       = "VM process, private, KiB"
)

// measureJail measures starts, memory, files and the network with the jail and
// without it, in turn.
func (b *bench) measureJail(r *report) error {
	bins := map[string]string{"with": b.bin, "without": filepath.Join(b.bin, unjailed)}
	r.Jail = map[string]map[string][]float64{"with": {}, "without": {}}
	for i := range b.jailRounds + 1 { // one first, unmeasured
		for _, how := range []string{"with", "without"} {
			fmt.Fprintf(os.Stderr, "jail round %d of %d: %s\n", i, b.jailRounds, how)
			one := *b
			one.bin = bins[how]
			figures, err := one.measureOneJail()
			if err != nil {
				return fmt.Errorf("%s the jail: %w", how, err)
			}
			for k, v := range figures {
				if i > 0 {
					r.Jail[how][k] = append(r.Jail[how][k], v)
				}
			}
		}
	}
	return nil
}

func (b *bench) measureOneJail() (map[string]float64, error) {
	figures, err := b.measureSharer(serveOurs)
	if err != nil {
		return nil, fmt.Errorf("files: %w", err)
	}
	if err := b.measureJailedStart(figures); err != nil {
		return nil, err
	}
	bundle, err := trafficBundle(b.bin)
	if err != nil {
		return nil, err
	}
	defer bundle.remove()
	traffic, err := b.measureContender(bundle, ourPrograms, trafficMicrovm)
	if err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	for k, v := range traffic {
		figures[k] = v
	}
	return figures, nil
}

// measureJailedStart also takes the memory of a VM process that has run a little.
func (b *bench) measureJailedStart(figures map[string]float64) error {
	bundle, err := makeBundle(b.bin)
	if err != nil {
		return err
	}
	defer bundle.remove()
	s, err := startMicrovm(b.bin, bundle)
	if err != nil {
		return err
	}
	figures[firstByteRow], figures[firstInstructionRow] = s.firstByte, s.stages[firstInstruction]
	if err := bundle.edit([]string{"/bin/busybox", "sleep", "1000"}); err != nil {
		return err
	}
	if out, err := runToFile(runtime(b.bin, bundle, "run", "--detach", "--bundle", bundle.dir, "bench-jail"), bundle); err != nil {
		return fmt.Errorf("run: %w: %s", err, out)
	}
	defer func() { _ = runtime(b.bin, bundle, "delete", "--force", "bench-jail").Run() }()
	st, err := state.Store{Root: filepath.Join(bundle.dir, "state")}.Load("bench-jail")
	if err != nil {
		return err
	}
	kib, err := privateKiB(st.VM.PID)
	figures[jailMemoryRow] = float64(kib)
	return err
}

// firstInstruction is that stage in the timeline.
const firstInstruction = "vcpus"

func (r *report) printJail(w *tabwriter.Writer) {
	if r.Jail == nil {
		return
	}
	fmt.Fprintln(w, "the jail\twith\twithout\tratio\tdifference\tgoal")
	rows := append([]string{firstInstructionRow, firstByteRow, jailMemoryRow}, append(fileRows(), networkRows...)...)
	for _, row := range rows {
		with, without := median(r.Jail["with"][row]), median(r.Jail["without"][row])
		goal := "0.98 to 1.02"
		if row == firstInstructionRow {
			goal = "under 5 ms"
		}
		fmt.Fprintf(w, "%s\t%.4g\t%.4g\t%.3f\t%.4g\t%s\n", row, with, without, with/without, with-without, goal)
	}
}
