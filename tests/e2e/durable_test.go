package e2e

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/microvm/microvm/tests/command"
	"github.com/microvm/microvm/tests/inventory"
)

// page is what a mapped record takes, and maxRecords how many there are.
const (
	page       = 4096
	maxRecords = 1 << 14
)

// ledgers are the ways to keep records: each opens dir and returns what stores record
// n so that it is lost no more.
var ledgers = map[string]func(dir string) (store func(n int) error, err error){
	"appended": func(dir string) (func(int) error, error) {
		f, err := os.OpenFile(dir+"/appended", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		return func(n int) error {
			_, err := f.Write(binary.LittleEndian.AppendUint64(nil, uint64(n)))
			return errors.Join(err, unix.Fdatasync(int(f.Fd())))
		}, err
	},
	"mapped": func(dir string) (func(int) error, error) {
		f, err := os.OpenFile(dir+"/mapped", os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, err
		}
		if err := f.Truncate(page * maxRecords); err != nil {
			return nil, err
		}
		m, err := unix.Mmap(int(f.Fd()), 0, page*maxRecords, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		return func(n int) error {
			record := m[n*page:][:page]
			binary.LittleEndian.PutUint64(record, uint64(n))
			return unix.Msync(record, unix.MS_SYNC)
		}, err
	},
	"renamed": func(dir string) (func(int) error, error) {
		d, err := os.Open(dir)
		return func(n int) error {
			f, err := os.Create(dir + "/new")
			if err != nil {
				return err
			}
			_, err = f.Write(binary.LittleEndian.AppendUint64(nil, uint64(n)))
			return errors.Join(err, f.Sync(), f.Close(), os.Rename(dir+"/new", dir+"/renamed"), d.Sync())
		}, err
	},
}

// keepLedgers stores records in dir in every way at once, and says of each that it
// is stored.
func keepLedgers(dir string) error {
	failed := make(chan error)
	for kind, open := range ledgers {
		store, err := open(dir)
		if err != nil {
			return err
		}
		go func() {
			for n := 1; n < maxRecords; n++ {
				if err := store(n); err != nil {
					failed <- fmt.Errorf("%s: %w", kind, err)
				}
				fmt.Println(kind, n)
			}
		}()
	}
	return <-failed
}

// killMachine kills the VM process of the container with the given pid, which ends then.
func killMachine(t *testing.T, pid int) {
	t.Helper()
	found := inventory.ProcessesOf(pid, "microvm-vmm")
	if len(found) != 1 {
		t.Fatal(found)
	}
	if err := unix.Kill(found[0], unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitPid(t, pid)
}

// TestNothingSyncedIsLost kills the machine of a container amidst of its writing.
func TestNothingSyncedIsLost(t *testing.T) {
	s := newSite(t)
	dir := t.TempDir()
	_, pid, stdout := s.detached(s.withProgram(s.bundle([]string{programName, "ledgers", "/data"}, func(spec *specs.Spec) {
		spec.Mounts = append(spec.Mounts, bind(dir, "/data"))
	})))
	last := func(kind string) (n int) {
		out, err := os.ReadFile(stdout)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.SplitAfter(string(out), "\n") {
			if rest, ok := strings.CutPrefix(line, kind+" "); ok && strings.HasSuffix(rest, "\n") {
				fmt.Sscan(rest, &n)
			}
		}
		return n
	}
	for kind := range ledgers {
		command.Eventually(t, "some records are "+kind, func() bool { return last(kind) >= 20 })
	}
	killMachine(t, pid)
	read := func(kind string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, kind))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	appended, mapped, renamed := read("appended"), read("mapped"), read("renamed")
	for n := 1; n <= last("appended"); n++ {
		want := binary.LittleEndian.AppendUint64(nil, uint64(n))
		if at := 8 * (n - 1); len(appended) < at+8 || !bytes.Equal(appended[at:at+8], want) {
			t.Fatalf("record %d is not what was appended, of %d", n, last("appended"))
		}
	}
	for n := 1; n <= last("mapped"); n++ {
		if got := binary.LittleEndian.Uint64(mapped[n*page:]); got != uint64(n) {
			t.Fatalf("record %d of the mapping is %d, of %d", n, got, last("mapped"))
		}
	}
	if got := binary.LittleEndian.Uint64(renamed); got < uint64(last("renamed")) {
		t.Errorf("record %d was renamed, %d is there", last("renamed"), got)
	}
	t.Logf("appended %d, mapped %d, renamed %d", last("appended"), last("mapped"), last("renamed"))
}
