package kubernetes

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/microvm/microvm/tests/kubernetes/node"
)

// TestOutOfMemory ends a container that takes more than its limit with the status
// which says so, and leaves the one beside it.
func TestOutOfMemory(t *testing.T) {
	each(t, func(s *space) {
		s.pod("p", `
restartPolicy: OnFailure
containers:
- {name: greedy, image: IMAGE, command: [sh, -c, 'sleep 1; exec tail /dev/zero'], resources: {limits: {memory: 32Mi}}}
- {name: modest, image: IMAGE, resources: {limits: {memory: 32Mi}}}
`)
		const greedy = `.status.containerStatuses[?(@.name=="greedy")]`
		s.becomes("pod/p", greedy+".lastState.terminated.reason", "OOMKilled")
		s.expect("exit code", s.get("pod/p", greedy+".lastState.terminated.exitCode"), "137")
		s.expect("restarts of the other", s.get("pod/p", `.status.containerStatuses[?(@.name=="modest")].restartCount`), "0")
	})
}

// TestLimits are seen inside.
func TestLimits(t *testing.T) {
	each(t, func(s *space) {
		s.pod("p", `
containers: [{name: main, image: IMAGE, resources: {limits: {memory: 48Mi, cpu: 500m}, requests: {memory: 16Mi, cpu: 50m}}}]
`)
		s.ready("p")
		s.expect("limits", limits(s), "50331648\n50000")
	})
}

// TestResize gives a container that runs other limits, more than its machine was
// made for and less, which it sees without a restart.
func TestResize(t *testing.T) {
	each(t, func(s *space) {
		s.pod("p", `
containers: [{name: main, image: IMAGE, resources: {limits: {memory: 48Mi, cpu: 500m}, requests: {memory: 16Mi, cpu: 50m}}}]
`)
		s.ready("p")
		for _, c := range []struct{ memory, bytes, cpu, quota string }{{"640Mi", "671088640", "1500m", "150000"}, {"40Mi", "41943040", "250m", "25000"}} {
			s.kubectl("patch", "pod", "p", "--subresource=resize", "-p",
				`{"spec": {"containers": [{"name": "main", "resources": {"limits": {"memory": "`+c.memory+`", "cpu": "`+c.cpu+`"}}}]}}`)
			s.becomes("pod/p", ".status.containerStatuses[0].resources.limits.memory", c.memory)
			s.expect("limits", limits(s), c.bytes+"\n"+c.quota)
		}
		s.expect("restarts", s.get("pod/p", ".status.containerStatuses[0].restartCount"), "0")
	})
}

// limits are those of memory and of processor time that a container sees. A machine's
// control groups are of version 2, whatever the host's are.
func limits(s *space) string {
	s.Helper()
	return s.run("p", "cd /sys/fs/cgroup; cat memory.max memory/memory.limit_in_bytes 2>/dev/null; { cat cpu.max || cat cpu/cpu.cfs_quota_us; } 2>/dev/null | cut -d ' ' -f 1")
}

// TestEphemeralStorage evicts a pod whose container, or volume, takes more of the
// node's disk than it may.
func TestEphemeralStorage(t *testing.T) {
	each(t, func(s *space) {
		const fill = "dd if=/dev/zero of=%s/full bs=1M count=24 && exec sleep 1000"
		s.pod("root", fmt.Sprintf(`
restartPolicy: Never
containers: [{name: main, image: IMAGE, command: [sh, -c, '`+fill+`'], resources: {limits: {ephemeral-storage: 8Mi}}}]
`, ""))
		s.pod("volume", fmt.Sprintf(`
restartPolicy: Never
volumes: [{name: data, emptyDir: {sizeLimit: 8Mi}}]
containers: [{name: main, image: IMAGE, command: [sh, -c, '`+fill+`'], volumeMounts: [{name: data, mountPath: /data}]}]
`, "/data"))
		for pod, why := range map[string]string{"root": "ephemeral", "volume": "EmptyDir"} {
			s.becomes("pod/"+pod, ".status.reason", "Evicted")
			s.becomes("pod/"+pod, ".status.phase", "Failed")
			if got := s.get("pod/"+pod, ".status.message"); !strings.Contains(got, why) {
				s.Errorf("message of %s: %q", pod, got)
			}
		}
	})
}

