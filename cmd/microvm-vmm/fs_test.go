package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/posixtest"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/vmm/boot/boottest"
	"github.com/microvm/microvm/vmm/kvm/kvmtest"
)

// startShare starts `microvm-vmm fs` and returns it with what it says.
func startShare(t *testing.T, files []*os.File, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	log := new(bytes.Buffer)
	cmd := exec.Command(program(t), append([]string{"fs"}, args...)...)
	cmd.Env = append(os.Environ(), vmmVariable+"=1")
	cmd.ExtraFiles = files
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd, log
}

// TestShareInQEMU mounts the share of `microvm-vmm fs` in a QEMU that knows
// nothing of us, as it would mount virtiofsd's.
func TestShareInQEMU(t *testing.T) {
	if os.Getenv(kvmtest.Environment) == "required" {
		t.Skip("this run is for KVM")
	}
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Skipf("needs QEMU: %v", err)
	}
	kernel := boottest.Kernel(t)
	dir, socket := t.TempDir(), filepath.Join(t.TempDir(), "fs.sock")
	if err := os.WriteFile(filepath.Join(dir, "hello"), []byte("from the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	daemon, log := startShare(t, nil, "--socket", socket, "--shared-dir", dir, "--cache=auto", "--xattr", "--thread-pool-size", "8")
	waitForSocket(t, socket)
	out, err := exec.Command("timeout", "120", qemu, "-M", "microvm,pit=on,pic=on,rtc=on,acpi=off,memory-backend=mem", "-accel", "tcg", "-cpu", "max", "-m", "256M",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-chardev", "stdio,id=console", "-device", "virtio-serial-device,max_ports=1", "-device", "virtconsole,chardev=console",
		"-object", "memory-backend-memfd,id=mem,size=256M,share=on", "-global", "virtio-mmio.force-legacy=false",
		"-chardev", "socket,id=fs,path="+socket, "-device", "vhost-user-fs-device,chardev=fs,tag=share",
		"-device", "isa-debug-exit,iobase=0x501,iosize=1",
		"-kernel", kernel.Name(), "-initrd", boottest.Initramfs(t).Name(),
		"-append", "console=hvc0 quiet reboot=k panic=-1 no_timer_check mitigations=off "+guestVariable+"=share").CombinedOutput()
	text := string(out)
	if !strings.Contains(text, "read from the host") || !strings.Contains(text, "posixtest passed") || strings.Contains(text, "--- FAIL") {
		t.Errorf("guest said (%v):\n%s\nserver said: %s", err, text, log)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "answer")); string(b) != "from the guest" {
		t.Errorf("host reads %q, %v", b, err)
	}
	if err := daemon.Wait(); err != nil { // QEMU has hung up
		t.Errorf("%v: %s", err, log)
	}
	if _, err := os.Lstat(socket); err == nil {
		t.Error("the socket is still there")
	}
}

// guestVariable on the kernel command line says what the guest is to do.
const guestVariable = "MICROVM_GUEST_TEST"

// guestShare is the guest half of TestShareInQEMU.
func guestShare() {
	must(os.MkdirAll("/share", 0o755))
	must(os.MkdirAll("/proc", 0o755))
	must(os.MkdirAll("/tmp", 0o755))
	must(unix.Mount("proc", "/proc", "proc", 0, ""))
	must(unix.Mount("share", "/share", "virtiofs", 0, ""))
	b, err := os.ReadFile("/share/hello")
	fmt.Println("read", string(b), err)
	must(os.WriteFile("/share/answer", []byte("from the guest"), 0o644))
	var tests []testing.InternalTest
	for name, test := range posixtest.All {
		if name == "FcntlFlockLocksFile" {
			continue // wants a process's own lock to be in its way, which POSIX denies
		}
		dir := "/share/" + name
		must(os.Mkdir(dir, 0o755))
		tests = append(tests, testing.InternalTest{Name: name, F: func(t *testing.T) { test(t, dir) }})
	}
	if testing.RunTests(func(string, string) (bool, error) { return true, nil }, tests) {
		fmt.Println("posixtest passed,", len(tests), "tests")
	}
	must(unix.IoctlSetInt(1, unix.TCSBRK, 1))
	outb(0x501, 0)
}

func waitForSocket(t *testing.T, path string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if fi, err := os.Lstat(path); err == nil {
			if mode := fi.Mode().Perm(); mode&0o077 != 0 {
				t.Errorf("socket has mode %v", mode)
			}
			return
		}
	}
	t.Fatal("no socket")
}

