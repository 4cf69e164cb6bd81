package kubernetes

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/microvm/microvm/tests/kubernetes/node"
)

// TestInitAndSidecar has init containers run one after the other, a sidecar that
// starts before the main container and ends after it, and shares the machine.
func TestInitAndSidecar(t *testing.T) {
	each(t, func(s *space) {
		s.pod("p", `
restartPolicy: Never
volumes: [{name: shared, emptyDir: {}}]
initContainers:
- {name: first, image: IMAGE, command: [sh, -c, 'echo first >>/shared/order'], volumeMounts: [{name: shared, mountPath: /shared}]}
- name: side
  image: IMAGE
  restartPolicy: Always
  command: [sh, -c, 'echo side >>/shared/order; trap "echo side ends; exit" TERM; while :; do sleep 0.1; done']
  volumeMounts: [{name: shared, mountPath: /shared}]
- {name: second, image: IMAGE, command: [sh, -c, 'until grep side /shared/order; do sleep 0.1; done; echo second >>/shared/order'], volumeMounts: [{name: shared, mountPath: /shared}]}
containers:
- {name: main, image: IMAGE, command: [sh, -c, 'echo main >>/shared/order; cat /shared/order'], volumeMounts: [{name: shared, mountPath: /shared}]}
`)
		s.becomes("pod/p", ".status.phase", "Succeeded")
		s.expect("order", s.kubectl("logs", "p", "-c", "main"), "first\nside\nsecond\nmain")
		s.expect("sidecar's log", s.kubectl("logs", "p", "-c", "side"), "side ends")
	})
}

// TestRestart restarts a container that fails, with back-off, in the machine that
// is there, beside one that stays.
func TestRestart(t *testing.T) {
	each(t, func(s *space) {
		s.pod("p", `
volumes: [{name: shared, emptyDir: {}}]
containers:
- {name: fails, image: IMAGE, command: [sh, -c, 'cat /proc/sys/kernel/random/boot_id >>/shared/boots; echo attempt; exit 3'], volumeMounts: [{name: shared, mountPath: /shared}]}
- {name: stays, image: IMAGE, command: [sh, -c, 'exec sleep 1000'], volumeMounts: [{name: shared, mountPath: /shared}]}
`)
		const fails = `.status.containerStatuses[?(@.name=="fails")]`
		s.becomes("pod/p", fails+".restartCount", "2")
		s.becomes("pod/p", fails+".state.waiting.reason", "CrashLoopBackOff")
		s.expect("exit code", s.get("pod/p", fails+".lastState.terminated.exitCode"), "3")
		s.expect("restarts of the other", s.get("pod/p", `.status.containerStatuses[?(@.name=="stays")].restartCount`), "0")
		s.expect("log of the previous", s.kubectl("logs", "p", "-c", "fails", "--previous"), "attempt")
		s.expect("boots", s.kubectl("exec", "p", "-c", "stays", "--", "sh", "-c", "sort -u /shared/boots | wc -l"), "1")
	})
}

// TestNeverRestart ends in the phase and with the reason and message that its
// container gives.
func TestNeverRestart(t *testing.T) {
	each(t, func(s *space) {
		s.pod("p", `
restartPolicy: Never
containers: [{name: main, image: IMAGE, command: [sh, -c, 'echo because >/dev/termination-log; exit 5']}]
`)
		s.becomes("pod/p", ".status.phase", "Failed")
		const ended = ".status.containerStatuses[0].state.terminated"
		s.expect("status", s.get("pod/p", ended+".exitCode")+" "+s.get("pod/p", ended+".reason")+" "+s.get("pod/p", ended+".message"), "5 Error because")
	})
}

// TestProbes has a pod that is ready only while its readiness probe says so, of
// every kind that needs no program of its own, and one that its liveness probe
// restarts.
func TestProbes(t *testing.T) {
	each(t, func(s *space) {
		s.pod("p", `
containers:
- name: http
  image: IMAGE
  command: [sh, -c, 'mkdir -p /www && echo yes >/www/ok && exec httpd -f -p 8080 -h /www']
  startupProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: 120}
  readinessProbe: {httpGet: {path: /ok, port: 8080}, periodSeconds: 1, timeoutSeconds: 10}
- name: exec
  image: IMAGE
  command: [sh, -c, 'touch /tmp/alive; exec sleep 1000']
  livenessProbe: {exec: {command: [cat, /tmp/alive]}, periodSeconds: 1, timeoutSeconds: 20, failureThreshold: 1}
`)
		s.ready("p")
		s.kubectl("exec", "p", "-c", "http", "--", "mv", "/www/ok", "/www/no")
		s.wait("pod/p", "condition=Ready=false")
		s.kubectl("exec", "p", "-c", "http", "--", "mv", "/www/no", "/www/ok")
		s.ready("p")
		s.kubectl("exec", "p", "-c", "exec", "--", "rm", "/tmp/alive")
		s.becomes("pod/p", `.status.containerStatuses[?(@.name=="exec")].restartCount`, "1")
		s.event("p", "Unhealthy", "Liveness probe failed")
		s.ready("p")
		s.expect("restarts of the other", s.get("pod/p", `.status.containerStatuses[?(@.name=="http")].restartCount`), "0")
	})
}

