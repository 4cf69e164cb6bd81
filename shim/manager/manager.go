// Package manager is how containerd starts a shim, finds a running one, and
// cleans up after one that died.
package manager

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/defaults"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/shim"
	"github.com/containerd/log"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/microvm/microvm/runtime/bundle"
	"github.com/microvm/microvm/shim/sandbox"
	"github.com/microvm/microvm/shim/task"
)

// Name is the runtime's.
const Name = "io.containerd.microvm.v1"

// addressFile has the address of a bundle's shim.
const addressFile = "address"

type manager struct{ version string }

// New makes the manager of a shim of that version.
func New(version string) shim.Shim { return manager{version} }

func (manager) Name() string { return Name }

// Info implements [shim.Shim]. What containerd asks of the features is whether
// there are read-only mounts with all below them, and whether pods can have user
// namespaces, which takes id-mapped mounts. Where the handler has options (ConfigPath)
// containerd makes no task in a user namespace: it takes them for runc's.
func (m manager) Info(_ context.Context, options io.Reader) (*types.RuntimeInfo, error) {
	known := bundle.Features(m.version)
	text, err := io.ReadAll(options)
	given := new(anypb.Any)
	if err == nil {
		err = proto.Unmarshal(text, given)
	}
	if err != nil {
		return nil, fmt.Errorf("read runtime's options: %w", err)
	}
	if task.IsOptions(given) {
		known.Linux.MountExtensions = nil
	}
	features, err := typeurl.MarshalAnyToProto(known)
	if err != nil {
		return nil, fmt.Errorf("encode features: %w", err)
	}
	return &types.RuntimeInfo{
		Name: Name, Version: &types.RuntimeVersion{Version: m.version}, Features: features,
		Annotations: map[string]string{allowMounts: allowedMounts()},
	}, nil
}

// Start implements [shim.Shim].
func (manager) Start(ctx context.Context, p *bootapi.BootstrapParams) (*bootapi.BootstrapResult, error) {
	address, err := start(ctx, launch{
		id: p.GetInstanceID(), daemon: p.GetContainerdGrpcAddress(), sockets: p.GetSocketDir(),
		debug: p.GetLogLevel() <= bootapi.LogLevel_LOG_LEVEL_DEBUG, options: findOptions(p.GetExtensions()),
	})
	if err != nil {
		return nil, err
	}
	mounts, err := anypb.New(&types.MountCapabilities{Types: bundle.RootTypes, Transforms: bundle.RootTransforms})
	if err != nil {
		return nil, err
	}
	return &bootapi.BootstrapResult{
		Version: 3, Protocol: "ttrpc", Address: address, Extensions: []*bootapi.Extension{{Value: mounts}},
	}, nil
}

// launch is what a daemon says to start a shim.
type launch struct {
	id string
	// daemon is the daemon's own address.
	daemon string
	// sockets is where shims have theirs.
	sockets string
	debug   bool
	// options are the runtime's, nil without any.
	options *anypb.Any
}

func findOptions(all []*bootapi.Extension) *anypb.Any {
	for _, x := range all {
		if task.IsOptions(x.GetValue()) {
			return x.GetValue()
		}
	}
	return nil
}

// start starts the shim that serves the bundle in the working directory, or
// finds that of its pod, and returns its address.
func start(ctx context.Context, l launch) (address string, err error) {
	group, err := readGroup(l.id)
	if err != nil {
		return "", err
	}
	sockets := l.sockets
	if sockets == "" {
		sockets = filepath.Join(defaults.DefaultStateDir, "s")
	}
	if address, err = shim.CreateSocketAddress(ctx, sockets, l.daemon, group, false); err != nil {
		return "", err
	}
	if l.options != nil {
		if err := sandbox.SaveOptions(".", l.options); err != nil {
			return "", err
		}
	}
	if err := ensure(ctx, l, address); err != nil {
		return "", err
	}
	if err := os.WriteFile(addressFile, []byte(address), 0o600); err != nil {
		return "", fmt.Errorf("write address: %w", err)
	}
	return address, nil
}

func readGroup(id string) (string, error) {
	data, err := os.ReadFile(bundle.ConfigFile)
	if errors.Is(err, fs.ErrNotExist) {
		return id, nil // a sandbox, which the sandbox service describes
	}
	if err != nil {
		return "", fmt.Errorf("read bundle: %w", err)
	}
	var spec struct {
		Annotations map[string]string `json:"annotations"`
	}
	if err := json.Unmarshal(data, &spec); err != nil {
		return "", fmt.Errorf("read bundle: %s: %w", bundle.ConfigFile, err)
	}
	// All containers of a pod share a shim.
	return cmp.Or(bundle.PodID(spec.Annotations), id), nil
}

// ensure makes a shim serve address.
func ensure(ctx context.Context, l launch, address string) error {
	socket, err := shim.NewSocket(address)
	if shim.SocketEaddrinuse(err) {
		if shim.CanConnect(address) {
			return nil
		}
		if err := shim.RemoveSocket(address); err != nil {
			return fmt.Errorf("remove socket of a shim that is gone: %w", err)
		}
		socket, err = shim.NewSocket(address)
	}
	if err != nil {
		return fmt.Errorf("make shim's socket: %w", err)
	}
	defer socket.Close()
	socket.SetUnlinkOnClose(false)
	f, err := socket.File()
	if err == nil {
		err = serve(ctx, l, f)
		f.Close()
	}
	if err != nil {
		return errors.Join(err, shim.RemoveSocket(address))
	}
	return nil
}

// serve runs the shim itself, which outlives this process.
func serve(ctx context.Context, l launch, socket *os.File) error {
	ns, err := namespaces.NamespaceRequired(ctx)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args := []string{"-namespace", ns, "-id", l.id, "-address", l.daemon}
	if l.debug {
		args = append(args, "-debug")
	}
	cmd := exec.Command(self, args...)
	cmd.ExtraFiles = []*os.File{socket}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start shim: %w", err)
	}
	if err := shim.AdjustOOMScore(cmd.Process.Pid); err != nil {
		log.G(ctx).WithError(err).Warn("the shim's OOM score stays")
	}
	return cmd.Process.Release()
}

// Stop removes what a shim that died left of the container id.
func (manager) Stop(ctx context.Context, id string) (shim.StopStatus, error) {
	wd, err := os.Getwd()
	if err != nil {
		return shim.StopStatus{}, err
	}
	dir := filepath.Join(filepath.Dir(wd), id)
	pid, err := task.Clean(ctx, dir)
	if err != nil {
		log.G(ctx).WithError(err).Warn("the machine is not removed completely")
	}
	if err := removeSocket(dir); err != nil {
		log.G(ctx).WithError(err).Warn("the shim's socket is left")
	}
	if err := mount.UnmountRecursive(filepath.Join(dir, "rootfs"), 0); err != nil {
		return shim.StopStatus{}, fmt.Errorf("unmount root file system: %w", err)
	}
	return shim.StopStatus{Pid: pid, ExitStatus: 128 + int(syscall.SIGKILL), ExitedAt: time.Now()}, nil
}

// removeSocket removes the socket of the shim of the bundle dir, unless the
// shim, which may be a pod's, still serves it.
func removeSocket(dir string) error {
	address, err := shim.ReadAddress(filepath.Join(dir, addressFile))
	if err != nil || shim.CanConnect(address) {
		return nil // a shim that did not start has none
	}
	if err := shim.RemoveSocket(address); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
