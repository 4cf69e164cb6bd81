package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/runtime/sandbox"
)

// Descriptors of a monitor besides its standard streams.
const (
	requestFD = 3 // monitorRequest, as JSON to the end of the file
	reportFD  = 4 // a pipe for one monitorReport; its close alone is a failure
)

// monitorRequest says what a monitor is for: one of the two.
type monitorRequest struct {
	Container *CreateRequest `json:"container,omitempty"`
	Exec      *ExecRequest   `json:"exec,omitempty"`
}

// monitorReport says how the start went.
type monitorReport struct {
	Error string `json:"error,omitempty"`
	// Classes of the error, by their texts.
	Classes []string `json:"classes,omitempty"`
}

// classes are those that a report keeps.
var classes = []error{ErrProgramMissing, ErrProgramDenied, ErrState}

func newReport(err error) monitorReport {
	if err == nil {
		return monitorReport{}
	}
	r := monitorReport{Error: err.Error()}
	for _, c := range classes {
		if errors.Is(err, c) {
			r.Classes = append(r.Classes, c.Error())
		}
	}
	return r
}

func (r monitorReport) err() error {
	if r.Error == "" {
		return nil
	}
	var in []error
	for _, name := range r.Classes {
		for _, c := range classes {
			if c.Error() == name {
				in = append(in, c)
			}
		}
	}
	return inClass(errors.New(r.Error), in...)
}

// spawn starts a monitor in a session of its own and waits for its report.
// The monitor inherits the standard streams, or with null gets none. After an
// error it is gone.
func (e *Engine) spawn(ctx context.Context, r monitorRequest, null bool) (pid int, err error) {
	request, err := requestFile(r)
	if err != nil {
		return 0, err
	}
	defer request.Close()
	reports, w, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("start monitor: %w", err)
	}
	defer reports.Close()
	cmd := exec.Command(e.Monitor[0], e.Monitor[1:]...)
	if !null {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	}
	cmd.ExtraFiles = []*os.File{request, w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return 0, fmt.Errorf("start monitor: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(unix.SIGTERM) })
	defer stop()
	if err := readReport(reports); err != nil {
		if werr := cmd.Wait(); errors.Is(err, errNoReport) {
			err = fmt.Errorf("%w: %w", err, werr)
		}
		return 0, err
	}
	pid = cmd.Process.Pid
	return pid, cmd.Process.Release()
}

func requestFile(r monitorRequest) (*os.File, error) {
	p, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	fd, err := unix.MemfdCreate("microvm-request", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create request: %w", err)
	}
	f := os.NewFile(uintptr(fd), "request")
	if _, err := f.WriteAt(p, 0); err != nil {
		f.Close()
		return nil, fmt.Errorf("write request: %w", err)
	}
	return f, nil
}

var errNoReport = errors.New("the monitor died")

func readReport(r io.Reader) error {
	p, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("read monitor's report: %w", err)
	}
	if len(p) == 0 {
		return errNoReport
	}
	var report monitorReport
	if err := json.Unmarshal(p, &report); err != nil {
		return fmt.Errorf("read monitor's report: %w", err)
	}
	return report.err()
}

// ServeMonitor is the life of a process that spawn has started. It returns the
// code to exit with; an error is one that could not be reported any more.
func (e *Engine) ServeMonitor(ctx context.Context) (code int, err error) {
	request := os.NewFile(requestFD, "request")
	var r monitorRequest
	err = json.NewDecoder(request).Decode(&r)
	request.Close()
	if err != nil {
		return 1, fmt.Errorf("read request: %w", err)
	}
	report := os.NewFile(reportFD, "report")
	defer report.Close()
	reported := false
	code, err = e.monitor(ctx, r, func() error {
		reported = true
		return sendReport(report, nil)
	})
	if err != nil && !reported {
		return 1, sendReport(report, err)
	}
	return code, err
}

// monitor does what r asks and calls report when it has begun.
func (e *Engine) monitor(ctx context.Context, r monitorRequest, report func() error) (int, error) {
	switch {
	case r.Container != nil:
		s := &supervisor{engine: e, request: *r.Container, timeline: sandbox.NewTimeline(r.Container.Zero)}
		return s.run(ctx, report)
	case r.Exec != nil:
		return e.superviseExec(ctx, *r.Exec, false, report)
	}
	return 1, errors.New("empty request")
}

// sendReport fails when nobody waits for it any more: then the one who asked is
// dead, and so has the container to be.
func sendReport(f *os.File, err error) error {
	p, jerr := json.Marshal(newReport(err))
	if jerr != nil {
		return fmt.Errorf("encode report: %w", jerr)
	}
	if _, werr := f.Write(p); werr != nil {
		return fmt.Errorf("the command that asked for it is gone: %w", werr)
	}
	return f.Close()
}
