package cgroup

import (
	"path/filepath"

	"github.com/opencontainers/cgroups"
)

const (
	unifiedRoot = "/sys/fs/cgroup"
	hybridRoot  = unifiedRoot + "/unified"
)

// origin is where this process is in each of the hierarchies of paths, as far
// as that is visible here.
func origin(paths map[string]string) map[string]string {
	own, err := cgroups.ParseCgroupFile("/proc/self/cgroup")
	if err != nil {
		return nil
	}
	at := map[string]string{}
	for controller := range paths {
		switch {
		case controller != "":
			if dir, err := cgroups.GetOwnCgroupPath(controller); err == nil {
				at[controller] = dir
			}
		case cgroups.IsCgroup2UnifiedMode():
			at[controller] = filepath.Join(unifiedRoot, own[""])
		default:
			at[controller] = filepath.Join(hybridRoot, own[""])
		}
	}
	return at
}
