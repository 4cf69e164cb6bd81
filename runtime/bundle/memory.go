package bundle

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
)

// emptyDirs is in the path of each volume of a pod that is empty at first, and no
// other: kubelet has them there.
const emptyDirs = "/volumes/kubernetes.io~empty-dir/"

// splitMemory gives the guest a file system in memory of its own where kubelet has
// made one on the host for a volume of the pod (emptyDir with medium: Memory), or the
// directory of it that the container has (subPath). So what containers put there is
// memory of theirs, within their limits and in their figures, and not of the machine,
// which would be killed for it.
func (p *Plan) splitMemory(b *Bundle, m *specs.Mount, source string) (yes bool, err error) {
	var st unix.Statfs_t
	if PodID(b.Spec.Annotations) == "" || unix.Statfs(source, &st) != nil || st.Type != unix.TMPFS_MAGIC {
		return false, nil
	}
	volume, dir, err := emptyDirOf(source)
	if volume == nil || err != nil {
		return false, err
	}
	how := api.Memory{Size: st.Blocks * uint64(st.Bsize)}
	if how.Root, err = ownerOf(volume.Mountpoint); err != nil {
		return false, err
	}
	if how.Dir, err = ownerOf(source); err != nil {
		return false, err
	}
	p.dropData(m)
	m.Source = filepath.Join(api.MemoryDir, fmt.Sprintf("%d-%d", volume.Major, volume.Minor), dir)
	return true, how.Put(m)
}

// emptyDirOf is the mount of the volume that has source, a directory in a file system
// in memory, and where in that it is; nil if it is no such volume.
func emptyDirOf(source string) (volume *mountinfo.Info, dir string, err error) {
	if source, err = filepath.EvalSymlinks(source); err != nil {
		return nil, "", err
	}
	all, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("tmpfs"))
	if err != nil {
		return nil, "", err
	}
	var of *mountinfo.Info // the last that is mounted nearest to source
	for _, i := range all {
		if within(i.Mountpoint, source) && (of == nil || len(i.Mountpoint) >= len(of.Mountpoint)) {
			of = i
		}
	}
	if of == nil {
		return nil, "", nil
	}
	for _, i := range all {
		if i.Major == of.Major && i.Minor == of.Minor && i.Root == "/" && strings.Contains(i.Mountpoint, emptyDirs) {
			return i, filepath.Join(of.Root, strings.TrimPrefix(source, of.Mountpoint)), nil
		}
	}
	return nil, "", nil
}

// ownerOf is whose a directory of the host is.
func ownerOf(dir string) (o api.Owner, err error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return o, &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return o, fmt.Errorf("%s is a file in a volume in memory, which the guest has of its own: mount the directory that it is in", dir)
	}
	return api.Owner{Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid}, nil
}
