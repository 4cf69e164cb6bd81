package kubernetes

import (
	"encoding/json"
	"fmt"
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
		// A machine's control groups are of version 2, whatever the host's are.
		s.expect("memory", s.run("p", "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null"), "50331648")
		s.expect("quota", s.run("p", "{ cat /sys/fs/cgroup/cpu.max || cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us; } 2>/dev/null | cut -d ' ' -f 1"), "50000")
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
		s.kubectl("delete", "pod", "p", "--grace-period=1")
	})
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
