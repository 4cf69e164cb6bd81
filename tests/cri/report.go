package cri

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// patience bounds all of critest with one handler: in software, a pod takes
// seconds.
const patience = time.Hour

// report is the part of Ginkgo's that counts: one for each suite.
type report []struct{ SpecReports []spec }

// spec is what became of one of critest's tests.
type spec struct {
	ContainerHierarchyTexts []string
	LeafNodeText            string
	// State is passed, failed, panicked, timedout, interrupted or skipped.
	State   string
	RunTime time.Duration
	Failure struct{ Message string }
	// What it did, and what it said when it was told of errors.
	CapturedGinkgoWriterOutput string
}

// name is one line, without the mark of the project.
func (s spec) name() string {
	all := strings.Join(append(s.ContainerHierarchyTexts, s.LeafNodeText), " ")
	return strings.TrimPrefix(all, "[k8s.io] ")
}

// runCritest runs the tests whose names match focus, all if it is empty, with a
// handler of the daemon at socket.
func runCritest(critest, dir, socket, handler, focus string) ([]spec, error) {
	file := filepath.Join(dir, handler+".json")
	timeout := fmt.Sprintf("-test.timeout=%v", patience)
	cmd := exec.Command(filepath.Join(critest, "critest"), timeout, "-ginkgo.timeout="+patience.String(),
		"-config=/nonexistent", "-runtime-endpoint=unix://"+socket, "-runtime-handler="+handler,
		"-ginkgo.json-report="+file, "-ginkgo.randomize-all=false", "-ginkgo.no-color", "-ginkgo.focus="+focus)
	output, failed := cmd.CombinedOutput()
	data, err := os.ReadFile(file)
	var r report
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil {
		return nil, fmt.Errorf("critest says nothing of its tests: %w: %.4000s", errors.Join(failed, err), output)
	}
	var all []spec
	for _, suite := range r {
		all = append(all, suite.SpecReports...)
	}
	// Benchmarks are no tests, and the nodes around tests have no name.
	return slices.DeleteFunc(all, func(s spec) bool { return s.LeafNodeText == "" || strings.Contains(s.name(), "benchmark about") }), nil
}
