package manager

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/microvm/microvm/shim/task"
)

// maxVersionEnv is the newest version of the shim's protocol that a daemon
// knows. Daemons before 1.7 don't set it, and read a bare address.
const maxVersionEnv = "MAX_SHIM_VERSION"

// maxStdin bounds what a daemon says on standard input.
const maxStdin = 10 << 20

// StartByFlags does what daemons before 2.3 ask for: a start that is described
// by flags and environment. Everything else is left to containerd's library,
// which knows only newer ones; handled is false then.
func StartByFlags(args []string) (handled bool, err error) {
	l, ns, err := parseStart(args)
	if errors.Is(err, errOther) {
		return false, nil
	}
	if err != nil {
		return true, err
	}
	input, err := io.ReadAll(io.LimitReader(os.Stdin, maxStdin))
	if err != nil {
		return true, fmt.Errorf("read standard input: %w", err)
	}
	if describes(input, l.id, ns) {
		err := restoreStdin(input)
		return err != nil, err
	}
	// Before, the runtime's options were all that was there.
	if options := new(anypb.Any); proto.Unmarshal(input, options) == nil && task.IsOptions(options) {
		l.options = options
	}
	address, err := start(namespaces.WithNamespace(context.Background(), ns), l)
	if err != nil {
		return true, err
	}
	return true, answer(os.Stdout, address, os.Getenv(maxVersionEnv))
}

var errOther = errors.New("not a start")

func parseStart(args []string) (l launch, ns string, err error) {
	f := flag.NewFlagSet(Name, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&ns, "namespace", "", "")
	f.StringVar(&l.id, "id", "", "")
	f.StringVar(&l.daemon, "address", "", "")
	f.BoolVar(&l.debug, "debug", false, "")
	f.String("publish-binary", "", "")
	f.String("bundle", "", "")
	f.String("socket", "", "")
	f.String("debug-socket", "", "")
	if f.Parse(args) != nil || f.Arg(0) != "start" {
		return l, ns, errOther
	}
	if ns == "" || l.id == "" {
		return l, ns, errors.New("start needs -namespace and -id")
	}
	return l, ns, nil
}

// describes tells whether input, which was on standard input, describes the
// start.
func describes(input []byte, id, ns string) bool {
	var p bootapi.BootstrapParams
	return proto.Unmarshal(input, &p) == nil && p.GetInstanceID() == id && p.GetNamespace() == ns
}

// restoreStdin lets standard input be read again.
func restoreStdin(input []byte) error {
	fd, err := unix.MemfdCreate("stdin", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("keep standard input: %w", err)
	}
	f := os.NewFile(uintptr(fd), "stdin")
	if _, err := f.Write(input); err != nil {
		return fmt.Errorf("keep standard input: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("keep standard input: %w", err)
	}
	os.Stdin = f
	return nil
}

// answer tells a daemon that knows versions up to newest the shim's address.
func answer(w io.Writer, address, newest string) error {
	text := []byte(address)
	if newest != "" {
		v, err := strconv.Atoi(newest)
		if err != nil {
			return fmt.Errorf("%s: %w", maxVersionEnv, err)
		}
		text, err = json.Marshal(struct {
			Version  int    `json:"version"`
			Address  string `json:"address"`
			Protocol string `json:"protocol"`
		}{min(v, 3), address, "ttrpc"})
		if err != nil {
			return err
		}
	}
	if _, err := w.Write(text); err != nil {
		return fmt.Errorf("answer with address: %w", err)
	}
	return nil
}
