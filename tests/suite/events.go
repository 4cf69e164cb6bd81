package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// event is a line of `go test -json` (see go doc test2json).
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
}

// collect reads events from r until its end, shows what a person wants to see
// and adds them up in res.
func (res *result) collect(r io.Reader, log io.Writer) error {
	output := map[string]*strings.Builder{}
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 64<<10), 16<<20)
	for sc.Scan() {
		var e event
		if json.Unmarshal(sc.Bytes(), &e) != nil || e.Action == "" {
			fmt.Fprintf(log, "%s\n", sc.Bytes())
			fmt.Fprintf(os.Stderr, "%s\n", sc.Bytes())
			continue
		}
		key := e.Package + " " + e.Test
		if e.Action == "output" || e.Action == "build-output" {
			fmt.Fprint(log, e.Output)
			if output[key] == nil {
				output[key] = &strings.Builder{}
			}
			output[key].WriteString(e.Output)
			continue
		}
		res.add(e, output[key])
		if e.Action == "pass" || e.Action == "skip" || e.Action == "fail" {
			delete(output, key)
		}
	}
	return sc.Err()
}

func (res *result) add(e event, output *strings.Builder) {
	text := ""
	if output != nil {
		text = output.String()
	}
	if e.Test == "" {
		res.addPackage(e, text)
		return
	}
	k := key(e.Package, e.Test)
	switch e.Action {
	case "pass":
		res.set(k, outcome{action: "pass"})
		if res.detailed || !strings.Contains(e.Test, "/") {
			fmt.Printf("ok       %-14s %s\n", res.name, e.Test)
		}
	case "skip":
		res.set(k, outcome{action: "skip", reason: skipReason(text)})
	case "fail":
		res.set(k, outcome{action: "fail", reason: failReason(text)})
		fmt.Printf("FAIL     %-14s %s\n%s", res.name, e.Test, text)
	}
}

// addPackage counts a package that failed outside of any test: it did not
// build, panicked or was killed.
func (res *result) addPackage(e event, text string) {
	if e.Action != "fail" && e.Action != "build-fail" {
		return
	}
	inTest := slices.ContainsFunc(res.with("fail"), func(k string) bool { return strings.HasPrefix(k, e.Package+" ") })
	if !inTest || strings.Contains(text, "[build failed]") {
		res.set(key(e.Package, ""), outcome{action: "fail"})
	}
	fmt.Printf("FAIL     %-14s %s\n%s", res.name, e.Package, text)
}

// skipReason finds the message of t.Skip in a test's output.
func skipReason(text string) string {
	if lines := said(text); len(lines) > 0 {
		return lines[0]
	}
	return "no reason given"
}

// failReason is how a failed test's output begins.
func failReason(text string) string {
	lines := said(text)
	return strings.Join(lines[:min(len(lines), 12)], "\n")
}

// said are the lines of a test's output that it printed itself.
func said(text string) (lines []string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") {
			lines = append(lines, line)
		}
	}
	return lines
}
