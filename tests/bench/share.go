package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// sharers serve a directory to a guest of QEMU, but for the last, which is the
// directory itself.
var sharers = []struct {
	name  string
	serve func(bin, socket, dir string) (*exec.Cmd, error)
}{
	{"microvm", serveOurs},
	{"virtiofsd", serveVirtiofsd},
	{"native", nil},
}

// measureFiles measures each contender in turn, rounds times.
func (b *bench) measureFiles(r *report) error {
	r.Files = map[string]map[string][]float64{}
	for i := range b.fileRounds {
		for _, s := range sharers {
			fmt.Fprintf(os.Stderr, "file round %d of %d: %s\n", i+1, b.fileRounds, s.name)
			figures, err := b.measureSharer(s.serve)
			if err != nil {
				return fmt.Errorf("files, %s: %w", s.name, err)
			}
			if r.Files[s.name] == nil {
				r.Files[s.name] = map[string][]float64{}
			}
			for k, v := range figures {
				r.Files[s.name][k] = append(r.Files[s.name][k], v)
			}
		}
	}
	return nil
}

func (b *bench) measureSharer(serve func(bin, socket, dir string) (*exec.Cmd, error)) (map[string]float64, error) {
	dir, err := os.MkdirTemp("", "bench-files-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	shared := filepath.Join(dir, "shared")
	if err := os.Mkdir(shared, 0o755); err != nil {
		return nil, err
	}
	if serve == nil {
		return useFiles(shared, fileOptions{files: b.smallFiles})
	}
	var out bytes.Buffer
	cpu, took, err := b.bootWithShare(dir, shared, serve, &out)
	if err != nil {
		return nil, err
	}
	var figures map[string]float64
	_, last, _ := bytes.Cut(out.Bytes(), []byte(guestIsUp))
	if err := json.Unmarshal(last, &figures); err != nil {
		return nil, fmt.Errorf("read figures: %w: %q", err, out.Bytes())
	}
	figures[serverRow] = cpu.Seconds()
	figures[serverMemoryRow], figures[serverDescriptorsRow] = float64(took.kib)/1024, float64(took.descriptors)
	return figures, nil
}

// serverRow is the processor time of the server for all of it.
const serverRow = "CPU of the server, s"

// bootWithShare boots a QEMU whose init is this program, which measures what
// the server shares, and takes what it prints. It
// returns the processor time of the server and what else it took.
func (b *bench) bootWithShare(dir, shared string, serve func(bin, socket, dir string) (*exec.Cmd, error), out *bytes.Buffer) (cpu time.Duration, took appetite, err error) {
	socket := filepath.Join(dir, "fs.sock")
	server, err := serve(b.bin, socket, shared)
	if err != nil {
		return 0, took, err
	}
	var log bytes.Buffer
	server.Stderr = &log
	if err := server.Start(); err != nil {
		return 0, took, err
	}
	stop := watchAppetite(server.Process.Pid)
	err = b.bootFilesGuest(dir, socket, out)
	took = stop()
	// It ends with QEMU's connection.
	timer := time.AfterFunc(10*time.Second, func() { _ = server.Process.Kill() })
	defer timer.Stop()
	if werr := server.Wait(); werr != nil {
		err = errors.Join(err, fmt.Errorf("server: %w: %s", werr, log.Bytes()))
	}
	return server.ProcessState.UserTime() + server.ProcessState.SystemTime(), took, err
}

func (b *bench) bootFilesGuest(dir, socket string, out *bytes.Buffer) error {
	initramfs := filepath.Join(dir, "initramfs")
	if err := writeInitramfs(initramfs); err != nil {
		return err
	}
	for range 1000 {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute+time.Duration(b.smallFiles)*200*time.Millisecond)
	defer cancel()
	args := append(b.guestArgs(initramfs, fmt.Sprintf("%s=%d", smallFilesVariable, b.smallFiles)),
		"-chardev", "stdio,id=console",
		"-chardev", "socket,id=fs,path="+socket, "-device", "vhost-user-fs-device,chardev=fs,queue-size=1024,tag="+filesTag)
	qemu := exec.CommandContext(ctx, qemuProgram, args...)
	qemu.Stdout, qemu.Stderr = out, os.Stderr
	var status *exec.ExitError
	if err := qemu.Run(); err != nil && !(errors.As(err, &status) && status.ExitCode() == 1) { // what the exit port makes of 0
		return fmt.Errorf("qemu: %w: %s", err, out.Bytes())
	}
	return nil
}

func serveOurs(bin, socket, dir string) (*exec.Cmd, error) {
	return exec.Command(filepath.Join(bin, "microvm-vmm"), "fs", "--socket", socket, "--shared-dir", dir, "--cache", "auto"), nil
}

func serveVirtiofsd(_, socket, dir string) (*exec.Cmd, error) {
	daemon, err := virtiofsd()
	return exec.Command(daemon, virtiofsdArgs(daemon, socket, dir)...), err
}

// filesTag is the name that the guest mounts.
const filesTag = "files"

// forgetShare makes the guest's kernel forget what it knows of the share but for the
// mount itself.
func forgetShare() error {
	unix.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0o200)
}

// guestFiles measures the share in the guest.
func guestFiles() error {
	if err := errors.Join(os.MkdirAll("/files", 0o755), unix.Mount(filesTag, "/files", "virtiofs", 0, "")); err != nil {
		return err
	}
	files, err := strconv.Atoi(os.Getenv(smallFilesVariable))
	if err != nil {
		return fmt.Errorf("kernel command line: %w", err)
	}
	figures, err := useFiles("/files", fileOptions{files, forgetShare})
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(figures); err != nil {
		return err
	}
	return leaveGuest()
}

// fileRows are in the order of the table.
func fileRows() (rows []string) {
	for _, what := range []string{"read, warm", "read, cold", "random read, cold", "write", "random write"} {
		for _, b := range blockSizes {
			for _, jobs := range jobCounts {
				rows = append(rows, fileRow(what, b.name, jobs))
			}
		}
	}
	rows = append(rows, smallRows()...)
	return append(rows, untarRow, statusWarmRow, statusColdRow, serverRow, serverMemoryRow, serverDescriptorsRow)
}

func (r *report) printFiles(w *tabwriter.Writer) {
	if r.Files == nil {
		return
	}
	fmt.Fprintln(w, "files\tmicrovm-vmm fs\tvirtiofsd\tratio\tnative")
	for _, row := range fileRows() {
		ours, theirs := median(r.Files["microvm"][row]), median(r.Files["virtiofsd"][row])
		native := ""
		if v, ok := r.Files["native"][row]; ok {
			native = fmt.Sprintf("%.4g", median(v))
		}
		fmt.Fprintf(w, "%s\t%.4g\t%.4g\t%.2f\t%s\n", row, ours, theirs, ours/theirs, native)
	}
}
