package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/microvm/microvm/vmm/control"
)

// requestGrace is how long the VM process may take to answer: it asks nobody itself.
const requestGrace = 10 * time.Second

// request asks the VM process, which is handed files, and waits for the answer.
func (vm *VM) request(ctx context.Context, r control.Request, files ...*os.File) (control.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, requestGrace)
	defer cancel()
	reply := make(chan control.Event, 1)
	vm.mu.Lock()
	vm.seq++
	r.Seq = vm.seq
	vm.replies[r.Seq] = reply
	vm.mu.Unlock()
	defer vm.forget(r.Seq)
	if err := vm.control.Send(r, files...); err != nil {
		return control.Event{}, err
	}
	select {
	case e := <-reply:
		if e.Error != "" {
			return e, fmt.Errorf("%s: %w", r.Op, errors.New(e.Error))
		}
		return e, nil
	case <-vm.done:
		return control.Event{}, vm.end
	case <-ctx.Done():
		return control.Event{}, fmt.Errorf("%s: the VM process is silent: %w", r.Op, ctx.Err())
	}
}

func (vm *VM) forget(seq uint64) {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	delete(vm.replies, seq)
}

// Console asks for the guest's last words, see [End].
func (vm *VM) Console(ctx context.Context) (string, error) {
	e, err := vm.request(ctx, control.Request{Op: control.OpConsole})
	return e.Console, err
}
