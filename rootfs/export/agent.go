package export

import (
	"path"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/rootfs/changes"
)

// What the agent of the guest asks for is served here, see package changes. It
// repeats what has happened on the host already, so nothing here changes
// anything there: the handlers only read, and asAgent lets no other one run
// that does more.

// agentOperations are the requests of the agent that are served otherwise than
// those of others.
var agentOperations [opEnd]operation

func init() { // the handlers refer to operations, which refers to Handle
	replace := func(op uint32, o operation) {
		o.in, o.out = operations[op].in, operations[op].out
		agentOperations[op] = o
	}
	replace(opLookup, operation{node: (*Server).agentLookup, root: (*Server).lookupRoot})
	replace(opGetattr, operation{node: (*Server).agentGetattr, root: (*Server).getattrRoot})
	replace(opSetattr, operation{node: (*Server).getattr})
	replace(opMknod, operation{node: agentMakes(16)})
	replace(opMkdir, operation{node: agentMakes(8)})
	replace(opSymlink, operation{node: agentMakes(0)})
	replace(opUnlink, operation{node: (*Server).agentNothing})
	replace(opRmdir, operation{node: (*Server).agentNothing})
	replace(opRename, operation{node: (*Server).agentNothing})
	replace(opRename2, operation{node: (*Server).agentNothing})
	replace(opOpen, operation{node: (*Server).agentOpen})
	replace(opIoctl, operation{node: (*Server).agentNoIoctl, root: (*Server).agentIoctl})
}

// asAgent is op as it is served for the agent.
func asAgent(op *operation, opcode uint32) *operation {
	if a := &agentOperations[opcode]; a.node != nil {
		return a
	}
	if op.mutates {
		return &operation{}
	}
	return op
}

// agentIoctl serves IOCTL on the root.
func (s *Server) agentIoctl(c *call) error {
	in := c.args()
	a := parseIoctl(&in)
	var answer []byte
	switch a.cmd {
	case changes.Watch:
		eachID(&in, s.watch)
	case changes.Unwatch:
		eachID(&in, s.unwatch)
	case changes.Next:
		patience := time.Duration(in.u32()) * time.Millisecond
		c.dropBody()
		change := s.waitForStep(c.unique, patience)
		answer = change.Append(nil)
	default:
		return unix.ENOTTY
	}
	if c.room < ioctlOutSize+len(answer) || int(a.result) < len(answer) {
		return errMalformed
	}
	c.out.zero(ioctlOutSize)
	c.out.b = append(c.out.b, answer...)
	return nil
}

func eachID(in *decoder, f func(uint64)) {
	for id := in.u64(); id != 0; id = in.u64() {
		f(id)
	}
}

// agentLookup serves LOOKUP: what the agent is about to make is not there yet,
// and what it is about to remove or move is still where it was.
func (s *Server) agentLookup(c *call, dir *node) error {
	in := c.args()
	name, err := in.name()
	if err != nil {
		return err
	}
	if name == changes.Elsewhere {
		s.putPhantom(&c.out, unix.S_IFDIR)
		return nil
	}
	where := s.whereIs(dir)
	if served, err := s.lookupBefore(c, dir, where, name); served {
		return err
	}
	if err = s.replyEntry(c, dir, name); err == unix.ENOENT && s.lookupGone(c, path.Join(where, name)) {
		return nil
	}
	return err
}

// lookupGone replies with the directory of the agent's present step that had the
// given path a moment ago.
func (s *Server) lookupGone(c *call, where string) bool {
	now := s.watches.step()
	for _, p := range []place{now.at, now.to} {
		if p.dir != nil && p.path == where {
			s.replyGone(c, &now, p.dir)
			return true
		}
	}
	return false
}

// serveElsewhere serves the requests of the agent that are about the directory
// of files that come from elsewhere, or go there.
func (s *Server) serveElsewhere(c *call) error {
	switch c.opcode {
	case opLookup:
		return s.lookupElsewhere(c)
	case opUnlink, opRmdir, opRename, opRename2:
		return nil
	default:
		return unix.ESTALE
	}
}

