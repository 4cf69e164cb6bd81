package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/runtime/state"
)

// Info is what state and list tell about a container, with runc's fields.
type Info struct {
	OCIVersion string `json:"ociVersion"`
	ID         string `json:"id"`
	// PID is the monitor's, 0 for a stopped container.
	PID         int                  `json:"pid"`
	Status      specs.ContainerState `json:"status"`
	Bundle      string               `json:"bundle"`
	Rootfs      string               `json:"rootfs"`
	Created     time.Time            `json:"created"`
	Annotations map[string]string    `json:"annotations,omitempty"`
	// Owner is the state directory's; only List fills it, see UID.
	Owner string `json:"owner"`
	// UID is the owner's number.
	UID uint32 `json:"-"`
}

func newInfo(s *state.State) Info {
	i := Info{
		OCIVersion: s.OCIVersion, ID: s.ID, PID: s.Monitor.PID, Status: s.Current(),
		Bundle: s.Bundle, Rootfs: s.Rootfs, Created: s.Created, Annotations: s.Annotations,
	}
	if i.Status == specs.StateStopped {
		i.PID = 0
	}
	return i
}

// State describes a container.
func (e *Engine) State(id string) (Info, error) {
	s, err := e.Store.Load(id)
	if err != nil {
		return Info{}, err
	}
	return newInfo(s), nil
}

// List describes all containers. Those that cannot be read are in the error,
// the others are returned nevertheless. A store that does not exist gives
// fs.ErrNotExist.
func (e *Engine) List() ([]Info, error) {
	ids, err := e.Store.List()
	if err != nil {
		return nil, err
	}
	var all []Info
	var problems []error
	for _, id := range ids {
		i, err := e.listed(id)
		switch {
		case errors.Is(err, state.ErrNotExist), errors.Is(err, fs.ErrNotExist):
			// Deleted meanwhile, or not complete.
		case err != nil:
			problems = append(problems, fmt.Errorf("load container %s: %w", id, err))
		default:
			all = append(all, i)
		}
	}
	return all, errors.Join(problems...)
}

func (e *Engine) listed(id string) (Info, error) {
	i, err := e.State(id)
	if err != nil {
		return Info{}, err
	}
	var st unix.Stat_t
	if err := unix.Stat(e.Store.Path(id, "."), &st); err != nil {
		return Info{}, &os.PathError{Op: "stat", Path: id, Err: err}
	}
	i.UID = st.Uid
	return i, nil
}

// Bundle is the directory that a container was made from.
func (e *Engine) Bundle(id string) (string, error) {
	s, err := e.Store.Load(id)
	if err != nil {
		return "", err
	}
	return s.Bundle, nil
}

// Processes lists the processes of a container, in the guest's numbers. One that
// has stopped has none.
func (e *Engine) Processes(ctx context.Context, id string) ([]*api.Process, error) {
	s, err := e.Store.Load(id)
	if err != nil {
		return nil, err
	}
	if s.Current() == specs.StateStopped {
		return nil, nil
	}
	var all []*api.Process
	err = e.ask(ctx, id, func(ctx context.Context, agent *api.Client) error {
		resp, err := agent.Machine.Processes(ctx, &api.ProcessesRequest{Id: id})
		all = resp.GetProcesses()
		return agentError(err)
	})
	return all, err
}
