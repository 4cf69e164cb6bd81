package main

import (
	"math"

	"github.com/containerd/cgroups/v3/cgroup2/stats"
)

// statistics have runc's form (its package types), as far as the guest's
// cgroup v2 fills it. Times are in nanoseconds.
type statistics struct {
	CPU struct {
		Usage struct {
			Total  uint64 `json:"total,omitempty"`
			Kernel uint64 `json:"kernel"`
			User   uint64 `json:"user"`
		} `json:"usage"`
		Throttling struct {
			Periods          uint64 `json:"periods,omitempty"`
			ThrottledPeriods uint64 `json:"throttledPeriods,omitempty"`
			ThrottledTime    uint64 `json:"throttledTime,omitempty"`
		} `json:"throttling"`
		PSI *pressure `json:"psi,omitempty"`
	} `json:"cpu"`
	CPUSet struct{} `json:"cpuset"`
	Memory struct {
		Cache     uint64            `json:"cache,omitempty"`
		Usage     amount            `json:"usage"`
		Swap      amount            `json:"swap"`
		Kernel    amount            `json:"kernel"`
		KernelTCP amount            `json:"kernelTCP"`
		Raw       map[string]uint64 `json:"raw,omitempty"`
		PSI       *pressure         `json:"psi,omitempty"`
	} `json:"memory"`
	Pids struct {
		Current uint64 `json:"current,omitempty"`
		Limit   uint64 `json:"limit,omitempty"`
	} `json:"pids"`
	Blkio struct {
		Bytes    []blockEntry `json:"ioServiceBytesRecursive,omitempty"`
		Requests []blockEntry `json:"ioServicedRecursive,omitempty"`
		PSI      *pressure    `json:"psi,omitempty"`
	} `json:"blkio"`
	Hugetlb  map[string]hugetlb `json:"hugetlb"`
	IntelRdt struct{}           `json:"intel_rdt"`
	Network  []networkInterface `json:"network_interfaces"`
}

// networkInterface has runc's names.
type networkInterface struct {
	Name                                    string
	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}

type amount struct {
	Limit   uint64 `json:"limit"`
	Usage   uint64 `json:"usage,omitempty"`
	Max     uint64 `json:"max,omitempty"`
	Failcnt uint64 `json:"failcnt"`
}

type hugetlb struct {
	Usage   uint64 `json:"usage,omitempty"`
	Max     uint64 `json:"max,omitempty"`
	Failcnt uint64 `json:"failcnt"`
}

type blockEntry struct {
	Major uint64 `json:"major,omitempty"`
	Minor uint64 `json:"minor,omitempty"`
	Op    string `json:"op,omitempty"`
	Value uint64 `json:"value,omitempty"`
}

type pressure struct {
	Some pressureOf `json:"some"`
	Full pressureOf `json:"full"`
}

type pressureOf struct {
	Avg10  float64 `json:"avg10"`
	Avg60  float64 `json:"avg60"`
	Avg300 float64 `json:"avg300"`
	Total  uint64  `json:"total"`
}

func newStatistics(m *stats.Metrics) *statistics {
	const nanos = 1000 // per microsecond
	u := new(statistics)
	cpu := m.GetCPU()
	u.CPU.Usage.Total, u.CPU.Usage.User, u.CPU.Usage.Kernel = cpu.GetUsageUsec()*nanos, cpu.GetUserUsec()*nanos, cpu.GetSystemUsec()*nanos
	u.CPU.Throttling.Periods, u.CPU.Throttling.ThrottledPeriods = cpu.GetNrPeriods(), cpu.GetNrThrottled()
	u.CPU.Throttling.ThrottledTime = cpu.GetThrottledUsec() * nanos
	u.CPU.PSI = newPressure(cpu.GetPSI())
	u.setMemory(m.GetMemory(), m.GetMemoryEvents())
	u.Pids.Current, u.Pids.Limit = m.GetPids().GetCurrent(), m.GetPids().GetLimit()
	if u.Pids.Limit == math.MaxUint64 {
		u.Pids.Limit = 0 // runc's word for none
	}
	for _, e := range m.GetIo().GetUsage() {
		for op, values := range map[string][2]uint64{"Read": {e.GetRbytes(), e.GetRios()}, "Write": {e.GetWbytes(), e.GetWios()}} {
			u.Blkio.Bytes = append(u.Blkio.Bytes, blockEntry{e.GetMajor(), e.GetMinor(), op, values[0]})
			u.Blkio.Requests = append(u.Blkio.Requests, blockEntry{e.GetMajor(), e.GetMinor(), op, values[1]})
		}
	}
	u.Blkio.PSI = newPressure(m.GetIo().GetPSI())
	u.Hugetlb = map[string]hugetlb{}
	for _, h := range m.GetHugetlb() {
		u.Hugetlb[h.GetPagesize()] = hugetlb{h.GetCurrent(), h.GetMax(), h.GetFailcnt()}
	}
	for _, n := range m.GetNetwork() {
		u.Network = append(u.Network, networkInterface{
			n.GetName(), n.GetRxBytes(), n.GetRxPackets(), n.GetRxErrors(), n.GetRxDropped(),
			n.GetTxBytes(), n.GetTxPackets(), n.GetTxErrors(), n.GetTxDropped(),
		})
	}
	return u
}

func (u *statistics) setMemory(m *stats.MemoryStat, events *stats.MemoryEvents) {
	u.Memory.Cache = m.GetFile()
	u.Memory.Usage = amount{Limit: m.GetUsageLimit(), Usage: m.GetUsage(), Max: m.GetMaxUsage(), Failcnt: events.GetMax()}
	// runc reports memory and swap together, as cgroup v1 counts.
	u.Memory.Swap = amount{Limit: sum(m.GetUsageLimit(), m.GetSwapLimit()), Usage: sum(m.GetUsage(), m.GetSwapUsage())}
	u.Memory.PSI = newPressure(m.GetPSI())
	u.Memory.Raw = map[string]uint64{
		"anon": m.GetAnon(), "file": m.GetFile(), "kernel_stack": m.GetKernelStack(), "slab": m.GetSlab(), "sock": m.GetSock(),
		"shmem": m.GetShmem(), "file_mapped": m.GetFileMapped(), "file_dirty": m.GetFileDirty(), "file_writeback": m.GetFileWriteback(),
		"inactive_anon": m.GetInactiveAnon(), "active_anon": m.GetActiveAnon(), "inactive_file": m.GetInactiveFile(),
		"active_file": m.GetActiveFile(), "unevictable": m.GetUnevictable(), "pgfault": m.GetPgfault(), "pgmajfault": m.GetPgmajfault(),
	}
}

// sum is a+b without passing the largest number, which stands for no limit.
func sum(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}

func newPressure(p *stats.PSIStats) *pressure {
	if p == nil {
		return nil
	}
	of := func(d *stats.PSIData) pressureOf {
		return pressureOf{d.GetAvg10(), d.GetAvg60(), d.GetAvg300(), d.GetTotal()}
	}
	return &pressure{Some: of(p.GetSome()), Full: of(p.GetFull())}
}
