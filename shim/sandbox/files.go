package sandbox

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/microvm/microvm/runtime/bundle"
)

// writeFiles writes what containers of a pod find in /etc into the bundle dir:
// containerd leaves that to the runtime whose pods are no containers. A client
// other than CRI, whose configuration is empty, has to say it itself.
func writeFiles(dir string, c *PodSandboxConfig) error {
	if c.GetMetadata() == nil {
		return nil
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	hosts, err := os.ReadFile("/etc/hosts")
	if err != nil {
		return err
	}
	names, err := resolvConf(c.GetDnsConfig())
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"/etc/hostname": cmp.Or(c.GetHostname(), host) + "\n", "/etc/hosts": string(hosts), "/etc/resolv.conf": names,
	} {
		if err := os.WriteFile(filepath.Join(dir, bundle.PodFiles[name]), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// resolvConf is a resolv.conf(5), the host's if c is nil.
func resolvConf(c *DNSConfig) (string, error) {
	if c == nil {
		text, err := os.ReadFile("/etc/resolv.conf")
		return string(text), err
	}
	var b strings.Builder
	if len(c.GetSearches()) > 0 {
		fmt.Fprintln(&b, "search", strings.Join(c.GetSearches(), " "))
	}
	for _, s := range c.GetServers() {
		fmt.Fprintln(&b, "nameserver", s)
	}
	if len(c.GetOptions()) > 0 {
		fmt.Fprintln(&b, "options", strings.Join(c.GetOptions(), " "))
	}
	return b.String(), nil
}
