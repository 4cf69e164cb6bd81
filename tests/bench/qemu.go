package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/mdlayher/vsock"

	"github.com/microvm/microvm/agent/api"
)

const guestCID = 42

// peer is a QEMU with its virtiofsd, driven as microvm-runtime drives its VM
// process.
type peer struct {
	dir       string
	virtiofsd *exec.Cmd
	qemu      *exec.Cmd
	listener  net.Listener
}

// startQEMU boots the same guest under QEMU and takes the time from the start
// of its processes to the first byte of the container's output.
func startQEMU(bin string, b *bundle) (*start, error) {
	dir, err := os.MkdirTemp("", "bench-qemu-")
	if err != nil {
		return nil, err
	}
	p := &peer{dir: dir}
	defer p.stop()
	// The agent dials this port as soon as it is up.
	if p.listener, err = vsock.ListenContextID(vsock.Host, api.PortAgent, nil); err != nil {
		return nil, fmt.Errorf("listen on vsock: %w: modprobe vhost_vsock", err)
	}
	begin := time.Now()
	if err := p.launch(bin, b); err != nil {
		return nil, err
	}
	s := &start{stages: map[string]float64{}}
	conn, err := p.accept()
	if err != nil {
		return nil, err
	}
	s.stages["agent"] = since(begin)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := firstByte(ctx, conn, b); err != nil {
		return nil, err
	}
	s.firstByte = since(begin)
	s.memory, err = p.memory()
	return s, err
}

func (p *peer) accept() (net.Conn, error) {
	type accepted struct {
		c   net.Conn
		err error
	}
	got := make(chan accepted, 1)
	go func() {
		c, err := p.listener.Accept()
		got <- accepted{c, err}
	}()
	select {
	case a := <-got:
		return a.c, a.err
	case <-time.After(2 * time.Minute):
		out, _ := os.ReadFile(filepath.Join(p.dir, "log"))
		return nil, fmt.Errorf("the agent did not call: %s", out)
	}
}

func virtiofsd() (string, error) {
	for _, path := range []string{"/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd"} {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", errors.New("no virtiofsd: apt-get install qemu-system-common virtiofsd")
}

func virtiofsdArgs(daemon, socket, dir string) []string {
	if daemon == "/usr/lib/qemu/virtiofsd" { // the older one, of QEMU itself
		return []string{"--socket-path=" + socket, "-o", "source=" + dir, "-o", "cache=auto"}
	}
	return []string{"--socket-path=" + socket, "--shared-dir", dir, "--cache", "auto"}
}

func (p *peer) launch(bin string, b *bundle) error {
	log, err := os.Create(filepath.Join(p.dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	share := b.dir // its rootfs shows up as the export of that name
	socket := filepath.Join(p.dir, "fs.sock")
	daemon, err := virtiofsd()
	if err != nil {
		return err
	}
	p.virtiofsd = exec.Command(daemon, virtiofsdArgs(daemon, socket, share)...)
	p.virtiofsd.Stdout, p.virtiofsd.Stderr = log, log
	if err := p.virtiofsd.Start(); err != nil {
		return err
	}
	for range 1000 {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	p.qemu = exec.Command(qemuProgram,
		"-M", "microvm,accel=kvm,pit=off,pic=off,rtc=off,acpi=off,memory-backend=mem", "-cpu", "host", "-smp", "1", "-m", "512M",
		"-global", "virtio-mmio.force-legacy=false", "-nodefaults", "-no-user-config", "-nographic", "-no-reboot",
		"-object", "memory-backend-memfd,id=mem,size=512M,share=on",
		"-chardev", "socket,id=fs,path="+socket, "-device", "vhost-user-fs-device,chardev=fs,tag="+api.ExportsTag,
		"-device", fmt.Sprintf("vhost-vsock-device,guest-cid=%d", guestCID),
		"-device", "virtio-rng-device",
		"-device", "virtio-serial-device,max_ports=1", "-chardev", "file,id=console,path="+filepath.Join(p.dir, "console"), "-device", "virtconsole,chardev=console",
		"-kernel", filepath.Join(bin, "vmlinux"), "-initrd", filepath.Join(bin, "initramfs.cpio"),
		"-append", "console=hvc0 quiet loglevel=4 reboot=t panic=-1 no_timer_check random.trust_cpu=on")
	p.qemu.Stdout, p.qemu.Stderr = log, log
	return p.qemu.Start()
}

// firstByte runs the bundle's command through the agent and returns when its
// first byte of output is there.
func firstByte(ctx context.Context, conn net.Conn, b *bundle) error {
	client := api.NewClient(conn, nil)
	defer client.Close()
	if _, err := client.Machine.Hello(ctx, &api.HelloRequest{Version: api.Version}); err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	stream, err := vsock.Dial(guestCID, api.PortStream, nil)
	if err != nil {
		return fmt.Errorf("dial stream: %w", err)
	}
	defer stream.Close()
	if err := api.OpenStream(stream, "out"); err != nil {
		return err
	}
	if err := createAndStart(ctx, client, b, api.StreamURL("out")); err != nil {
		return err
	}
	var first [1]byte
	if _, err := io.ReadFull(stream, first[:]); err != nil {
		return fmt.Errorf("read output: %w", err)
	}
	return nil
}

// createAndStart runs the bundle's command in the guest.
func createAndStart(ctx context.Context, client *api.Client, b *bundle, stdout string) error {
	spec, linux, root := *b.spec, *b.spec.Linux, *b.spec.Root
	root.Path = api.ExportsDir + "/rootfs"
	linux.Namespaces = slices.Clone(linux.Namespaces)
	for i := range linux.Namespaces {
		linux.Namespaces[i].Path = "" // of the host
	}
	spec.Root, spec.Linux = &root, &linux
	options, err := api.NewContainerOptions(&spec)
	if err != nil {
		return err
	}
	if _, err := client.Task.Create(ctx, &api.CreateTaskRequest{Id: "bench", Stdout: stdout, Options: options}); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if _, err := client.Task.Start(ctx, &api.StartRequest{Id: "bench"}); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	return nil
}

// memory sums the private memory of QEMU and its virtiofsd.
func (p *peer) memory() (int, error) {
	a, err := privateKiB(p.qemu.Process.Pid)
	if err != nil {
		return 0, err
	}
	b, err := privateKiB(p.virtiofsd.Process.Pid)
	return a + b, err
}

func (p *peer) stop() {
	for _, c := range []*exec.Cmd{p.qemu, p.virtiofsd} {
		if c != nil && c.Process != nil {
			_ = c.Process.Kill()
			_ = c.Wait()
		}
	}
	if p.listener != nil {
		_ = p.listener.Close()
	}
	_ = os.RemoveAll(p.dir)
}
