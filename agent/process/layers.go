package process

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
)

// layer is one of the mounts that a root file system is made of.
type layer struct {
	kind, source, target string
	options              []string
	place                string // where it is mounted
}

// assemble makes the mounts, see [api.TransformFormat]: those up to the last with
// a template below the directory dir, that one and what follows at target.
func (c *container) assemble(target, dir string, mounts []*api.Mount) error {
	if err := c.root.mkdir(dir); err != nil {
		return err
	}
	last := lastFormatted(mounts)
	var made []*layer
	for i, m := range mounts {
		l := &layer{kind: m.GetType(), source: m.GetSource(), target: m.GetTarget(), options: m.GetOptions()}
		var err error
		if l.place = filepath.Join(dir, strconv.Itoa(i)); i >= last {
			l.place, err = realDir(target, l.target)
		} else {
			err = c.root.mkdir(l.place)
		}
		if err == nil {
			err = c.makeLayer(l, dir, made)
		}
		if err != nil {
			return fmt.Errorf("mount %d of type %s: %w", i, m.GetType(), err)
		}
		made = append(made, l)
	}
	return nil
}

// lastFormatted is the index of the last mount with templates, 0 without any.
func lastFormatted(mounts []*api.Mount) (last int) {
	for i, m := range mounts {
		if strings.HasPrefix(m.GetType(), api.TransformFormat+"/") {
			last = i
		}
	}
	return last
}

// makeLayer applies the transformations that l's type begins with, and mounts it.
func (c *container) makeLayer(l *layer, dir string, made []*layer) error {
	for {
		transform, rest, ok := strings.Cut(l.kind, "/")
		if !ok {
			break
		}
		var err error
		switch transform {
		case api.TransformFormat:
			err = l.format(made)
		case api.TransformMkdir:
			err = l.makeDirs(dir)
		default:
			err = fail(ErrUnsupported, "the transformation %s is not supported", transform)
		}
		if err != nil {
			return err
		}
		l.kind = rest
	}
	if err := c.useSource(&l.source); err != nil {
		return err
	}
	return c.mountLayer(l)
}

func (c *container) mountLayer(l *layer) (err error) {
	switch l.kind {
	case "bind":
		if l.source, err = realDir(l.source, ""); err == nil {
			err = c.root.bind(l.source, l.place)
		}
		if err == nil && l.has("ro") {
			err = unix.MountSetattr(unix.AT_FDCWD, l.place, unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
		}
		return err
	case "overlay":
		return c.mountOverlay(l)
	case api.LoopType:
		l.place = l.source
		return nil
	}
	config := fsConfig{{"source", cmp.Or(l.source, l.kind)}}
	for _, o := range l.options {
		key, value, ok := strings.Cut(o, "=")
		if key == "device" && ok {
			if err := c.useSource(&value); err != nil {
				return err
			}
		}
		config = append(config, fsOption{key, value})
	}
	return c.mountNew(l.kind, l.place, config)
}

func (l *layer) has(option string) bool {
	for _, o := range l.options {
		if o == option {
			return true
		}
	}
	return false
}

// mountOverlay mounts any number of layers. Where the upper one is on the share,
// the lower ones are put together first: they have other marks.
func (c *container) mountOverlay(l *layer) error {
	config := fsConfig{{"source", "overlay"}}
	var lower []string
	for _, o := range l.options {
		key, value, _ := strings.Cut(o, "=")
		var err error
		switch key {
		case "lowerdir":
			lower = strings.Split(value, ":")
			continue
		case "upperdir", "workdir":
			value, err = realDir(value, "")
		}
		if err != nil {
			return err
		}
		config = append(config, fsOption{key, value})
	}
	if l.has(api.OptionUserXattr) && len(lower) > 1 {
		under := l.place + "-lower"
		if err := c.root.mkdir(under); err != nil {
			return err
		}
		if err := c.mountNew("overlay", under, append(fsConfig{{"source", "overlay"}, {"ro", ""}}, lowerLayers(lower)...)); err != nil {
			return err
		}
		lower = []string{under}
	}
	return c.mountNew("overlay", l.place, append(lowerLayers(lower), config...))
}

// lowerLayers are options of which each has one directory: a list of a hundred
// would be longer than an option can be.
func lowerLayers(dirs []string) (config fsConfig) {
	for _, dir := range dirs {
		config = append(config, fsOption{"lowerdir+", dir})
	}
	return config
}

// realDir is the path of a directory called name in root. No symbolic link is
// followed on the way: an image may have some that lead out of it.
func realDir(root, name string) (string, error) {
	path := filepath.Join(root, name)
	fd, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS})
	if err != nil {
		return "", &os.PathError{Op: "open", Path: path, Err: err}
	}
	return path, unix.Close(fd)
}

// makeDirs makes the directories that the options ask for, in what is mounted
// below dir.
func (l *layer) makeDirs(dir string) error {
	var rest []string
	for _, o := range l.options {
		value, ok := strings.CutPrefix(o, api.OptionMkdir+"=")
		if !ok {
			rest = append(rest, o)
			continue
		}
		if err := makeDir(dir, value); err != nil {
			return fmt.Errorf("option %s: %w", o, err)
		}
	}
	l.options = rest
	return nil
}

func makeDir(dir, text string) error {
	part := strings.Split(text, ":")
	path := filepath.Clean(part[0])
	mode, uid, gid := uint64(0o700), 0, 0
	var err error
	if len(part) == 4 {
		if uid, err = strconv.Atoi(part[2]); err == nil {
			gid, err = strconv.Atoi(part[3])
		}
	}
	if err == nil && len(part) > 1 {
		mode, err = strconv.ParseUint(part[1], 8, 9)
	}
	if err != nil || len(part) == 3 || len(part) > 4 || !strings.HasPrefix(path, dir+"/") {
		return fail(ErrInvalid, "want PATH[:MODE[:UID:GID]] with a path in a mount before")
	}
	parent, err := realDir(filepath.Dir(path), "")
	if err != nil {
		return err
	}
	path = filepath.Join(parent, filepath.Base(path))
	if err := os.Mkdir(path, 0o700); os.IsExist(err) {
		_, err = realDir(path, "")
		return err
	} else if err != nil {
		return err
	}
	if err := os.Chown(path, uid, gid); err != nil {
		return err
	}
	return os.Chmod(path, os.FileMode(mode))
}
