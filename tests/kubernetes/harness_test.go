// Package kubernetes holds this runtime to what Kubernetes promises of pods, on a
// node of real programs, through kubectl alone. Each test runs with pods in machines
// and with runc, so that a difference is this runtime's. `make kubernetes` starts the
// node; MICROVM_KUBERNETES is its directory if that is not the usual one.
package kubernetes

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/microvm/microvm/tests/kubernetes/node"
)

// patience is for what has to happen; the machine may be slow.
var patience = node.Patience(5 * time.Minute)

// space is a namespace for the pods of a test, all of one runtime class.
type space struct {
	*testing.T
	node *node.Node
	// name is the namespace's, class the runtime class's.
	name, class string
}

// each runs a test with both runtimes.
func each(t *testing.T, test func(s *space)) {
	for _, class := range []string{"microvm", "runc"} {
		t.Run(class, func(t *testing.T) { test(newSpace(t, class)) })
	}
}

func newSpace(t *testing.T, class string) *space {
	t.Helper()
	dir := os.Getenv("MICROVM_KUBERNETES")
	if dir == "" {
		dir = node.DefaultDir
	}
	n, err := node.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))
	s := &space{T: t, node: n, name: name, class: class}
	s.kubectl("create", "namespace", name)
	t.Cleanup(func() {
		if t.Failed() {
			s.explain()
		}
		s.kubectl("delete", "namespace", name, "--timeout="+patience.String())
	})
	s.eventually("the account of pods", func() error {
		_, err := s.try("get", "serviceaccount/default", "configmap/kube-root-ca.crt")
		return err
	})
	return s
}

// explain logs what Kubernetes says of a failed test's pods.
func (s *space) explain() {
	for _, args := range [][]string{
		{"get", "pods", "-o", "wide"}, {"get", "events", "--sort-by=.lastTimestamp", "-o", "custom-columns=A:.involvedObject.name,B:.reason,C:.message"},
	} {
		said, err := s.try(args...)
		s.Logf("kubectl %s: %v\n%s", strings.Join(args, " "), err, said)
	}
}

// command is a call of kubectl in the namespace.
func (s *space) command(args ...string) *exec.Cmd {
	cmd := exec.Command(s.node.Kubectl(), append([]string{"--namespace", s.name}, args...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.node.Kubeconfig())
	return cmd
}

// try runs kubectl and returns its standard output.
func (s *space) try(args ...string) (string, error) {
	return s.feed("", args...)
}

// feed is try with a standard input.
func (s *space) feed(stdin string, args ...string) (string, error) {
	cmd := s.command(args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String(), nil
}

// kubectl is try for what has to work.
func (s *space) kubectl(args ...string) string {
	s.Helper()
	out, err := s.try(args...)
	if err != nil {
		s.Fatal(err)
	}
	return out
}

// apply makes objects of a text in YAML. CLASS stands for the runtime class in it,
// and IMAGE for an image with busybox.
func (s *space) apply(text string) {
	s.Helper()
	text = strings.NewReplacer("CLASS", s.class, "IMAGE", node.Image, "\t", "  ").Replace(text)
	if _, err := s.feed(text, "apply", "-f", "-"); err != nil {
		s.Fatalf("%v\n%s", err, text)
	}
}

// pod makes a pod with that specification, but for its runtime class.
func (s *space) pod(name, spec string) {
	s.Helper()
	s.pods([]string{name}, spec)
}

// pods makes several at once.
func (s *space) pods(names []string, spec string) {
	s.Helper()
	var all strings.Builder
	for _, name := range names {
		all.WriteString(manifest(name, "", spec))
	}
	s.apply(all.String())
}

// annotated makes a pod with annotations, such as "a: b, c: d".
func (s *space) annotated(name, annotations, spec string) {
	s.Helper()
	s.apply(manifest(name, annotations, spec))
}

func manifest(name, annotations, spec string) string {
	return "---\napiVersion: v1\nkind: Pod\nmetadata: {name: " + name + ", labels: {app: " + name + "}, annotations: {" + annotations + "}}\nspec:\n" +
		indent("runtimeClassName: CLASS\nterminationGracePeriodSeconds: 5\n"+spec)
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.Trim(text, "\n"), "\n", "\n  ") + "\n"
}

// wait waits until what is named is in a condition, as kubectl's --for says it.
func (s *space) wait(what, condition string) {
	s.Helper()
	s.kubectl("wait", "--for="+condition, "--timeout="+patience.String(), what)
}

// ready waits until a pod is ready.
func (s *space) ready(pod string) {
	s.Helper()
	s.wait("pod/"+pod, "condition=Ready")
}

// get is a field of an object, by its path as kubectl's jsonpath has it.
func (s *space) get(what, path string) string {
	s.Helper()
	return s.kubectl("get", what, "-o", "jsonpath={"+path+"}")
}

// run is the output of a shell's commands in a pod's container.
func (s *space) run(pod, script string) string {
	s.Helper()
	return s.kubectl("exec", pod, "--", "sh", "-c", script)
}

// expect fails the test where got is not what was wanted, but for white space at
// the ends.
func (s *space) expect(what, got, want string) {
	s.Helper()
	if strings.TrimSpace(got) != want {
		s.Errorf("%s: %q, want %q", what, strings.TrimSpace(got), want)
	}
}

// eventually tries something until it works.
func (s *space) eventually(what string, try func() error) {
	s.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(300 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	s.Fatalf("%s: %v", what, err)
}

// becomes waits until a field is as wanted.
func (s *space) becomes(what, path, want string) {
	s.Helper()
	s.eventually(what+" "+path, func() error {
		got, err := s.try("get", what, "-o", "jsonpath={"+path+"}")
		if err == nil && got != want {
			err = fmt.Errorf("%q, want %q", got, want)
		}
		return err
	})
}

// says waits until a pod's log has a text in it.
func (s *space) says(pod, text string, args ...string) {
	s.Helper()
	s.eventually("log of "+pod, func() error {
		got, err := s.try(append([]string{"logs", pod}, args...)...)
		if err == nil && !strings.Contains(got, text) {
			err = fmt.Errorf("no %q in %q", text, got)
		}
		return err
	})
}

// event waits for an event about a pod whose message has all of the texts in it.
func (s *space) event(pod string, texts ...string) {
	s.Helper()
	s.eventually("event of "+pod, func() error {
		got, err := s.try("get", "events", "--field-selector=involvedObject.name="+pod, "-o", "jsonpath={range .items[*]}{.reason}: {.message}{\"\\n\"}{end}")
		if err != nil {
			return err
		}
		for line := range strings.Lines(got) {
			if containsAll(line, texts) {
				return nil
			}
		}
		return fmt.Errorf("no %q in\n%s", texts, got)
	})
}

func containsAll(text string, parts []string) bool {
	for _, p := range parts {
		if !strings.Contains(text, p) {
			return false
		}
	}
	return true
}
