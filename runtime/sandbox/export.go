package sandbox

import (
	"context"
	"fmt"

	"github.com/microvm/microvm/vmm/control"
)

// AddExport shows the running guest one more directory or file.
func (vm *VM) AddExport(ctx context.Context, x Export) error {
	f, err := x.open()
	if err != nil {
		return fmt.Errorf("open export %s: %w", x.Name, err)
	}
	defer f.Close()
	export := x.described(0) // f goes along
	_, err = vm.request(ctx, control.Request{Op: control.OpAddExport, Export: &export}, f)
	return err
}

// RemoveExport takes away what AddExport, or the machine's configuration, has
// shown.
func (vm *VM) RemoveExport(ctx context.Context, name string) error {
	_, err := vm.request(ctx, control.Request{Op: control.OpRemoveExport, Export: &control.Export{Name: name}})
	return err
}
