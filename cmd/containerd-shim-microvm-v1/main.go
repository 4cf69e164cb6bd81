// Command containerd-shim-microvm-v1 is containerd's runtime
// io.containerd.microvm.v1: tasks that run in machines of their own.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/containerd/containerd/v2/pkg/shim"

	"github.com/microvm/microvm/shim/manager"
	"github.com/microvm/microvm/shim/sandbox"
	"github.com/microvm/microvm/shim/task"
)

// version is set by the linker.
var version = "unknown"

func main() {
	handled, err := manager.StartByFlags(os.Args[1:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", manager.Name, err)
		os.Exit(1)
	}
	if handled {
		return
	}
	task.Register()
	sandbox.Register()
	// The machine's processes are waited for by those who start them.
	shim.RunShim(context.Background(), manager.New(version), func(c *shim.Config) { c.NoReaper, c.NoSubreaper = true, true })
}
