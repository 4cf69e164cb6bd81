// Package reexec makes a program able to start containers: libcontainer starts
// each process of a container by running its own program again with the
// argument "init".
//
// A main package imports it for its side effect. It is a package of its own,
// with few imports, because packages are initialised in the order of their
// paths: the second run is over before what only the agent needs is set up.
package reexec

import (
	"os"

	"github.com/opencontainers/runc/libcontainer"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // enters the namespaces before Go's runtime starts
)

func init() {
	if len(os.Args) > 1 && os.Args[1] == "init" {
		libcontainer.Init() // does not return
	}
}
