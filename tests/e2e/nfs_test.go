package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/willscott/go-nfs"
	"github.com/willscott/go-nfs/helpers"

	"github.com/microvm/microvm/netns"
	"github.com/microvm/microvm/tests/lab/labtest"
)

// serveNFS shares dir by NFS 3 from the peer's namespace and returns the port.
func (n *neighbourhood) serveNFS(dir string) (port int) {
	n.t.Helper()
	ns, err := netns.Open("/run/netns/" + n.peer)
	if err != nil {
		n.t.Fatal(err)
	}
	defer ns.Close()
	var l net.Listener
	if err := ns.Do(func() (err error) {
		l, err = net.Listen("tcp4", peerV4+":0")
		return err
	}); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { l.Close() })
	handler := helpers.NewCachingHandler(helpers.NewNullAuthHandler(osfs.New(dir)), 1024)
	go nfs.Serve(l, handler) // until l is closed
	return l.Addr().(*net.TCPAddr).Port
}

func TestNFSMount(t *testing.T) {
	labtest.SameOnBoth(t)
	n := newNeighbourhood(t)
	shared := t.TempDir()
	if err := os.WriteFile(filepath.Join(shared, "from-server"), []byte("served"), 0o644); err != nil {
		t.Fatal(err)
	}
	port := n.serveNFS(shared)
	s := newSite(t)
	mount := func(kind, source string, options ...string) func(*specs.Spec) {
		return func(spec *specs.Spec) {
			spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/nfs", Type: kind, Source: source, Options: options})
		}
	}
	options := []string{
		"addr=" + peerV4, "vers=3", "proto=tcp", "nolock", "mountproto=tcp",
		fmt.Sprintf("port=%d", port), fmt.Sprintf("mountport=%d", port),
	}
	out := s.output(s.bundle(sh("cat /nfs/from-server && grep -o ' /nfs nfs r.' /proc/mounts && echo -n mine > /nfs/from-guest"), n.in, mount("nfs", peerV4+":/", options...)))
	if want := "served /nfs nfs rw\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	if b, err := os.ReadFile(filepath.Join(shared, "from-guest")); err != nil || string(b) != "mine" {
		t.Errorf("what the guest wrote is %q, %v", b, err)
	}
}
