// Command suite runs the project's test suites, those in the lab beside those on
// this host, and prints, for each of them and in sum, what passed, failed and
// was skipped, and why.
//
//	suite [-out DIR] NAME...
//
// It exits with 1 when a test failed, a suite could not run, or ran no test.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/microvm/microvm/tests/lab"
)

func main() {
	out := flag.String("out", "tests/out", "directory for the suites' logs")
	flag.Usage = usage
	flag.Parse()
	names := flag.Args()
	if len(names) == 0 {
		names = []string{"unit", "e2e-software", "engines-software", "shim-software", "chaos-software", "oci", "kvm", "e2e-kvm", "engines-kvm"}
	}
	if err := os.MkdirAll(*out, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, "suite:", err)
		os.Exit(1)
	}
	if !runAll(names, *out) {
		os.Exit(1)
	}
}

func usage() {
	fmt.Fprintln(flag.CommandLine.Output(), "usage: suite [-out DIR] NAME...\n\nsuites:")
	for _, s := range suites {
		fmt.Fprintf(flag.CommandLine.Output(), "  %-14s %s\n", s.name, s.about)
	}
}

func runAll(names []string, out string) bool {
	var chosen []*suite
	for _, name := range names {
		s := find(name)
		if s == nil {
			fmt.Fprintf(os.Stderr, "suite: no suite %q\n", name)
			return false
		}
		chosen = append(chosen, s)
	}
	results := make([]*result, len(chosen))
	var running sync.WaitGroup
	for _, lane := range lanes(chosen) {
		running.Go(func() {
			for _, i := range lane {
				results[i] = chosen[i].run(filepath.Join(out, chosen[i].name+".log"))
			}
		})
	}
	running.Wait()
	return summarize(results)
}

// lanes are the indices of suites that run one after the other, beside the
// other lanes. What runs in the lab has a machine of one processor for itself;
// what runs on this host has to be alone there, as tests look for leftovers.
func lanes(chosen []*suite) [][]int {
	here, inLab := []int{}, []int{}
	hardware := lab.CheckHardware() == nil
	for i, s := range chosen {
		if s.binaries == nil || hardware {
			here = append(here, i)
		} else {
			inLab = append(inLab, i)
		}
	}
	return [][]int{here, inLab}
}
