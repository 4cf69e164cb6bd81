package export

import "golang.org/x/sys/unix"

// operation is how one opcode is served. One of session, node and root is the
// handler, by the node that the request names.
type operation struct {
	// in is the least length of the body in bytes, out what the fixed part
	// of the reply needs. Both are checked before a handler runs, so that no
	// handler does half its work and can't report it.
	in, out int
	// session serves requests that are about no node.
	session func(*Server, *call) error
	// node serves requests about a node of an export, which is pinned.
	node func(*Server, *call, *node) error
	// root serves requests about the share's root; without it they fail.
	root func(*Server, *call) error
	// mutates says that the request changes something: EROFS on the root and
	// in read-only exports. Handlers of OPEN and of what needs an open file
	// rely on the flags of that file.
	mutates bool
	// silent says that the request is never answered.
	silent bool
}

var operations = [opEnd]operation{
	opInit:        {in: 16, out: initOutSize, session: (*Server).initialize},
	opDestroy:     {session: (*Server).destroy},
	opForget:      {in: 8, session: (*Server).forget, silent: true},
	opBatchForget: {in: 8, session: (*Server).batchForget, silent: true},
	opInterrupt:   {in: 8, session: (*Server).interrupt, silent: true},

	opLookup:   {in: 2, out: entryOutSize, node: (*Server).lookup, root: (*Server).lookupRoot},
	opGetattr:  {in: 16, out: attrOutSize, node: (*Server).getattr, root: (*Server).getattrRoot},
	opStatx:    {in: 24, out: statxOutSize, node: (*Server).statx, root: (*Server).statxRoot},
	opSetattr:  {in: 88, out: attrOutSize, node: (*Server).setattr, mutates: true},
	opAccess:   {in: 8, node: (*Server).access, root: (*Server).accessRoot},
	opReadlink: {node: (*Server).readlink},
	opStatfs:   {out: statfsOutSize, node: (*Server).statfs, root: (*Server).statfsRoot},
	opSyncfs:   {in: 8, node: (*Server).syncfs, root: (*Server).syncfsRoot},

	opSymlink: {in: 4, out: entryOutSize, node: (*Server).symlink, mutates: true},
	opMknod:   {in: 18, out: entryOutSize, node: (*Server).mknod, mutates: true},
	opMkdir:   {in: 10, out: entryOutSize, node: (*Server).mkdir, mutates: true},
	opLink:    {in: 10, out: entryOutSize, node: (*Server).link, mutates: true},
	opUnlink:  {in: 2, node: (*Server).unlink, mutates: true},
	opRmdir:   {in: 2, node: (*Server).rmdir, mutates: true},
	opRename:  {in: 12, node: (*Server).rename, mutates: true},
	opRename2: {in: 20, node: (*Server).rename2, mutates: true},

	opCreate:  {in: 18, out: entryOutSize + openOutSize, node: (*Server).create, mutates: true},
	opTmpfile: {in: 16, out: entryOutSize + openOutSize, node: (*Server).tmpfile, mutates: true},
	opOpen:    {in: 8, out: openOutSize, node: (*Server).open},
	opRead:    {in: 40, node: (*Server).read},
	opWrite:   {in: writeInSize, out: 8, node: (*Server).write, mutates: true},
	opFlush:   {in: 24, node: (*Server).flush},
	opRelease: {in: 24, node: (*Server).release},
	opFsync:   {in: 16, node: (*Server).fsync},
	opLseek:   {in: 24, out: 8, node: (*Server).lseek},
	opIoctl:   {in: 32, out: ioctlOutSize, node: (*Server).ioctl, root: (*Server).ioctlRoot},

	opFallocate:     {in: 32, node: (*Server).fallocate, mutates: true},
	opCopyFileRange: {in: 56, out: 8, node: (*Server).copyFileRange},

	opOpendir:     {in: 8, out: openOutSize, node: (*Server).opendir, root: (*Server).opendirRoot},
	opReaddir:     {in: 40, node: (*Server).readdir, root: (*Server).readdirRoot},
	opReaddirplus: {in: 40, node: (*Server).readdirplus, root: (*Server).readdirplusRoot},
	opReleasedir:  {in: 24, node: (*Server).release, root: (*Server).nothingRoot},
	opFsyncdir:    {in: 16, node: (*Server).fsync, root: (*Server).nothingRoot},

	opSetxattr:    {in: 10, node: (*Server).setxattr, mutates: true},
	opGetxattr:    {in: 10, node: (*Server).getxattr, root: (*Server).getxattrRoot},
	opListxattr:   {in: 8, node: (*Server).listxattr, root: (*Server).listxattrRoot},
	opRemovexattr: {in: 2, node: (*Server).removexattr, mutates: true},

	opGetlk:  {in: 48, out: 24, node: (*Server).getlk},
	opSetlk:  {in: 48, node: (*Server).setlk},
	opSetlkw: {in: 48, node: (*Server).setlkw},
}

// Handle serves one request and returns the length of the reply in bytes; 0
// means that the guest gets none, because the request wants none or has no
// room for it. It returns when the request is done, which may take as long as
// the host's file system, and for a lock until it is granted, interrupted, or
// Interrupt is called.
func (s *Server) Handle(r *Request) int {
	c := calls.Get().(*call)
	defer c.release()
	ok, err := c.parse(r)
	if !ok {
		s.refuse("request without a header")
		return 0
	}
	if err != nil {
		s.refuse("request of another length than it says")
		return c.finish(err)
	}
	if c.opcode >= opEnd {
		return c.finish(unix.ENOSYS)
	}
	op := &operations[c.opcode]
	if op.silent {
		_ = s.serve(op, c)
		return 0
	}
	return c.finish(s.serve(op, c))
}

// serve checks a request against its operation and runs the handler.
func (s *Server) serve(op *operation, c *call) error {
	if op.session == nil && op.node == nil {
		return unix.ENOSYS
	}
	if err := s.admit(op, c); err != nil {
		return err
	}
	if s.opts.Agent != 0 && c.pid == s.opts.Agent {
		if c.nodeID >= firstPhantom {
			return s.serveElsewhere(c)
		}
		if op = asAgent(op, c.opcode); op.session == nil && op.node == nil {
			return unix.EPERM
		}
	}
	if op.session != nil {
		return op.session(s, c)
	}
	n := s.nodes.get(c.nodeID)
	if n == nil && c.nodeID == rootID {
		return s.serveRoot(op, c)
	}
	if n == nil {
		return unix.ESTALE
	}
	if op.mutates && n.exp.policy.ReadOnly {
		return unix.EROFS
	}
	if err := n.pin(s.host); err != nil {
		return err
	}
	defer n.unpin(s.host)
	return op.node(s, c, n)
}

// admit checks what holds for every request.
func (s *Server) admit(op *operation, c *call) error {
	if s.live.Load() == (c.opcode == opInit) {
		s.refuse("request before INIT, or a second INIT")
		return errMalformed
	}
	if len(c.body) < op.in {
		s.refuse("request is too short")
		return errMalformed
	}
	if !op.silent && c.room < op.out {
		s.refuse("no room for the reply")
		return errMalformed
	}
	return nil
}

func (s *Server) serveRoot(op *operation, c *call) error {
	switch {
	case op.root != nil:
		return op.root(s, c)
	case op.mutates:
		return unix.EROFS
	default:
		return unix.EINVAL
	}
}

// refuse counts a request against the protocol and tells of the first.
func (s *Server) refuse(why string) {
	s.malformed.Add(1)
	if !s.told.Swap(true) {
		s.logf("guest broke the file-system protocol: %s", why)
	}
}
