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
	"strings"
	"sync"
	"time"

	"github.com/microvm/microvm/tests/lab"
)

func main() {
	out := flag.String("out", "tests/out", "directory for the suites' logs")
	flag.Usage = usage
	flag.Parse()
	names := flag.Args()
	if len(names) == 0 {
		names = []string{"unit", "e2e-software", "engines-software", "shim-software", "oci", "kvm", "e2e-kvm", "engines-kvm"}
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

func summarize(results []*result) bool {
	var sum result
	good := true
	fmt.Println()
	for _, r := range results {
		for _, s := range r.skipReasons {
			fmt.Printf("skipped  %-14s %s\n", r.name, s)
		}
		for _, f := range r.failures {
			fmt.Printf("FAILED   %-14s %s\n", r.name, f)
		}
	}
	for _, r := range results {
		note := ""
		if r.err != nil {
			note = "  (" + r.err.Error() + ")"
		}
		fmt.Printf("%-14s %4d passed, %d failed, %d skipped in %s%s\n", r.name+":", r.passed, r.failed, r.skipped, r.took.Round(time.Second), note)
		sum.passed += r.passed
		sum.failed += r.failed
		sum.skipped += r.skipped
		good = good && r.good()
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", sum.passed, sum.failed, sum.skipped)
	return good
}

// result is what one suite yielded.
type result struct {
	name                    string
	detailed                bool // whether subtests are shown
	passed, failed, skipped int
	packages                int             // failed packages among the failed
	finished                map[string]bool // tests that came to an end
	skipReasons             []string
	failures                []string
	err                     error
	took                    time.Duration
}

func (r *result) good() bool { return r.err == nil && r.failed == 0 && r.passed > 0 }

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}
