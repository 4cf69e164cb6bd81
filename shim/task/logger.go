package task

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"time"

	"github.com/containerd/containerd/v2/pkg/namespaces"
)

// loggerGrace is how long a logger may take to say that it is ready.
const loggerGrace = 10 * time.Second

// logger is a program that takes a process's output (containerd's binary://
// scheme): descriptors 3 and 4 are stdout and stderr, it closes 5 when it is
// ready.
type logger struct {
	cmd            *exec.Cmd
	stdout, stderr *os.File
}

func startLogger(ctx context.Context, u *url.URL, id string) (l *logger, err error) {
	ns, err := namespaces.NamespaceRequired(ctx)
	if err != nil {
		return nil, err
	}
	l = &logger{cmd: exec.Command(u.Path, loggerArgs(u)...)}
	l.cmd.Env = append(os.Environ(), "CONTAINER_ID="+id, "CONTAINER_NAMESPACE="+ns)
	ours, err := l.pipes()
	if err == nil {
		err = l.cmd.Start()
	}
	for _, f := range l.cmd.ExtraFiles {
		f.Close()
	}
	if err != nil {
		closeAll(ours)
		return nil, fmt.Errorf("start logger %s: %w", u.Path, err)
	}
	l.stdout, l.stderr = ours[0], ours[1]
	if err := awaitReady(ours[2]); err != nil {
		closeAll(ours[:2])
		l.wait()
		return nil, fmt.Errorf("start logger %s: %w", u.Path, err)
	}
	return l, nil
}

func loggerArgs(u *url.URL) (args []string) {
	for k, vs := range u.Query() {
		args = append(args, k)
		if len(vs) > 0 && vs[0] != "" {
			args = append(args, vs[0])
		}
	}
	return args
}

// pipes gives the logger its ends of three pipes and returns the others.
func (l *logger) pipes() (ours []*os.File, err error) {
	for i := range 3 {
		r, w, err := os.Pipe()
		if err != nil {
			return ours, err
		}
		if i == 2 {
			r, w = w, r
		}
		l.cmd.ExtraFiles = append(l.cmd.ExtraFiles, r)
		ours = append(ours, w)
	}
	return ours, nil
}

// awaitReady waits for ready's end.
func awaitReady(ready *os.File) error {
	defer ready.Close()
	if err := ready.SetReadDeadline(time.Now().Add(loggerGrace)); err != nil {
		return err
	}
	var b [1]byte
	if _, err := ready.Read(b[:]); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("it is not ready: %w", err)
	}
	return nil
}

// wait waits for the logger's end, which follows that of its streams.
func (l *logger) wait() {
	kill := time.AfterFunc(loggerGrace, func() { _ = l.cmd.Process.Kill() })
	defer kill.Stop()
	_ = l.cmd.Wait() // how it ends is its own matter
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
