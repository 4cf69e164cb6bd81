// Command suite runs the project's test suites one after the other and prints,
// for each of them and in sum, what passed, failed and was skipped, and why.
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
	"time"
)

func main() {
	out := flag.String("out", "tests/out", "directory for the suites' logs")
	flag.Usage = usage
	flag.Parse()
	names := flag.Args()
	if len(names) == 0 {
		names = []string{"unit", "e2e-software", "engines-software", "oci", "kvm", "e2e-kvm", "engines-kvm"}
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
	var results []*result
	for _, name := range names {
		s := find(name)
		if s == nil {
			fmt.Fprintf(os.Stderr, "suite: no suite %q\n", name)
			return false
		}
		results = append(results, s.run(filepath.Join(out, name+".log")))
	}
	return summarize(results)
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
