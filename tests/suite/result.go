package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// result is what one suite yielded.
type result struct {
	name     string
	detailed bool // whether subtests are shown
	// outcomes are by the keys of tests, in order of their first end.
	outcomes map[string]outcome
	order    []string
	// again are tests that failed and passed when they were run again.
	again []second
	err   error
	took  time.Duration
}

// outcome is how a test ended: "pass", "fail" or "skip", and why it did not pass.
type outcome struct{ action, reason string }

func newResult(name string) *result {
	return &result{name: name, outcomes: map[string]outcome{}}
}

// key names a test, or with an empty one the package itself.
func key(pkg, test string) string { return strings.TrimSpace(pkg + " " + test) }

// set records how a test ended; a later end of the same test counts.
func (r *result) set(k string, o outcome) {
	if _, ok := r.outcomes[k]; !ok {
		r.order = append(r.order, k)
	}
	r.outcomes[k] = o
}

// drop forgets a test.
func (r *result) drop(k string) {
	delete(r.outcomes, k)
	r.order = slices.DeleteFunc(r.order, func(other string) bool { return other == k })
}

// with returns the keys of the tests that ended so.
func (r *result) with(action string) (keys []string) {
	for _, k := range r.order {
		if r.outcomes[k].action == action {
			keys = append(keys, k)
		}
	}
	return keys
}

func (r *result) good() bool {
	return r.err == nil && len(r.with("fail")) == 0 && len(r.with("pass")) > 0
}

// reportSkips prints the tests that did not run.
func (r *result) reportSkips() {
	for _, k := range r.with("skip") {
		fmt.Printf("skipped  %-14s %s: %s\n", r.name, k, r.outcomes[k].reason)
	}
}

// reportFailures prints what went wrong.
func (r *result) reportFailures() {
	for _, t := range r.again {
		fmt.Printf("again    %-14s %s failed at first:\n%s", r.name, t.key, indented(t.reason))
	}
	for _, k := range r.with("fail") {
		fmt.Printf("FAILED   %-14s %s\n%s", r.name, k, indented(r.outcomes[k].reason))
	}
}

// indented sets text below a line of the report.
func indented(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		fmt.Fprintf(&b, "         %s\n", strings.TrimSpace(line))
	}
	return b.String()
}

// summarize prints the sums and says whether all is well.
func summarize(results []*result) bool {
	fmt.Println()
	for _, r := range results {
		r.reportSkips()
	}
	for _, r := range results {
		r.reportFailures()
	}
	var passed, failed, skipped int
	good := true
	for _, r := range results {
		note := ""
		if r.err != nil {
			note = "  (" + r.err.Error() + ")"
		}
		p, f, s := len(r.with("pass")), len(r.with("fail")), len(r.with("skip"))
		fmt.Printf("%-18s %4d passed, %d failed, %d skipped in %s%s\n", r.name+":", p, f, s, r.took.Round(time.Second), note)
		passed, failed, skipped = passed+p, failed+f, skipped+s
		good = good && r.good()
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped)
	return good
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}
