// The Go runtime is not to keep files of the cgroup open.
//go:debug containermaxprocs=0

// Command prisoner goes to jail and then does what its argument says. Without one
// it stays out and does nothing, and as "free DEED" it does that; as "network DEED" it
// goes to the jail of a user-mode network. It is built without cgo, as those are.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/vmm/jail"
)

// deeds are named after the system call in question. Those that are allowed
// return what came of them.
var deeds = map[string]func() error{
	// Allowed, with an end that the jail makes.
	"nothing": func() error { return nil },
	"threads": func() error {
		for range 20 {
			go func() { runtime.LockOSThread(); select {} }()
		}
		time.Sleep(10 * time.Millisecond)
		return nil
	},
	"open":       func() error { _, err := unix.Open("/etc/passwd", unix.O_RDONLY, 0); return err },
	"read names": func() error { _, err := os.ReadFile("/etc/hosts"); return err },
	"open proc":  func() error { _, err := unix.Open("/proc/self/fd", unix.O_RDONLY, 0); return err },
	"create":     func() error { _, err := unix.Open("/x", unix.O_CREAT|unix.O_RDWR, 0o600); return err },
	"mkdir":      func() error { return unix.Mkdirat(unix.AT_FDCWD, "/x", 0o700) },
	"capset": func() error {
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		caps := [2]unix.CapUserData{{Effective: 1 << unix.CAP_SYS_ADMIN, Permitted: 1 << unix.CAP_SYS_ADMIN}}
		return unix.Capset(&hdr, &caps[0])
	},
	// Timed: they print nanoseconds.
	"read":        func() error { return timed(func() error { _, err := unix.Pread(0, nil, 0); return err }) },
	"fcntl flags": func() error { return timed(func() error { _, err := unix.FcntlInt(0, unix.F_GETFL, 0); return err }) },
	"ioctl run":   func() error { return timed(func() error { unix.IoctlSetInt(0, 0xae80, 0); return nil }) },
	// Deadly.
	"execve": func() error { return unix.Exec("/bin/true", nil, nil) },
	"fork":   func() error { _, _, e := unix.RawSyscall(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0); return e },
	// Flags that are the number of a call that is looked at, too.
	"fork as fcntl":     func() error { _, _, e := unix.RawSyscall(unix.SYS_CLONE, unix.SYS_FCNTL, unix.F_GETFL, 0); return e },
	"fork as pread":     func() error { _, _, e := unix.RawSyscall(unix.SYS_CLONE, unix.SYS_PREAD64, 0, 0); return e },
	"clone3":            func() error { _, _, e := unix.RawSyscall(unix.SYS_CLONE3, 0, 0, 0); return e },
	"socket":            func() error { _, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0); return err },
	"socket unix":       func() error { _, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0); return err },
	"socket netlink":    func() error { _, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, 0); return err },
	"socket raw":        func() error { _, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP); return err },
	"socketpair":        func() error { _, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0); return err },
	"mount":             func() error { return unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND, "") },
	"umount":            func() error { return unix.Unmount("/", unix.MNT_DETACH) },
	"unshare":           func() error { return unix.Unshare(unix.CLONE_NEWUSER) },
	"setns":             func() error { return unix.Setns(0, 0) },
	"chroot":            func() error { return unix.Chroot("/") },
	"ptrace":            func() error { return unix.PtraceAttach(1) },
	"process_vm_readv":  func() error { _, err := unix.ProcessVMReadv(1, nil, nil, 0); return err },
	"open_by_handle_at": func() error { _, err := unix.OpenByHandleAt(0, unix.NewFileHandle(1, make([]byte, 8)), 0); return err },
	"bpf":               func() error { _, _, e := unix.Syscall(unix.SYS_BPF, 0, 0, 0); return e },
	"io_uring_setup":    func() error { _, _, e := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, 0, 0); return e },
	"userfaultfd":       func() error { _, _, e := unix.Syscall(unix.SYS_USERFAULTFD, 0, 0, 0); return e },
	"keyctl":            func() error { _, err := unix.KeyctlInt(unix.KEYCTL_GET_PERSISTENT, 0, 0, 0, 0); return err },
	"memfd_create":      func() error { _, err := unix.MemfdCreate("x", 0); return err },
	"mmap code": func() error {
		_, err := unix.Mmap(-1, 0, 4096, unix.PROT_EXEC, unix.MAP_ANON|unix.MAP_PRIVATE)
		return err
	},
	"mprotect code":  makeCode,
	"ioctl":          func() error { return unix.IoctlSetInt(0, unix.TIOCSTI, 0) },
	"prctl":          func() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0) },
	"fcntl":          func() error { _, err := unix.FcntlInt(0, unix.F_NOTIFY, 0); return err },
	"kill":           func() error { return unix.Kill(1, unix.SIGTERM) },
	"tgkill another": func() error { return unix.Tgkill(2, 2, unix.SIGTERM) },
	"setuid":         func() error { return unix.Setuid(0) },
	"x32":            func() error { _, _, e := unix.Syscall(0x40000000+unix.SYS_SOCKET, 1, 1, 0); return e },
}

// timed prints how long a call takes.
func timed(call func() error) error {
	const count = 200_000
	start := time.Now()
	for range count {
		if err := call(); err != nil {
			return err
		}
	}
	fmt.Println(time.Since(start).Nanoseconds() / count)
	return nil
}

func makeCode() error {
	page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	return unix.Mprotect(page, unix.PROT_READ|unix.PROT_EXEC)
}

func main() {
	if len(os.Args) == 1 {
		return
	}
	enter := func(j *jail.Jail) error { return j.Enter(jail.Config{}) }
	if os.Args[1] == "network" {
		os.Args = os.Args[1:]
		enter = func(j *jail.Jail) error { return j.EnterNetwork([]string{"/etc", "/etc/ssl", "/var/lib/dpkg"}) }
	}
	if os.Args[1] == "free" {
		if err := deeds[os.Args[2]](); err != nil {
			panic(err)
		}
		return
	}
	inherited, err := jail.Inherited()
	if err != nil {
		panic(err)
	}
	deed, handed := deeds[os.Args[1]], []int{}
	for _, arg := range os.Args[2:] {
		fd, err := strconv.Atoi(arg)
		if err != nil {
			panic(err)
		}
		handed = append(handed, fd)
	}
	if err := run(deed, enter, inherited, handed); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("done")
}

func run(deed func() error, enter func(*jail.Jail) error, inherited, handed []int) error {
	j, err := jail.Prepare(inherited, handed)
	if err != nil {
		return err
	}
	if err := enter(j); err != nil {
		return err
	}
	return deed()
}
