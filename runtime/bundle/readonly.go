package bundle

import (
	"path/filepath"
	"slices"

	"github.com/moby/sys/mountinfo"
)

// readOnly tells what mount options come to; the last one wins.
func readOnly(options []string) bool {
	ro := false
	for _, o := range options {
		switch o {
		case "ro", "rro":
			ro = true
		case "rw", "rrw":
			ro = false
		}
	}
	return ro
}

// keepsMountsWritable tells whether e, a bind mount with these options, is
// read-only itself, but not what the host has mounted below it. A mount that
// follows the host's is the host's own, which has to stay as it is.
func keepsMountsWritable(e *Export, options []string) bool {
	return e.ReadOnly && e.Submounts && !e.Follow && !slices.Contains(options, "rro") && hasMounts(e.Path)
}

// withoutReadOnly is options without those that readOnly looks at.
func withoutReadOnly(options []string) []string {
	return slices.DeleteFunc(slices.Clone(options), func(o string) bool { return o == "ro" || o == "rw" || o == "rrw" })
}

// hasMounts tells whether something is mounted below dir. Where that cannot be
// found out, it is not.
func hasMounts(dir string) bool {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return false
	}
	found, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) {
		below := i.Mountpoint != dir && within(dir, i.Mountpoint)
		return !below, below
	})
	return err == nil && len(found) > 0
}
