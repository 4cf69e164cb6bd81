package export

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// evict closes the descriptors of nodes, as if many others were in use, and tells
// whether all of them could be.
func (c *client) evict(nodes ...uint64) bool {
	all := true
	for _, id := range nodes {
		n := c.s.nodes.get(id)
		c.s.host.fds.delist(n)
		n.used = false
		c.s.host.evict(n)
		all = all && n.fd < 0
	}
	return all
}

// content opens a node and reads it.
func (c *client) content(node uint64) (string, unix.Errno) {
	fh, errno := c.tryOpen(node, unix.O_RDONLY)
	if errno != 0 {
		return "", errno
	}
	defer c.call(opRelease, node, fh, uint64(0), uint64(0))
	return c.read(node, fh, 0, 100)
}

// evictionTree is a share whose nodes, named by their path, are evicted.
func evictionTree(t *testing.T) (c *client, top string, node map[string]uint64) {
	top = tree(t, map[string]string{"in/a/b/x": "x", "in/a/y": "y", "in/z": "z", "in/e/": "", "secret/b/x": "secret"})
	c = newClient(t, Options{}, map[string]string{"in": filepath.Join(top, "in")})
	node = map[string]uint64{"": c.lookup("in")}
	for _, p := range [][]string{{"a"}, {"a", "b"}, {"a", "b", "x"}, {"a", "y"}, {"z"}, {"e"}} {
		node[filepath.Join(p...)] = c.lookup(append([]string{"in"}, p...)...)
	}
	for _, p := range []string{"a/b/x", "a/b", "a/y", "a", "z", "e"} {
		if !c.evict(node[p]) {
			t.Fatalf("%s is not evicted", p)
		}
	}
	return c, top, node
}

// TestEvictedNodesFollowTheGuest renames, replaces and removes what the guest goes on
// to use by its node.
func TestEvictedNodesFollowTheGuest(t *testing.T) {
	for what, run := range map[string]struct {
		do   func(c *client, node map[string]uint64) unix.Errno
		want map[string]string // content by the path before, "-" for a directory
	}{
		"nothing": {func(*client, map[string]uint64) unix.Errno { return 0 }, map[string]string{"a/b/x": "x", "a/y": "y", "z": "z", "a/b": "-"}},
		"rename": {func(c *client, node map[string]uint64) unix.Errno {
			_, e := c.call(opRename, node[""], node["e"], "z", "new")
			return e
		}, map[string]string{"z": "z"}},
		"rename of a directory": {func(c *client, node map[string]uint64) unix.Errno {
			_, e := c.call(opRename2, node["a"], node["e"], uint64(0), "b", "new")
			return e
		}, map[string]string{"a/b/x": "x", "a/b": "-"}},
		"rename over another": {func(c *client, node map[string]uint64) unix.Errno {
			_, e := c.call(opRename, node[""], node["a"], "z", "y")
			return e
		}, map[string]string{"z": "z", "a/y": "y"}},
		"exchange": {func(c *client, node map[string]uint64) unix.Errno {
			_, e := c.call(opRename2, node[""], node["a"], u32(renameExchange), uint32(0), "z", "b")
			return e
		}, map[string]string{"z": "z", "a/b/x": "x", "a/b": "-"}},
		"unlink": {func(c *client, node map[string]uint64) unix.Errno {
			_, e := c.call(opUnlink, node["a/b"], "x")
			return e
		}, map[string]string{"a/b/x": "x"}},
		"rmdir": {func(c *client, node map[string]uint64) unix.Errno { _, e := c.call(opRmdir, node[""], "e"); return e }, map[string]string{"e": "-"}},
		"unlink of one of two names": {func(c *client, node map[string]uint64) unix.Errno {
			if _, e := c.call(opLink, node["e"], node["z"], "other"); e != 0 {
				return e
			}
			_, e := c.call(opUnlink, node["e"], "other")
			return e
		}, map[string]string{"z": "z"}},
	} {
		t.Run(what, func(t *testing.T) {
			c, _, node := evictionTree(t)
			c.want(what, run.do(c, node), 0)
			for range 2 { // the second after another attempt to evict
				for p, want := range run.want {
					if want == "-" {
						_, errno := c.call(opGetattr, node[p], uint64(0), uint64(0))
						c.want("GETATTR of "+p, errno, 0)
						continue
					}
					if got, errno := c.content(node[p]); got != want || errno != 0 {
						t.Errorf("%s reads %q, %v", p, got, errno)
					}
				}
				for _, p := range []string{"a/b/x", "a/b", "a/y", "a", "z", "e"} {
					c.evict(node[p])
				}
			}
		})
	}
}

