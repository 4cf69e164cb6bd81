package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime/debug"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/rootfs/export"
	"github.com/microvm/microvm/vmm/jail"
	"github.com/microvm/microvm/vmm/virtio/fs"
	"github.com/microvm/microvm/vmm/virtio/vhostuser"
)

// shareOptions are the arguments of `microvm-vmm fs`, which shares a directory
// with the guest of another VMM over vhost-user. They are those of virtiofsd
// that say what is shared and how; what it has beyond them is refused.
type shareOptions struct {
	socket  string // where to listen; the name goes when the VMM has come
	group   string // who may connect besides the user
	fd      int    // of a listening socket, in place of socket
	dir     string
	tag     string
	policy  export.Policy
	server  export.Options
	workers int
	sandbox string
	level   logrus.Level
}

// Values of --sandbox.
const (
	sandboxNone   = "none"
	sandboxChroot = "chroot"
)

// shareQueues is how many request queues a VMM may give its guest.
const shareQueues = 16

func parseShare(args []string, out io.Writer) (*shareOptions, error) {
	o := &shareOptions{fd: -1, level: logrus.InfoLevel, sandbox: sandboxChroot}
	if os.Geteuid() != 0 {
		o.sandbox = sandboxNone
	}
	f := flag.NewFlagSet("microvm-vmm fs", flag.ContinueOnError)
	f.SetOutput(out)
	f.StringVar(&o.socket, "socket", "", "listen on the unix socket `path`")
	f.StringVar(&o.socket, "socket-path", "", "the same as --socket")
	f.StringVar(&o.group, "socket-group", "", "let members of the `group` connect, too")
	f.IntVar(&o.fd, "fd", -1, "listen on the socket that is open as descriptor `n`")
	f.StringVar(&o.dir, "shared-dir", "", "share the `directory`")
	f.StringVar(&o.tag, "tag", "", "`name` to mount by, for a VMM that asks the device")
	f.Func("cache", "how long the guest may believe what it has seen: auto, always or never", o.setCache)
	f.BoolVar(&o.policy.ReadOnly, "readonly", false, "refuse every change")
	f.BoolVar(&o.policy.Devices, "allow-mknod", false, "let the guest make device nodes")
	f.BoolVar(&o.server.Submounts, "announce-submounts", false, "show mounts in the directory as devices of their own")
	f.BoolVar(&o.server.Locks, "locks", false, "take locks on the host; without, they hold among the guest's processes")
	f.IntVar(&o.workers, "thread-pool-size", 0, "requests served at once; 0 is 64")
	f.StringVar(&o.sandbox, "sandbox", o.sandbox, "none, or chroot to an empty directory")
	f.Func("log-level", "error, warn, info or debug", func(s string) (err error) {
		o.level, err = logrus.ParseLevel(s)
		return err
	})
	f.Bool("xattr", true, "extended attributes; always on")
	f.Bool("posix-acl", true, "POSIX ACLs; always on")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	return o, o.check(f.NArg())
}

func (o *shareOptions) setCache(s string) (err error) {
	o.policy.Cache, err = export.ParseCache(s)
	return err
}

func (o *shareOptions) check(rest int) error {
	switch {
	case rest > 0:
		return errors.New("arguments after the options: remove them")
	case o.dir == "":
		return errors.New("no directory to share: give --shared-dir")
	case (o.socket == "") == (o.fd < 0):
		return errors.New("nowhere to listen, or twice: give --socket or --fd")
	case o.group != "" && o.socket == "":
		return errors.New("--socket-group without --socket: whoever made the socket sets its group")
	case o.sandbox != sandboxNone && o.sandbox != sandboxChroot:
		return fmt.Errorf("--sandbox %s: want none or chroot", o.sandbox)
	}
	return nil
}

// shareMain is the process of `microvm-vmm fs` and returns its exit code.
func shareMain(args []string) int {
	o, err := parseShare(args, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "microvm-vmm fs:", err)
		return exitUsage
	}
	takeSlack()
	if err := share(o); err != nil {
		fmt.Fprintln(os.Stderr, "microvm-vmm fs:", err)
		return exitFault
	}
	return 0
}

// share serves the directory to the first VMM that connects until that hangs
// up.
func share(o *shareOptions) error {
	signal.Ignore(unix.SIGPIPE)
	debug.SetGCPercent(gcPercent)
	log := logrus.New()
	log.SetLevel(o.level)
	dir, err := os.OpenFile(o.dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("open the directory to share: %w", err)
	}
	defer dir.Close()
	conn, err := o.accept()
	if err != nil {
		return err
	}
	files, device, err := o.newDevice(dir, log)
	if err != nil {
		conn.Close()
		return err
	}
	if o.sandbox == sandboxChroot {
		if err := enterEmptyRoot(); err != nil {
			return fmt.Errorf("enter the sandbox: %w: give --sandbox none", err)
		}
	}
	if err := jail.Confine(jail.Config{Devices: o.policy.Devices}); err != nil {
		return err
	}
	if err := files.ReadCredentials(); err != nil {
		return err
	}
	s, err := vhostuser.New(conn, device, vhostuser.Options{
		Fail:     func(err error) { log.WithError(err).Warn("device stopped") },
		NoConfig: o.tag == "",
	})
	if err != nil {
		return err
	}
	return errors.Join(s.Serve(), files.Close())
}

// newDevice makes a device whose root is dir.
func (o *shareOptions) newDevice(dir *os.File, log *logrus.Logger) (*export.Server, *fs.Device, error) {
	o.server.Logf = log.Warnf
	files, err := export.NewServer(o.server)
	if err != nil {
		return nil, nil, err
	}
	if err := files.ExportAsRoot(dir, o.policy); err != nil {
		return nil, nil, err
	}
	tag := o.tag
	if tag == "" {
		tag = fsTag
	}
	device, err := fs.New(files, fs.Options{Tag: tag, RequestQueues: shareQueues, Workers: o.workers})
	return files, device, err
}

// accept returns the connection of the first VMM. The socket is closed then,
// and its name removed.
func (o *shareOptions) accept() (*os.File, error) {
	l, err := o.listen()
	if err != nil {
		return nil, err
	}
	defer l.Close()
	c, err := l.AcceptUnix()
	if err != nil {
		return nil, fmt.Errorf("accept: %w", err)
	}
	defer c.Close()
	f, err := c.File()
	if err != nil {
		return nil, fmt.Errorf("accept: %w", err)
	}
	return f, unix.SetNonblock(int(f.Fd()), true)
}

func (o *shareOptions) listen() (*net.UnixListener, error) {
	if o.fd >= 0 {
		l, err := unixListener(os.NewFile(uintptr(o.fd), "socket"))
		if err != nil {
			return nil, fmt.Errorf("listen on descriptor %d: %w", o.fd, err)
		}
		return l, nil
	}
	return listenUnix(o.socket, o.group)
}
