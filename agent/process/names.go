package process

import (
	"io"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
)

// keepNames drops the mounts that spec has for want of name servers, if the file in
// the root file system there has some.
func keepNames(spec *specs.Spec) {
	forWant := func(o string) bool { return o == api.OptionUnlessNamed }
	spec.Mounts = slices.DeleteFunc(spec.Mounts, func(m specs.Mount) bool {
		return slices.ContainsFunc(m.Options, forWant) && namesServer(spec.Root.Path, m.Destination)
	})
	for i := range spec.Mounts {
		spec.Mounts[i].Options = slices.DeleteFunc(spec.Mounts[i].Options, forWant)
	}
}

// maxNames is how much of the file is looked at.
const maxNames = 64 << 10

// namesServer tells whether the file in root, a resolv.conf(5), names a server.
func namesServer(root, file string) bool {
	dir, err := os.Open(root)
	if err != nil {
		return false
	}
	defer dir.Close()
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(int(dir.Fd()), strings.TrimPrefix(file, "/"), &how)
	if err != nil {
		return false // there is none to speak of
	}
	f := os.NewFile(uintptr(fd), file)
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxNames))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		if word := strings.Fields(line); len(word) > 1 && word[0] == "nameserver" {
			return true
		}
	}
	return false
}
