package check

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/runtime/config"
)

// Device is KVM's.
const Device = "/dev/kvm"

// ioctlGetAPIVersion is KVM_GET_API_VERSION of linux/kvm.h.
const ioctlGetAPIVersion = 0xae00

// ProbeMachine collects in well under a millisecond what Decide needs.
func ProbeMachine(a config.Artifacts) *Facts {
	return &Facts{
		CPU:        readCPU(cpuid),
		Hypervisor: readHypervisor(cpuid),
		KVM:        probeKVM(),
		Host:       Host{Root: os.Geteuid() == 0},
		Parts:      Parts{Kernel: a.Kernel.Path, Initramfs: a.Initramfs.Path, VMM: a.VMM.Path, QEMU: a.QEMU.Path},
		artifacts:  a,
	}
}

// Probe collects everything; it runs QEMU for its version.
func Probe(a config.Artifacts) *Facts {
	f := ProbeMachine(a)
	f.Host.Kernel, f.Host.Cgroup, f.Host.CPUs = kernelRelease(), cgroupVersion(), runtime.NumCPU()
	f.KVM.NXHugePages = readLine("/sys/module/kvm/parameters/nx_huge_pages")
	if f.Parts.QEMU != "" {
		f.Parts.QEMUVersion = qemuVersion(f.Parts.QEMU)
	}
	return f
}

func probeKVM() KVM {
	f, err := os.OpenFile(Device, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return KVM{Error: err.Error()}
	}
	k := KVM{Exists: true, Denied: errors.Is(err, fs.ErrPermission)}
	if err != nil {
		k.Error = err.Error()
		return k
	}
	defer f.Close()
	if k.API, err = unix.IoctlRetInt(int(f.Fd()), ioctlGetAPIVersion); err != nil {
		k.Error = err.Error()
		return k
	}
	k.Usable = true
	return k
}

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

func cgroupVersion() string {
	const root = "/sys/fs/cgroup"
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return "none"
	}
	if st.Type == unix.CGROUP2_SUPER_MAGIC {
		return "v2"
	}
	if err := unix.Statfs(root+"/unified", &st); err == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
		return "hybrid"
	}
	return "v1"
}

func readLine(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

func qemuVersion(path string) string {
	out, err := exec.Command(path, "--version").Output()
	if err != nil {
		return "unknown: " + err.Error()
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimPrefix(line, "QEMU emulator version ")
}
