package chaos

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/microvm/microvm/tests/command"
)

// Statuses of a container, as both front ends are translated to.
const (
	absent  = "absent"
	created = "created"
	running = "running"
	paused  = "paused"
	stopped = "stopped"
)

// operation is what is being done to a container when the harm happens.
type operation struct {
	name string
	from string   // the status that it begins in
	args []string // of the front end, "ID" is the container
	code int      // the right exit code
	// leads are the statuses that the operation may leave when it succeeds. When
	// it fails, what was there before is right, too.
	leads []string
	// between are those that it may leave when it fails.
	between []string
	// exit is the right exit code of a container that it ends.
	exit int
	took time.Duration // at most, so far
}

// front is a way to have containers.
type front interface {
	// prepare makes a container in a status.
	prepare(status string)
	// command is a call of the front end, exec one that runs a script in the
	// container.
	command(args ...string) *exec.Cmd
	exec(script string) *exec.Cmd
	// status is the container's now.
	status() string
	// proves tells whether a container in a status, not stopped, is of use.
	proves(status string) error
	// exitCode is that of the container, which has stopped; false if nobody tells.
	exitCode() (int, bool)
	// clean deletes what there is, and checks that nothing is left.
	clean()
}

// secret is in the environment of a container, and is to be in no log, whatever happens.
const secret = "hush-2b64c7e1"

// outcome is how a disturbed command ended.
type outcome struct {
	code   int
	output string
	hangs  bool
}

// play does one round.
func play(t *testing.T, random *rand.Rand, f front, operations []*operation, harms []*harm) {
	t.Helper()
	op, h := choose(t, random, operations, harms)
	defer f.clean()
	f.prepare(op.from)
	o := disturb(t, random, f, op, h)
	if o.hangs {
		t.Fatalf("the command hangs: %s", o.output)
	}
	t.Logf("harm done: %v; exit code %d: %s", h.hit, o.code, o.output)
	if !h.hit && o.code != op.code {
		t.Errorf("nothing happened, and the exit code is %d, not %d: %s", o.code, op.code, o.output)
	}
	if crashed(o.output) || strings.Contains(o.output, secret) {
		t.Errorf("a program of the project crashed, or tells what is in the container's environment: %s", o.output)
	}
	judge(t, f, op, h, o)
}

// choose takes an operation and a harm, of those that MICROVM_ONLY is part of.
func choose(t *testing.T, random *rand.Rand, operations []*operation, harms []*harm) (*operation, *harm) {
	t.Helper()
	for range 1000 {
		op, h := operations[random.IntN(len(operations))], harms[random.IntN(len(harms))]
		if name := op.name + ", " + h.name; strings.Contains(name, os.Getenv("MICROVM_ONLY")) {
			t.Log(name)
			return op, h
		}
	}
	t.Fatalf("nothing is called %q", os.Getenv("MICROVM_ONLY"))
	return nil, nil
}

// crashes are how a Go program says that it does.
var crashes = []string{"panic: ", "fatal error: ", "goroutine 1 ["}

// starved are crashes of Go's runtime itself, which no program can do anything about:
// it gets no thread, or no descriptor for the poller.
var starved = []string{"runtime: failed to create new OS thread", "fatal error: runtime: netpollinit failed", "runtime: epollcreate failed"}

// crashed tells whether a program that said this has crashed by a fault of its own.
func crashed(output string) bool {
	has := func(words []string) bool {
		return slices.ContainsFunc(words, func(word string) bool { return strings.Contains(output, word) })
	}
	return has(crashes) && !has(starved)
}

// disturb runs the operation's command and does the harm at a moment of it.
func disturb(t *testing.T, random *rand.Rand, f front, op *operation, h *harm) outcome {
	t.Helper()
	moment := time.Duration(random.Float64() * float64(op.took))
	ctx, cancel := context.WithTimeout(context.Background(), command.Patience)
	defer cancel()
	cmd := f.command(op.args...)
	// A file, which does not keep the call from ending while a monitor has it.
	output, err := os.Create(filepath.Join(t.TempDir(), "output"))
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	cmd.Stdout, cmd.Stderr = output, output
	if h.before != nil {
		defer h.before(t, random, cmd)()
	}
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	over := make(chan error, 1)
	go func() { over <- cmd.Wait() }()
	if h.during != nil {
		time.Sleep(moment)
		h.during(t, random, cmd.Process.Pid)
	}
	o := outcome{}
	select {
	case err := <-over:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Errorf("%v: %v", cmd.Args, err)
		}
	case <-ctx.Done():
		o.hangs = true
		_ = cmd.Process.Kill()
		<-over
	}
	if took := time.Since(begin); !h.hit {
		op.took = max(op.took, took)
	}
	said, err := os.ReadFile(output.Name())
	if err != nil {
		t.Fatal(err)
	}
	o.code, o.output = cmd.ProcessState.ExitCode(), string(said)
	return o
}

// judge checks what has become of the container.
func judge(t *testing.T, f front, op *operation, h *harm, o outcome) {
	t.Helper()
	right := slices.Clone(op.leads)
	if o.code != op.code || h.hit {
		right = slices.Concat(right, []string{op.from}, op.between, h.leads)
		if op.from == absent || h.deadly {
			right = append(right, stopped)
		}
	}
	alive := func(status string) bool { return status == created || status == running || status == paused }
	var now string
	var useless error
	// What was asked for may still be on its way: a signal, or an end.
	settled := eventually(func() bool {
		now = f.status()
		if useless = nil; alive(now) {
			useless = f.proves(now)
		}
		return slices.Contains(right, now) && useless == nil && !(h.hit && h.fatal && alive(now))
	})
	if !settled {
		t.Errorf("the container is %s, which is one of these: %v; of no use: %v", now, right, useless)
	}
	if now != stopped || op.from == stopped {
		return
	}
	if code, known := f.exitCode(); known && (h.hit && h.deadly && code == 0 || !h.hit && code != op.exit) {
		t.Errorf("exit code %d of the container", code)
	}
}

func eventually(ok func() bool) bool {
	for end := time.Now().Add(command.Patience / 2); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if ok() {
			return true
		}
	}
	return false
}
