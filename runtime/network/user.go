package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/netns"
	"github.com/microvm/microvm/runtime/isolation"
)

// User is a user-mode network: a process that makes connections of its own of
// what the guest sends.
type User struct {
	// Path is that of microvm-network.
	Path string
	// Publish are the guest's ports that can be reached on the host, as
	// microvm-network takes them.
	Publish []string
	// OwnMAC drops what the guest does not send from its own address.
	OwnMAC bool
	// Log is told if the process ends in another way than it should.
	Log *logrus.Entry

	cmd     *exec.Cmd
	said    words
	stopped atomic.Bool   // by Stop
	ended   chan struct{} // closed when the process has ended
}

// words are the first that a process says. It reads what a guest sends, and may say as
// much as the guest likes.
type words struct{ text bytes.Buffer }

// mostWords is how many are kept, in bytes.
const mostWords = 4096

// Write implements io.Writer. It never fails.
func (w *words) Write(p []byte) (int, error) {
	w.text.Write(p[:min(len(p), mostWords-w.text.Len())])
	return len(p), nil
}

// Start starts the process and gives it to network device 0 of the guest.
func (u *User) Start(ctx context.Context, g Guest) error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("start user-mode network: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "frames"), os.NewFile(uintptr(fds[1]), "frames")
	defer ours.Close()
	defer theirs.Close()
	if err := u.spawn(theirs); err != nil {
		return fmt.Errorf("start user-mode network: %w", err)
	}
	if err := g.AttachNIC(ctx, 0, []*os.File{ours}, u.froms()...); err != nil {
		return errors.Join(err, u.Stop())
	}
	if err := g.SetNetwork(ctx, netns.User()); err != nil {
		return errors.Join(err, u.Stop())
	}
	return nil
}

func (u *User) froms() []string {
	if u.OwnMAC {
		return []string{netns.UserMAC}
	}
	return nil
}

// spawn waits until the process has its ports, or says why it cannot.
func (u *User) spawn(socket *os.File) error {
	ready, started, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	args := []string{"--socket", "3", "--ready", "4"}
	for _, p := range u.Publish {
		args = append(args, "--publish", p)
	}
	u.cmd = exec.Command(u.Path, args...)
	u.cmd.ExtraFiles = []*os.File{socket, started}
	u.cmd.Stderr = &u.said
	u.cmd.Dir = "/"
	u.cmd.Env = []string{}
	err = isolation.Start(u.cmd, 0)
	started.Close()
	if err != nil {
		u.cmd = nil
		return err
	}
	if n, _ := ready.Read(make([]byte, 1)); n == 1 {
		u.ended = make(chan struct{})
		go u.watch()
		return nil
	}
	err = u.lastWords(u.cmd.Wait())
	u.cmd = nil
	return err
}

// watch waits for the process, which is to end after its guest.
func (u *User) watch() {
	defer close(u.ended)
	if err := u.cmd.Wait(); err != nil && !u.stopped.Load() {
		u.Log.WithError(u.lastWords(err)).Warn("network: the process of the user-mode network has ended, and the guest has none any more")
	}
}

// lastWords are why the process has ended, as it says itself or as the kernel does.
func (u *User) lastWords(exit error) error {
	if said := api.Printable(strings.TrimSpace(u.said.text.String()), mostWords); said != "" {
		return errors.New(said)
	}
	return isolation.ExplainFilter(u.PID(), exit)
}

// PID is that of the process, 0 without one.
func (u *User) PID() int {
	if u.cmd == nil {
		return 0
	}
	return u.cmd.Process.Pid
}

// Stop ends the process, if there is one.
func (u *User) Stop() error {
	if u.cmd == nil {
		return nil
	}
	u.stopped.Store(true)
	err := u.cmd.Process.Kill()
	<-u.ended
	u.cmd = nil
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}
