// Command microvm-runtime is an OCI runtime that gives every container a
// machine of its own. Its verbs, flags, outputs and messages are runc's.
package main

import (
	"os"

	"github.com/microvm/microvm/runtime/anchor"
	"github.com/microvm/microvm/runtime/sandbox"
)

// version is set by the linker.
var version = "unknown"

// started is the zero of timelines, a time of sandbox.Now.
var started = sandbox.Now()

func init() { anchor.Main() }

func main() {
	go func() { os.Exit(run(os.Args)) }()
	anchor.Serve()
}
