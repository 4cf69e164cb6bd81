package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/runtime/anchor"
	"github.com/microvm/microvm/runtime/bundle"
	"github.com/microvm/microvm/runtime/network"
)

const resolvConf = "/etc/resolv.conf"

// provideNames has a container in the user-mode network use the name server
// there, if its root file system and mounts name none. What it gets is a mount
// of the guest's; where the file is missing, a mount point is made for it.
func provideNames(rootfs string, plan *bundle.Plan) error {
	if slices.ContainsFunc(plan.Guest.Mounts, coversResolvConf) {
		return nil
	}
	root, err := os.OpenFile(rootfs, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("open root file system: %w", err)
	}
	defer root.Close()
	named, err := namesServer(root)
	if errors.Is(err, fs.ErrNotExist) {
		_, err = makeMountpoint(root, bundle.Mountpoint{Path: resolvConf, File: true})
	}
	if named || err != nil {
		return err
	}
	addResolvConf(plan)
	return nil
}

// addResolvConf mounts the guest's file, which names the server. Later options are
// for the agent.
func addResolvConf(plan *bundle.Plan, options ...string) {
	plan.Guest.Mounts = append(slices.Clone(plan.Guest.Mounts), specs.Mount{
		Destination: resolvConf, Type: "bind", Source: api.ResolvConf, Options: append([]string{"bind", "nosuid", "nodev", "noexec"}, options...),
	})
}

// nameServer is provideNames for a root file system which only the guest sees.
func nameServer(plan *bundle.Plan) {
	if !slices.ContainsFunc(plan.Guest.Mounts, coversResolvConf) {
		addResolvConf(plan, api.OptionUnlessNamed)
	}
}

// coversResolvConf tells whether m is of the file or of a directory above it.
func coversResolvConf(m specs.Mount) bool {
	at := filepath.Clean(m.Destination)
	return at == resolvConf || at == filepath.Dir(resolvConf)
}

// maxResolvConf is how much of the file is looked at.
const maxResolvConf = 64 << 10

// namesServer tells whether the file in root names a server.
func namesServer(root *os.File) (bool, error) {
	found, err := anchor.OpenIn(root, resolvConf)
	if err != nil {
		return false, err
	}
	defer found.Close()
	if st, err := found.Stat(); err != nil || !st.Mode().IsRegular() {
		return true, err // it means something to somebody
	}
	f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", found.Fd()))
	if err != nil {
		return false, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxResolvConf))
	if err != nil {
		return false, err
	}
	return len(servers(string(text))) > 0, nil
}

// servers are what the text of a resolv.conf(5) names, also what is no address.
func servers(text string) (all []string) {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "nameserver" {
			all = append(all, f[1])
		}
	}
	return all
}

// dockersNames is where docker serves names in the container's network namespace.
var dockersNames = netip.MustParseAddr("127.0.0.11")

// bringNames brings name servers on loopback addresses to the guest: of a
// namespace docker's only, for a container may have one of its own.
func (n *Network) bringNames(ctx context.Context, g networkGuest) {
	if n.resolv == "" {
		return
	}
	text, err := os.ReadFile(n.resolv)
	if err != nil {
		n.log.WithError(err).Debug("the container's name servers are not known")
		return
	}
	for _, s := range servers(string(text)) {
		at, err := netip.ParseAddr(s)
		if err != nil || !at.IsLoopback() || n.user == nil && at != dockersNames {
			continue
		}
		names := &network.Names{Server: netip.AddrPortFrom(at, 53), Open: g.serveNames, Log: n.log}
		if n.user == nil {
			names.In = n.namespace.In
		}
		if err := names.Start(ctx); err != nil {
			n.log.WithError(err).Warn("the guest will not find names")
			continue
		}
		n.names = append(n.names, names)
	}
}
