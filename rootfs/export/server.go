package export

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
)

// Options tune a server. The zero value is good.
type Options struct {
	// Locks takes POSIX and BSD locks on the host's files, so that they hold
	// against the host and other VMs too. Without it the guest's kernel keeps
	// them among its own processes. Off by default: virtiofs does not pass
	// interrupts on (virtio_fs_send_interrupt in fs/fuse/virtio_fs.c), so that
	// a process waiting for a lock of the host can't even be killed.
	Locks bool
	// Submounts announces every export, and every mount inside one, as a
	// device of its own.
	Submounts bool
	// Agent is the thread of the guest, as its first pid namespace numbers it,
	// that asks for changes on the host (package rootfs/changes) and changes
	// nothing itself: its requests have no effect. 0 means that there is none.
	Agent uint32
	// CachedDescriptors is how many descriptors of files that are not open
	// the server keeps; others are opened again where the guest has found them.
	// 0 means 8192.
	CachedDescriptors int
	// Known is how many files the guest may know of at a time, of each of which the
	// server takes a note until the guest forgets it; then ENFILE. 0 means 4 million.
	Known int
	// Logf, if set, is told of a guest that breaks the protocol, once per
	// session, and of the host's own faults.
	Logf func(format string, args ...any)
}

// Server answers FUSE requests. All methods may be called concurrently.
type Server struct {
	opts   Options
	host   *host
	live   atomic.Bool // between INIT and DESTROY
	umasks atomic.Bool // the guest leaves umasks to the server
	// directMaps says that the guest can map a file that it must not cache.
	directMaps atomic.Bool

	exports registry
	nodes   nodeTable
	handles handleTable
	waits   waitTable
	inodes  inodeNumbers
	watches watchTable

	phantoms  atomic.Uint64
	malformed atomic.Uint64
	told      atomic.Bool // of the first malformed request of the session
}

// NewServer returns a server without exports. It sets what the whole process
// shares: the umask becomes 0, as the guest has applied its own to every mode
// it sends, and RLIMIT_NOFILE is raised as far as it may be.
func NewServer(opts Options) (*Server, error) {
	if opts.CachedDescriptors <= 0 {
		opts.CachedDescriptors = 8192
	}
	if opts.Known <= 0 {
		opts.Known = 4 << 20
	}
	h, err := newHost(opts.CachedDescriptors)
	if err != nil {
		return nil, fmt.Errorf("start file-system server: %w", err)
	}
	s := &Server{opts: opts, host: h}
	s.exports.init()
	s.nodes.init(opts.Known)
	s.handles.init()
	s.waits.init()
	s.inodes.init()
	s.watches.init()
	return s, nil
}

// AddExport shows f, a directory or regular file opened in any way (O_PATH
// will do), as name in the share's root. The server makes its own descriptor;
// f stays the caller's. It fails with an error that wraps os.ErrExist when the
// name is taken and os.ErrInvalid when the name or the file can't be exported.
func (s *Server) AddExport(name string, f *os.File, p Policy) error {
	if err := checkName(name); err != nil {
		return fmt.Errorf("add export %q: %w: %w", name, os.ErrInvalid, err)
	}
	e, err := s.newExport(name, f, p)
	if err != nil {
		return fmt.Errorf("add export %q: %w", name, err)
	}
	if err := s.exports.add(e); err != nil {
		s.retire(e)
		return fmt.Errorf("add export %q: %w", name, err)
	}
	return nil
}

// ExportAsRoot makes f, a directory opened in any way, the root of the share
// itself, in place of the synthetic one. It is for a share of a single export,
// before the first request; f stays the caller's.
func (s *Server) ExportAsRoot(f *os.File, p Policy) error {
	if len(s.exports.all()) > 0 {
		return fmt.Errorf("export as root: %w: there are other exports", os.ErrExist)
	}
	e, err := s.newExport("", f, p)
	if err != nil {
		return fmt.Errorf("export as root: %w", err)
	}
	if !e.root.isDir() {
		s.retire(e)
		return fmt.Errorf("export as root: %w: not a directory", os.ErrInvalid)
	}
	s.nodes.makeRoot(e.root)
	return s.exports.add(e)
}

// ReadCredentials takes note of the process's ids and capabilities, as NewServer
// does. It is to be called when they have changed, while no request is in flight.
func (s *Server) ReadCredentials() error { return s.host.creds.read() }

// RemoveExport takes name away from the guest: what it has looked up or opened
// there answers ESTALE from now on. When it returns, the server holds no
// descriptor of the export any more, so that its file system can be unmounted.
func (s *Server) RemoveExport(name string) error {
	e := s.exports.remove(name)
	if e == nil {
		return fmt.Errorf("remove export %q: %w", name, os.ErrNotExist)
	}
	s.retire(e)
	return nil
}

// retire drops everything that belongs to e, which is not registered any more,
// and waits for the requests that use it.
func (s *Server) retire(e *export) {
	close(e.gone)
	s.dropWatches(func(n *node) bool { return n.exp == e })
	s.dropHandles(func(h *handle) bool { return h.node.exp == e })
	s.dropNodes(func(n *node) bool { return n.exp == e })
	<-e.closed
}

func (s *Server) dropHandles(match func(*handle) bool) {
	for _, h := range s.handles.take(match) {
		s.put(h)
	}
}

func (s *Server) dropNodes(match func(*node) bool) {
	for _, n := range s.nodes.take(match) {
		n.drop(s.host)
	}
}

// Malformed is how many requests broke the protocol so far.
func (s *Server) Malformed() uint64 { return s.malformed.Load() }

// Interrupt makes every request that waits for a lock fail with EINTR, now
// and until the next Reset. Call it before waiting for requests in flight.
func (s *Server) Interrupt() { s.waits.close() }

// Reset forgets the guest: its session, nodes, open files and locks. Exports
// stay. No request may be in flight.
func (s *Server) Reset() {
	s.endSession()
	s.waits.init()
}

// endSession forgets what the guest has looked up and opened.
func (s *Server) endSession() {
	s.live.Store(false)
	s.dropWatches(func(*node) bool { return true })
	s.dropHandles(func(*handle) bool { return true })
	s.dropNodes(func(n *node) bool { return !n.isRoot() })
	s.told.Store(false)
}

// Close resets the server, removes every export and gives back the server's
// descriptors. The server must not be used afterwards.
func (s *Server) Close() error {
	s.Interrupt()
	s.Reset()
	for _, e := range s.exports.all() {
		if err := s.RemoveExport(e.name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return s.host.close()
}

func (s *Server) logf(format string, args ...any) {
	if s.opts.Logf != nil {
		s.opts.Logf(format, args...)
	}
}