// TestGRPCProbe has a pod that is ready while its program says so over gRPC.
func TestGRPCProbe(t *testing.T) {
	each(t, func(s *space) {
		program := health(s)
		s.pod("p", `
volumes: [{name: program, hostPath: {path: `+program+`, type: File}}]
containers:
- name: main
  image: IMAGE
  command: [/health, ":9000"]
  volumeMounts: [{name: program, mountPath: /health, readOnly: true}]
  startupProbe: {grpc: {port: 9000}, periodSeconds: 1, failureThreshold: 120}
  readinessProbe: {grpc: {port: 9000}, periodSeconds: 1, timeoutSeconds: 10}
`)
		s.ready("p")
		s.kubectl("exec", "p", "--", "kill", "-USR1", "1")
		s.wait("pod/p", "condition=Ready=false")
		s.event("p", "Unhealthy", "NOT_SERVING")
	})
}

// health is that program: beside a test that was built before it came to where it
// runs, and else it is built.
func health(s *space) string {
	s.Helper()
	if self, err := os.Executable(); err == nil {
		program := filepath.Join(filepath.Dir(self), "health")
		if _, err := os.Stat(program); err == nil {
			return program
		}
	}
	program := s.TempDir() + "/health"
	build := exec.Command("go", "build", "-o", program, "./cmd/health")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		s.Fatalf("build health: %v: %s", err, said)
	}
	return program
}

// TestTermination sends exactly one SIGTERM, after the hook, to a container that
// goes on for three seconds then.
func TestTermination(t *testing.T) {
	each(t, func(s *space) {
		dir := t.TempDir()
		s.pod("p", `
volumes: [{name: out, hostPath: {path: `+dir+`}}]
containers:
- name: main
  image: IMAGE
  command: [sh, -c, 'n=0; trap "echo term >>/out/log; n=1" TERM; while [ $n -lt 15 ]; do sleep 0.2; [ $n = 0 ] || n=$((n+1)); done']
  volumeMounts: [{name: out, mountPath: /out}]
  lifecycle:
    postStart: {exec: {command: [sh, -c, 'echo post >>/out/log']}}
    preStop: {exec: {command: [sh, -c, 'echo pre >>/out/log']}}
`)
		s.ready("p")
		s.kubectl("delete", "pod", "p", "--grace-period=120", "--timeout="+patience.String())
		s.expect("log", readFile(s, dir+"/log"), "post\npre\nterm")
	})
}

// TestProcessNamespace sees the other container's processes only where the pod
// says so, and then may end them.
func TestProcessNamespace(t *testing.T) {
	each(t, func(s *space) {
		for _, shared := range []bool{false, true} {
			name := fmt.Sprintf("p-%v", shared)
			s.pod(name, fmt.Sprintf(`
shareProcessNamespace: %v
containers:
- {name: main, image: IMAGE, command: [sh, -c, 'exec sleep 1000']}
- {name: other, image: IMAGE, command: [sh, -c, 'exec sleep 2000']}
`, shared))
			s.ready(name)
			if sees := strings.Contains(s.run(name, "ps"), "sleep 2000"); sees != shared {
				s.Errorf("share %v, sees %v", shared, sees)
			}
			s.kubectl("delete", "pod", name, "--wait=false")
		}
	})
}

// TestDebug joins a pod that runs with another container, which sees its
// processes.
func TestDebug(t *testing.T) {
	each(t, func(s *space) {
		s.pod("p", `
containers: [{name: main, image: IMAGE, command: [sh, -c, 'exec sleep 4321']}]
`)
		s.ready("p")
		s.kubectl("debug", "p", "--image="+node.Image, "--image-pull-policy=Never", "--target=main", "--container=look", "--profile=general", "--", "sh", "-c", "ps; sleep 1000")
		s.says("p", "sleep 4321", "-c", "look")
	})
}
