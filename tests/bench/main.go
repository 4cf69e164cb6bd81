// Command bench measures microvm against QEMU's microvm machine with its
// virtiofsd, side by side in one run: the same kernel, initramfs, root file
// system and command. Their networks are measured against each other, and
// against no machine at all: a veth pair here and there, a tap for QEMU. So are
// their files. It prints a table and writes JSON.
//
// The machines that this runs on are noisy, and in the lab everything is
// emulated: only the ratios mean something.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"text/tabwriter"
	"time"
)

func main() {
	if inGuest() {
		fmt.Fprintln(os.Stderr, "bench:", beInit())
		os.Exit(1)
	}
	var b bench
	out := flag.String("json", "", "also write the results to this file")
	flag.StringVar(&b.bin, "bin", "bin", "directory of the binaries")
	flag.IntVar(&b.rounds, "rounds", 7, "starts of each, in turn")
	flag.IntVar(&b.networkRounds, "network-rounds", 3, "measurements of each's network, in turn")
	flag.DurationVar(&b.networkTime, "network-time", 2*time.Second, "how long each row of the network is measured")
	flag.IntVar(&b.fileRounds, "file-rounds", 1, "measurements of each's files, in turn")
	flag.IntVar(&b.smallFiles, "small-files", 300, "small files to make, list, rename and so on")
	flag.IntVar(&b.jailRounds, "jail-rounds", 3, "measurements with the jail and without, in turn")
	flag.StringVar(&b.accel, "accel", "kvm", "the accelerator for the measurements of networks, files and the jail: kvm or tcg")
	serve := flag.Bool("serve", false, "serve the network's measurements; used in the guest")
	flag.Parse()
	if *serve {
		fmt.Fprintln(os.Stderr, "bench:", serveTraffic())
		os.Exit(1)
	}
	if b.accel == "tcg" {
		machine = "software"
	}
	if err := b.run(*out); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type bench struct {
	bin           string
	rounds        int
	networkRounds int
	networkTime   time.Duration
	fileRounds    int
	smallFiles    int
	jailRounds    int
	accel         string
}

// report is the result; durations are milliseconds, memory is KiB.
type report struct {
	StartMicrovm []float64            `json:"startToFirstByteMicrovm"`
	StartQEMU    []float64            `json:"startToFirstByteQEMU"`
	Stages       map[string][]float64 `json:"stagesMicrovm"`
	StagesQEMU   map[string][]float64 `json:"stagesQEMU"`
	Exec         []float64            `json:"execRoundTrip"`
	VMMMemory    int                  `json:"vmProcessPrivateKiB"`
	QEMUMemory   int                  `json:"qemuAndVirtiofsdPrivateKiB"`
	Ratio        float64              `json:"startRatio"`
	ExecRatio    float64              `json:"execToStartRatio"`
	// Network has figures by contender and row.
	Network map[string]map[string][]float64 `json:"network,omitempty"`
	// Files likewise.
	Files map[string]map[string][]float64 `json:"files,omitempty"`
	// Jail likewise, of ourselves with it and without.
	Jail map[string]map[string][]float64 `json:"jail,omitempty"`
}

func (b *bench) run(out string) error {
	r := report{Stages: map[string][]float64{}, StagesQEMU: map[string][]float64{}}
	if b.rounds > 0 {
		if err := b.measureStarts(&r); err != nil {
			return err
		}
	}
	if b.networkRounds > 0 {
		if err := b.measureNetwork(&r); err != nil {
			return err
		}
	}
	if b.fileRounds > 0 {
		if err := b.measureFiles(&r); err != nil {
			return err
		}
	}
	if b.jailRounds > 0 {
		if err := b.measureJail(&r); err != nil {
			return err
		}
	}
	r.print()
	return r.write(out)
}

// measureStarts measures starts, memory and exec.
func (b *bench) measureStarts(r *report) error {
	bundle, err := makeBundle(b.bin)
	if err != nil {
		return err
	}
	defer bundle.remove()
	// One round of each first, unmeasured: it fills the page cache.
	for i := range b.rounds + 1 {
		fmt.Fprintf(os.Stderr, "round %d of %d\n", i, b.rounds)
		if err := b.round(r, bundle, i > 0); err != nil {
			return err
		}
	}
	if err := b.measureExec(r, bundle); err != nil {
		return err
	}
	r.Ratio = median(r.StartMicrovm) / median(r.StartQEMU)
	r.ExecRatio = median(r.Exec) / median(r.StartMicrovm)
	return nil
}

func (b *bench) round(r *report, bundle *bundle, count bool) error {
	ours, err := startMicrovm(b.bin, bundle)
	if err != nil {
		return fmt.Errorf("microvm: %w", err)
	}
	peer, err := startQEMU(b.bin, bundle)
	if err != nil {
		return fmt.Errorf("qemu: %w", err)
	}
	if !count {
		return nil
	}
	r.StartMicrovm = append(r.StartMicrovm, ours.firstByte)
	r.StartQEMU = append(r.StartQEMU, peer.firstByte)
	for k, v := range ours.stages {
		r.Stages[k] = append(r.Stages[k], v)
	}
	for k, v := range peer.stages {
		r.StagesQEMU[k] = append(r.StagesQEMU[k], v)
	}
	r.QEMUMemory = peer.memory
	return nil
}

// start is one measured start: milliseconds since the command, private memory
// in KiB.
type start struct {
	firstByte float64
	stages    map[string]float64
	memory    int
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

func (r *report) print() {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	defer w.Flush()
	defer r.printJail(w)
	defer r.printFiles(w)
	defer r.printNetwork(w)
	if r.StartMicrovm == nil {
		return
	}
	fmt.Fprintln(w, "median\tmicrovm\tqemu -M microvm\tratio\tgoal")
	fmt.Fprintf(w, "start to first byte\t%.0f ms\t%.0f ms\t%.2f\tat most 0.60\n", median(r.StartMicrovm), median(r.StartQEMU), r.Ratio)
	for _, s := range sortedStages(r.Stages) {
		fmt.Fprintf(w, "  %s\t%.0f ms\t\t\t\n", s, median(r.Stages[s]))
	}
	for _, s := range sortedStages(r.StagesQEMU) {
		fmt.Fprintf(w, "  %s\t\t%.0f ms\t\t\n", s, median(r.StagesQEMU[s]))
	}
	fmt.Fprintf(w, "exec round trip\t%.0f ms\t\t%.2f of a start\tunder 0.10\n", median(r.Exec), r.ExecRatio)
	fmt.Fprintf(w, "VM process, private\t%.1f MiB\t%.1f MiB\t%.2f\tat most 12 MiB\n", float64(r.VMMMemory)/1024, float64(r.QEMUMemory)/1024, float64(r.VMMMemory)/float64(max(r.QEMUMemory, 1)))
}

func sortedStages(m map[string][]float64) []string {
	var names []string
	for k := range m {
		names = append(names, k)
	}
	slices.SortFunc(names, func(a, b string) int {
		if median(m[a]) < median(m[b]) {
			return -1
		}
		return 1
	})
	return names
}

func (r *report) write(path string) error {
	if path == "" {
		return nil
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}