// summary is of kubelet's what the tests look at.
type summary struct {
	Pods []podStats `json:"pods"`
}

type podStats struct {
	PodRef struct {
		Name, Namespace string
	} `json:"podRef"`
	usage
	Network struct {
		RxBytes uint64 `json:"rxBytes"`
	} `json:"network"`
	Containers []struct {
		Name string `json:"name"`
		usage
		Rootfs struct {
			UsedBytes uint64 `json:"usedBytes"`
		} `json:"rootfs"`
	} `json:"containers"`
}

type usage struct {
	CPU struct {
		UsageNanoCores       uint64 `json:"usageNanoCores"`
		UsageCoreNanoSeconds uint64 `json:"usageCoreNanoSeconds"`
	} `json:"cpu"`
	Memory struct {
		WorkingSetBytes uint64 `json:"workingSetBytes"`
	} `json:"memory"`
}

// TestStatistics tells of a pod and of each of its containers what they take: the
// one that has filled a file system in memory has that, the one that is busy has
// the processor.
func TestStatistics(t *testing.T) {
	each(t, func(s *space) {
		s.pod("p", `
volumes: [{name: memory, emptyDir: {medium: Memory}}]
containers:
- {name: full, image: IMAGE, command: [sh, -c, 'dd if=/dev/zero of=/memory/full bs=1M count=40 && exec sleep 1000'], volumeMounts: [{name: memory, mountPath: /memory}], resources: {limits: {memory: 96Mi}}}
- {name: busy, image: IMAGE, command: [sh, -c, 'while :; do :; done'], resources: {limits: {cpu: 200m}}}
`)
		s.ready("p")
		s.eventually("statistics", func() error {
			text, err := s.try("get", "--raw", "/api/v1/nodes/"+node.Name+"/proxy/stats/summary")
			if err != nil {
				return err
			}
			var all summary
			if err := json.Unmarshal([]byte(text), &all); err != nil {
				return err
			}
			for _, p := range all.Pods {
				if p.PodRef.Namespace == s.name {
					return plausible(p)
				}
			}
			return fmt.Errorf("no pod of %s among %d", s.name, len(all.Pods))
		})
		for _, name := range []string{"full", "busy"} {
			s.eventually("metrics of "+name, func() error { return hasMetrics(s, name) })
		}
		s.kubectl("delete", "pod", "p", "--grace-period=1")
	})
}

// hasMetrics tells whether kubelet's resource metrics, of which `kubectl top` is,
// have a container's memory and processor time.
func hasMetrics(s *space, container string) error {
	text, err := s.try("get", "--raw", "/api/v1/nodes/"+node.Name+"/proxy/metrics/resource")
	if err != nil {
		return err
	}
	for _, metric := range []string{"container_memory_working_set_bytes", "container_cpu_usage_seconds_total"} {
		line := fmt.Sprintf("%s{container=%q,namespace=%q,pod=\"p\"} ", metric, container, s.name)
		if _, after, ok := strings.Cut(text, "\n"+line); !ok || strings.HasPrefix(after, "0 ") {
			return fmt.Errorf("no %sin what kubelet says", line)
		}
	}
	return nil
}

// plausible tells what is wrong with the numbers of that test.
func plausible(p podStats) error {
	const mib = 1 << 20
	if len(p.Containers) != 2 {
		return fmt.Errorf("%d containers", len(p.Containers))
	}
	if m := p.Memory.WorkingSetBytes; m < 40*mib {
		return fmt.Errorf("memory of the pod is %d", m)
	}
	if p.CPU.UsageCoreNanoSeconds == 0 || p.Network.RxBytes == 0 {
		return fmt.Errorf("pod has processor time %d, %d bytes received", p.CPU.UsageCoreNanoSeconds, p.Network.RxBytes)
	}
	for _, c := range p.Containers {
		memory, busy := c.Memory.WorkingSetBytes, c.CPU.UsageNanoCores
		switch c.Name {
		case "full":
			if memory < 40*mib || memory > 60*mib || busy > 100e6 {
				return fmt.Errorf("full has memory %d, processor %d", memory, busy)
			}
		case "busy":
			if memory > 20*mib || busy < 20e6 || busy > 400e6 {
				return fmt.Errorf("busy has memory %d, processor %d", memory, busy)
			}
		}
	}
	return nil
}