func (s *Server) lookupElsewhere(c *call) error {
	in := c.args()
	name, err := in.name()
	if err != nil {
		return err
	}
	now := s.watches.step()
	for _, dir := range []*node{now.at.dir, now.to.dir} {
		if dir != nil && name == strconv.FormatUint(dir.id, 10) {
			s.replyGone(c, &now, dir)
			return nil
		}
	}
	where := now.Dir
	if path.Base(where) != changes.Elsewhere {
		where = now.ToDir
	}
	if served, err := s.lookupBefore(c, nil, where, name); served {
		return err
	}
	return unix.ENOENT
}

// lookupBefore replies with the entry of name in dir, whose path is where, as it
// was before the agent's present step, and says whether the step is about it.
func (s *Server) lookupBefore(c *call, dir *node, where, name string) (served bool, err error) {
	now := s.watches.step()
	here := now.at.is(dir, where, name)
	switch {
	case now.Kind == changes.Create && here, now.Kind == changes.Move && now.to.is(dir, where, name):
		return true, unix.ENOENT
	case now.Kind == changes.Delete && here:
		s.replyGone(c, &now, now.at.node)
	case now.Kind == changes.Move && here:
		s.replyMoved(c, &now)
	default:
		return false, nil
	}
	return true, nil
}

// replyGone replies with n, or with an inode that is made up if there is none.
func (s *Server) replyGone(c *call, now *step, n *node) {
	if n == nil || n.pin(s.host) != nil {
		s.putPhantom(&c.out, now.Mode)
		return
	}
	defer n.unpin(s.host)
	var st unix.Statx_t
	if statxFD(n.fd, &st) != nil || !s.nodes.again(n) {
		s.putPhantom(&c.out, now.Mode)
		return
	}
	s.putEntry(&c.out, n, n, &st)
}

// replyMoved replies with the inode that was moved, if the guest can see it.
func (s *Server) replyMoved(c *call, now *step) {
	dir := now.to.dir
	if dir == nil || dir.pin(s.host) != nil {
		s.replyGone(c, now, now.to.node)
		return
	}
	defer dir.unpin(s.host)
	if s.replyEntry(c, dir, now.to.name) != nil {
		s.putPhantom(&c.out, now.Mode)
	}
}

// firstPhantom is the first id of inodes that exist in the guest only, for the
// moment in which it is told that they are gone.
const firstPhantom = 1 << 63

// putPhantom appends the entry of an inode that does not exist.
func (s *Server) putPhantom(o *encoder, mode uint32) {
	id := firstPhantom + s.phantoms.Add(1)
	const day = 24 * 60 * 60
	o.u64(id)
	o.u64(0)   // generation
	o.u64(0)   // the name is not to be believed
	o.u64(day) // the attributes are not to be asked for
	o.u32(0)
	o.u32(0)
	putAttr(o, hashedIno|mix(id), &unix.Statx_t{Mode: uint16(mode) | 0o600, Nlink: 1, Blksize: 4096}, 0)
}

// agentMakes serves what makes a file, whose name follows so many bytes: with
// what is there.
func agentMakes(before int) func(*Server, *call, *node) error {
	return func(s *Server, c *call, dir *node) error {
		in := c.args()
		in.skip(before)
		name, err := in.name()
		if err != nil {
			return err
		}
		if err = s.replyEntry(c, dir, name); err == unix.ENOENT {
			s.putPhantom(&c.out, s.watches.step().Mode)
			return nil
		}
		return err
	}
}

// agentNoIoctl serves IOCTL on what is not the root.
func (s *Server) agentNoIoctl(*call, *node) error { return unix.ENOTTY }

// agentNothing serves what was done on the host.
func (s *Server) agentNothing(*call, *node) error { return nil }

// agentGetattr serves GETATTR with a time of change that is a little wrong, so
// that the guest's kernel drops the pages it has of the file even if the host
// changed it twice within a tick of its clock. The next answer is right again.
func (s *Server) agentGetattr(c *call, n *node) error {
	var st unix.Statx_t
	if err := statxFD(n.fd, &st); err != nil {
		return err
	}
	if n.isRegular() {
		st.Mtime.Nsec ^= 1
	}
	s.putAttrOut(&c.out, n, &st)
	return nil
}

// agentOpen serves OPEN without a file: the agent closes it at once.
func (s *Server) agentOpen(c *call, n *node) error {
	putOpenOut(&c.out, 0, fopenNoFlush)
	return nil
}
