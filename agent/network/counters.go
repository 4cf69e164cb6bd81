package network

import (
	"fmt"
	"net"

	"github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/vishvananda/netlink"
)

// Counters are what the containers' interfaces have received and sent, but for
// the loopback interface.
func (n *Network) Counters() ([]*stats.NetworkStat, error) {
	if n.path == "" {
		return nil, nil
	}
	ns, err := n.current()
	if err != nil {
		return nil, err
	}
	defer ns.f.Close()
	var links []netlink.Link
	err = ns.do(func() (err error) {
		links, err = netlink.LinkList()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	var all []*stats.NetworkStat
	for _, l := range links {
		a := l.Attrs()
		if s := a.Statistics; s != nil && a.Flags&net.FlagLoopback == 0 {
			all = append(all, &stats.NetworkStat{
				Name:    a.Name,
				RxBytes: s.RxBytes, RxPackets: s.RxPackets, RxErrors: s.RxErrors, RxDropped: s.RxDropped,
				TxBytes: s.TxBytes, TxPackets: s.TxPackets, TxErrors: s.TxErrors, TxDropped: s.TxDropped,
			})
		}
	}
	return all, nil
}
