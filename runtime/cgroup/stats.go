package cgroup

import (
	"fmt"

	"github.com/containerd/cgroups/v3/cgroup2/stats"
)

// Stats are what the machine has used, in the form of cgroup v2 for either
// version.
func (c *Cgroup) Stats() (*stats.Metrics, error) {
	s, err := c.manager.GetStats()
	if err != nil {
		return nil, fmt.Errorf("read cgroup's statistics: %w", err)
	}
	cpu, memory := s.CpuStats, s.MemoryStats
	inactive, ok := memory.Stats["total_inactive_file"] // v1's name
	if !ok {
		inactive = memory.Stats["inactive_file"]
	}
	return &stats.Metrics{
		Pids: &stats.PidsStat{Current: s.PidsStats.Current, Limit: s.PidsStats.Limit},
		CPU: &stats.CPUStat{
			UsageUsec: cpu.CpuUsage.TotalUsage / 1000, UserUsec: cpu.CpuUsage.UsageInUsermode / 1000, SystemUsec: cpu.CpuUsage.UsageInKernelmode / 1000,
			NrPeriods: cpu.ThrottlingData.Periods, NrThrottled: cpu.ThrottlingData.ThrottledPeriods, ThrottledUsec: cpu.ThrottlingData.ThrottledTime / 1000,
		},
		Memory: &stats.MemoryStat{
			Usage: memory.Usage.Usage, UsageLimit: memory.Usage.Limit, InactiveFile: inactive,
			Anon: memory.Stats["anon"] + memory.Stats["total_rss"], File: memory.Stats["file"] + memory.Stats["total_cache"],
			Pgfault: memory.Stats["pgfault"], Pgmajfault: memory.Stats["pgmajfault"],
		},
	}, nil
}