func TestShareOptions(t *testing.T) {
	for _, good := range [][]string{
		{"--socket", "s", "--shared-dir", "d"},
		{"--socket-path=s", "--shared-dir=d", "--cache", "never", "--readonly", "--announce-submounts", "--xattr", "--posix-acl"},
		{"--fd", "3", "--shared-dir", "d", "--sandbox", "none", "--log-level", "debug", "--tag", "t", "--cache=always"},
	} {
		if _, err := parseShare(good, io.Discard); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range [][]string{
		{}, {"--socket", "s"}, {"--shared-dir", "d"}, {"--socket", "s", "--fd", "3", "--shared-dir", "d"}, {"--socket", "s", "--shared-dir", "d", "--cache", "metadata"},
		{"--socket", "s", "--shared-dir", "d", "--sandbox", "namespace"}, {"--socket", "s", "--shared-dir", "d", "more"}, {"--fd", "3", "--socket-group", "g", "--shared-dir", "d"},
		{"--socket", "s", "--shared-dir", "d", "--writeback"}, {"--socket", "s", "--shared-dir", "d", "--log-level", "loud"},
	} {
		if _, err := parseShare(bad, io.Discard); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// TestShareListens hands over a listening socket, and replaces the socket of a
// process that is gone.
func TestShareListens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fs.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	handed, log := startShare(t, []*os.File{f}, "--fd", "3", "--shared-dir", "/usr")
	hangUp(t, path)
	if err := handed.Wait(); err != nil {
		t.Errorf("%v: %s", err, log)
	}
	f.Close()
	l.Close()
	named, log := startShare(t, nil, "--socket-path", path, "--shared-dir", "/usr", "--socket-group", "root")
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("unix", path)
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	if err := named.Wait(); err != nil {
		t.Errorf("%v: %s", err, log)
	}
	none, _ := startShare(t, nil, "--socket", path, "--shared-dir", "/usr/none")
	if none.Wait(); none.ProcessState.ExitCode() != exitFault {
		t.Error("shared what is not there:", none.ProcessState)
	}
}

// TestShareIsConfined reads back what a server may do that a VMM has connected to, and
// that its timers are in no hurry.
func TestShareIsConfined(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	path := filepath.Join(t.TempDir(), "fs.sock")
	server, log := startShare(t, nil, "--socket", path, "--shared-dir", "/usr", "--allow-mknod")
	waitForSocket(t, path)
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	field := func(name string) string {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", server.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(status), "\n"+name+":\t")
		value, _, _ := strings.Cut(rest, "\n")
		return value
	}
	for end := time.Now().Add(20 * time.Second); field("Seccomp") != "2"; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no filter: %s", log)
		}
	}
	if field("NoNewPrivs") != "1" {
		t.Error("a program may gain privileges")
	}
	var effective uint64
	if _, err := fmt.Sscanf(field("CapEff"), "%x", &effective); err != nil {
		t.Fatal(err)
	}
	if has := effective&(1<<unix.CAP_MKNOD) != 0; !has || effective&(1<<unix.CAP_SYS_ADMIN|1<<unix.CAP_NET_ADMIN|1<<unix.CAP_SYS_PTRACE|1<<unix.CAP_KILL) != 0 {
		t.Errorf("capabilities %x", effective)
	}
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", server.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		slack, err := os.ReadFile("/proc/" + thread.Name() + "/timerslack_ns")
		if want := fmt.Sprintln(timerSlack.Nanoseconds()); string(slack) != want && !os.IsNotExist(err) { // it may have ended
			t.Errorf("thread %s has %q ns of slack, %v", thread.Name(), slack, err)
		}
	}
	c.Close()
	if err := server.Wait(); err != nil {
		t.Errorf("%v: %s", err, log)
	}
}

// TestShareOfARealTimeClass starts the server where Linux lets no thread have slack.
func TestShareOfARealTimeClass(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "fs.sock")
	server := exec.Command("chrt", "--rr", "1", program(t), "fs", "--socket", socket, "--shared-dir", t.TempDir())
	server.Env = append(os.Environ(), vmmVariable+"=1")
	server.Stderr = os.Stderr
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Process.Kill(); server.Wait() })
	waitForSocket(t, socket)
}

func hangUp(t *testing.T, path string) {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}
