package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

func since(t time.Time) float64 { return float64(time.Since(t).Microseconds()) / 1000 }

// machine is that of microvm-runtime.
var machine = "kvm"

// runtime makes a call of microvm-runtime with its state in the bundle.
func runtime(bin string, b *bundle, args ...string) *exec.Cmd {
	args = append([]string{"--machine", machine, "--root", filepath.Join(b.dir, "state")}, args...)
	return exec.Command(filepath.Join(bin, "microvm-runtime"), args...)
}

// startMicrovm runs the bundle and takes the time to the first byte of its
// output.
func startMicrovm(bin string, b *bundle) (*start, error) {
	timeline := filepath.Join(b.dir, "timeline.json")
	cmd := runtime(bin, b, "run", "--bundle", b.dir, "--timeline", timeline, "bench")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var first [1]byte
	_, err = io.ReadFull(stdout, first[:])
	s := &start{firstByte: since(begin)}
	_, _ = io.Copy(io.Discard, stdout)
	if werr := cmd.Wait(); err != nil || werr != nil {
		return nil, fmt.Errorf("%w: %s", errors.Join(err, werr), stderr.String())
	}
	s.stages, err = readTimeline(timeline)
	return s, err
}

func readTimeline(path string) (map[string]float64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var t struct {
		Stages []struct {
			Name string  `json:"name"`
			Ms   float64 `json:"ms"`
		} `json:"stages"`
	}
	if err := json.Unmarshal(data, &t); err != nil {
		return nil, fmt.Errorf("read timeline: %w", err)
	}
	stages := map[string]float64{}
	for _, s := range t.Stages {
		stages[s.Name] = s.Ms
	}
	return stages, nil
}

// measureExec takes the time of `exec` of a program that does nothing, and the
// memory of the VM process behind it.
func (b *bench) measureExec(r *report, bundle *bundle) error {
	if err := bundle.edit([]string{"/bin/busybox", "sleep", "1000"}); err != nil {
		return err
	}
	if out, err := runToFile(runtime(b.bin, bundle, "run", "--detach", "--bundle", bundle.dir, "bench-exec"), bundle); err != nil {
		return fmt.Errorf("run: %w: %s", err, out)
	}
	defer func() { _ = runtime(b.bin, bundle, "delete", "--force", "bench-exec").Run() }()
	for i := range 4 * b.rounds {
		begin := time.Now()
		if out, err := runtime(b.bin, bundle, "exec", "bench-exec", "/bin/busybox", "true").CombinedOutput(); err != nil {
			return fmt.Errorf("exec: %w: %s", err, out)
		}
		if i > 0 {
			r.Exec = append(r.Exec, since(begin))
		}
	}
	pids, err := processesNamed("microvm-vmm")
	if err != nil || len(pids) != 1 {
		return fmt.Errorf("find the VM process: %v %w", pids, err)
	}
	r.VMMMemory, err = privateKiB(pids[0])
	return err
}

// runToFile runs cmd with its output in a file: a detached container keeps its
// streams open.
func runToFile(cmd *exec.Cmd, b *bundle) (string, error) {
	path := filepath.Join(b.dir, "output")
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	cmd.Stdout, cmd.Stderr = f, f
	err = cmd.Run()
	data, _ := os.ReadFile(path)
	return string(data), err
}
