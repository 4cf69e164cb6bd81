package kubernetes

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/microvm/microvm/tests/kubernetes/node"
)

// TestDeployment scales one from none to ten and down to two, all of which are
// ready.
func TestDeployment(t *testing.T) {
	each(t, func(s *space) {
		s.apply(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: idle}
spec:
  replicas: 0
  selector: {matchLabels: {app: idle}}
  template:
    metadata: {labels: {app: idle}}
    spec:
      runtimeClassName: CLASS
      terminationGracePeriodSeconds: 1
      containers: [{name: main, image: IMAGE, resources: {limits: {memory: 32Mi, cpu: 100m}, requests: {cpu: 10m}}}]
`)
		for _, count := range []string{"10", "2"} {
			s.kubectl("scale", "deployment/idle", "--replicas="+count)
			s.kubectl("rollout", "status", "deployment/idle", "--timeout="+patience.String())
			s.becomes("deployment/idle", ".status.readyReplicas", count)
			s.eventually("pods", func() error {
				pods, err := s.try("get", "pods", "-o", "name")
				if n := strings.Count(pods, "\n"); err == nil && fmt.Sprint(n) != count {
					err = fmt.Errorf("%d pods", n)
				}
				return err
			})
		}
	})
}

// TestJob runs one that succeeds at its second attempt, and one that fails.
func TestJob(t *testing.T) {
	each(t, func(s *space) {
		s.apply(`
apiVersion: batch/v1
kind: Job
metadata: {name: good}
spec:
  completions: 2
  parallelism: 2
  completionMode: Indexed
  template:
    spec: {runtimeClassName: CLASS, restartPolicy: Never, containers: [{name: main, image: IMAGE, command: [sh, -c, 'echo index $JOB_COMPLETION_INDEX']}]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: bad}
spec:
  backoffLimit: 0
  template:
    metadata: {labels: {job: bad}}
    spec: {runtimeClassName: CLASS, restartPolicy: Never, containers: [{name: main, image: IMAGE, command: [sh, -c, 'exit 7']}]}
`)
		s.wait("job/good", "condition=Complete")
		s.wait("job/bad", "condition=Failed")
		s.expect("exit code", s.kubectl("get", "pods", "-l", "job=bad", "-o", "jsonpath={.items[*].status.containerStatuses[0].state.terminated.exitCode}"), "7")
		logs := s.kubectl("logs", "-l", "batch.kubernetes.io/job-name=good", "--tail=-1")
		if !containsAll(logs, []string{"index 0\n", "index 1\n"}) {
			s.Errorf("logs: %q", logs)
		}
	})
}

// TestCronJob runs the job of one, as `kubectl create job` does: the minute is the
// controller's.
func TestCronJob(t *testing.T) {
	each(t, func(s *space) {
		s.apply(`
apiVersion: batch/v1
kind: CronJob
metadata: {name: daily}
spec:
  schedule: "0 4 * * *"
  jobTemplate: {spec: {template: {spec: {runtimeClassName: CLASS, restartPolicy: Never, containers: [{name: main, image: IMAGE, command: [echo, done]}]}}}}
`)
		s.kubectl("create", "job", "now", "--from=cronjob/daily")
		s.wait("job/now", "condition=Complete")
		s.expect("log", s.kubectl("logs", "job/now"), "done")
	})
}

// TestStatefulSet finds what it has written when its pod comes back under the same
// name, and TestDaemonSet has its pod on the node.
func TestStatefulSet(t *testing.T) {
	each(t, func(s *space) {
		dir := t.TempDir()
		s.apply(`
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      runtimeClassName: CLASS
      terminationGracePeriodSeconds: 1
      volumes: [{name: data, hostPath: {path: ` + dir + `, type: Directory}}]
      containers: [{name: main, image: IMAGE, command: [sh, -c, 'echo $HOSTNAME >>/data/starts; exec sleep 1000'], volumeMounts: [{name: data, mountPath: /data}]}]
`)
		s.kubectl("rollout", "status", "statefulset/db", "--timeout="+patience.String())
		s.kubectl("delete", "pod", "db-0")
		s.kubectl("rollout", "status", "statefulset/db", "--timeout="+patience.String())
		s.ready("db-0")
		s.expect("starts", s.run("db-0", "cat /data/starts"), "db-0\ndb-0")
	})
}

func TestDaemonSet(t *testing.T) {
	each(t, func(s *space) {
		s.apply(`
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec: {runtimeClassName: CLASS, terminationGracePeriodSeconds: 1, containers: [{name: main, image: IMAGE}]}
`)
		s.kubectl("rollout", "status", "daemonset/agent", "--timeout="+patience.String())
		s.becomes("daemonset/agent", ".status.numberReady", "1")
	})
}

// TestRuntimeClass has pods count their machine's overhead, and wait for a node that
// has the runtime.
func TestRuntimeClass(t *testing.T) {
	s := newSpace(t, "microvm")
	key, _, _ := strings.Cut(node.Label, "=")
	s.kubectl("label", "node", node.Name, key+"-")
	s.Cleanup(func() { s.kubectl("label", "--overwrite", "node", node.Name, node.Label) })
	s.pod("p", idle)
	s.event("p", "FailedScheduling", "node affinity/selector")
	s.kubectl("label", "node", node.Name, node.Label)
	s.ready("p")
	for _, resource := range []string{"memory", "cpu"} {
		got := s.get("pod/p", ".spec.overhead."+resource)
		if s.expect("overhead", got, s.get("runtimeclass/microvm", ".overhead.podFixed."+resource)); got == "" {
			s.Errorf("a pod has no overhead of %s", resource)
		}
	}
}

// TestManifestOfPod runs the first pod that the README has somebody try, in a kernel
// that is not the host's.
func TestManifestOfPod(t *testing.T) {
	s := newSpace(t, "microvm")
	text, err := exec.Command(s.node.Runtime(), "manifest", "pod").Output()
	if err != nil {
		s.Fatal(err)
	}
	// There is no registry.
	s.apply(strings.Replace(string(text), "docker.io/library/busybox:latest", "IMAGE", 1))
	s.ready("own-kernel")
	host, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		s.Fatal(err)
	}
	if got := s.kubectl("logs", "own-kernel"); got == "" || got == string(host) {
		s.Errorf("kernel of the pod: %q, of the host: %q", got, host)
	}
}
