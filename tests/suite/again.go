package main

import (
	"fmt"
	"os/exec"
	"strings"
)

// runAgain runs the tests of pkg that failed once more, if they are at most
// few, and the sums name those that pass then with how they failed at first: a
// black-box test goes through daemons and emulators that now and then fail for
// reasons of their own, on machines that may be busy. Unit tests get no second
// chance. Neither does more than one suite's handful: that is a fault.
func (s *suite) runAgain(res *result, pkg string, few int, run func(names []string) error) error {
	failed := res.topLevel(pkg, "fail")
	if len(failed) == 0 || len(failed) > few {
		return nil
	}
	fmt.Printf("AGAIN    %-14s %s\n", s.name, strings.Join(failed, " "))
	first := map[string]string{}
	for _, k := range res.with("fail") {
		if k == pkg || strings.HasPrefix(k, pkg+" ") {
			first[topLevel(k)] += res.outcomes[k].reason + "\n"
			res.drop(k)
		}
	}
	if err := run(failed); err != nil {
		return err
	}
	for _, name := range failed {
		if k := key(pkg, name); res.outcomes[k].action == "pass" {
			res.again = append(res.again, second{k, strings.TrimSpace(first[k])})
		}
	}
	return nil
}

// brokeOff says that a compiled test panicked, which leaves tests that did not
// run: failures make it exit with 1.
func brokeOff(cmd *exec.Cmd) bool { return cmd.ProcessState.ExitCode() == 2 }

// second is a test that passed when it was run again, and how it failed before.
type second struct{ key, reason string }

// topLevel is the key of the test that k's subtest is of.
func topLevel(k string) string {
	pkg, test, _ := strings.Cut(k, " ")
	name, _, _ := strings.Cut(test, "/")
	return key(pkg, name)
}

// topLevel returns the names of pkg's tests that ended so, without subtests.
func (res *result) topLevel(pkg, action string) (names []string) {
	for _, k := range res.with(action) {
		name, ours := strings.CutPrefix(k, pkg+" ")
		if ours && !strings.Contains(name, "/") {
			names = append(names, name)
		}
	}
	return names
}