// TestEvictedNodesAndTheHost moves, replaces and removes on the host what the server
// has to find again: it is stale until the guest looks it up, and never another file.
func TestEvictedNodesAndTheHost(t *testing.T) {
	c, top, node := evictionTree(t)
	in := func(p string) string { return filepath.Join(top, "in", p) }
	stale := func(p string) {
		t.Helper()
		got, errno := c.content(node[p])
		c.want(fmt.Sprintf("%s, which reads %q,", p, got), errno, unix.ESTALE)
	}
	rename := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	rename(in("z"), in("moved"))
	stale("z")
	if again := c.lookup("in", "moved"); again != node["z"] {
		t.Errorf("node %d became %d by a rename", node["z"], again)
	}
	if got, errno := c.content(node["z"]); got != "z" || errno != 0 {
		t.Errorf("found again: %q, %v", got, errno)
	}
	// Another file with the name, and a link to what is none of the guest's.
	if err := os.WriteFile(in("new"), []byte("other"), 0o644); err != nil {
		t.Fatal(err)
	}
	rename(in("new"), in("a/y"))
	stale("a/y")
	rename(in("a/b"), in("hidden"))
	if err := os.Symlink("../../secret/b", in("a/b")); err != nil {
		t.Fatal(err)
	}
	stale("a/b/x")
	if err := os.Remove(in("a/b")); err != nil {
		t.Fatal(err)
	}
	rename(filepath.Join(top, "secret/b"), in("a/b"))
	stale("a/b/x") // the name is right, the file is not
	stale("a/b")
}

// TestEvictedNodeIsNotAFileWithItsNumber gives number and name of an evicted node to
// another file.
func TestEvictedNodeIsNotAFileWithItsNumber(t *testing.T) {
	c, top, node := evictionTree(t)
	path := filepath.Join(top, "in/z")
	number := func() uint64 {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		return st.Ino
	}
	before := number()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("other"), 0o644); err != nil {
		t.Fatal(err)
	}
	if number() != before || c.s.nodes.get(node["z"]).handle == nil {
		t.Skip("this file system does not use a number again, or has no handles")
	}
	got, errno := c.content(node["z"])
	c.want(fmt.Sprintf("z, which reads %q,", got), errno, unix.ESTALE)
	if again := c.lookup("in", "z"); again == node["z"] {
		t.Error("the other file has the node")
	}
}

// TestDirectoriesInACircle has nodes found in each other.
func TestDirectoriesInACircle(t *testing.T) {
	c, _, node := evictionTree(t)
	c.s.nodes.get(node["a"]).found.Store(&location{c.s.nodes.get(node["a/b"]), "a"})
	_, errno := c.call(opGetattr, node["a/b"], uint64(0), uint64(0))
	c.want("GETATTR", errno, unix.ESTALE)
	if got, errno := c.content(c.lookup("in", "a", "b", "x")); got != "x" || errno != 0 {
		t.Errorf("%q, %v", got, errno)
	}
}

// TestRemovedFilesAreNotEvicted as they can't be found again.
func TestRemovedFilesAreNotEvicted(t *testing.T) {
	top := tree(t, map[string]string{"file": "file", "host": "host"})
	c := newClient(t, Options{}, map[string]string{"in": top})
	in, file, host := c.lookup("in"), c.lookup("in", "file"), c.lookup("in", "host")
	fh := c.open(file, unix.O_RDONLY)
	_, errno := c.call(opUnlink, in, "file")
	c.want("UNLINK", errno, 0)
	c.call(opRelease, file, fh, uint64(0), uint64(0))
	if err := os.Remove(filepath.Join(top, "host")); err != nil {
		t.Fatal(err)
	}
	for _, n := range []uint64{file, host} {
		if c.evict(n) {
			t.Error("evicted")
		}
		_, errno := c.call(opGetattr, n, uint64(0), uint64(0))
		c.want("GETATTR", errno, 0)
	}
}
