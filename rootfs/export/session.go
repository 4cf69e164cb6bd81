package export

import (
	"golang.org/x/sys/unix"
)

// wanted are the features that are used if the guest's kernel has them.
const wanted = initAsyncRead | initAtomicOTrunc | initBigWrites | initAutoInvalData |
	initDoReaddirplus | initReaddirplusAuto | initAsyncDIO | initParallelDirops |
	initMaxPages | initCacheSymlinks | initKillprivV2 | initExt |
	initPosixACL | initDontMask | initAllowIDMap | initDirectIOMaps

// maxBackground is how many read-ahead and write-back requests the guest may
// have under way.
const maxBackground = 64

// initialize serves INIT (struct fuse_init_in, struct fuse_init_out).
func (s *Server) initialize(c *call) error {
	in := c.args()
	major, minor, readahead, flags := in.u32(), in.u32(), in.u32(), uint64(in.u32())
	if flags&initExt != 0 {
		flags |= uint64(in.u32()) << 32
	}
	if major > protoMajor {
		// The guest has to ask again with our version.
		s.initReply(c, 0, 0)
		return nil
	}
	if major < protoMajor || minor < protoMinMinor {
		return unix.EPROTO
	}
	flags &= s.features()
	s.umasks.Store(flags&initDontMask != 0)
	s.directMaps.Store(flags&initDirectIOMaps != 0)
	s.initReply(c, readahead, flags)
	s.live.Store(true)
	return nil
}

// features are the flags of INIT that the server would like.
func (s *Server) features() uint64 {
	f := uint64(wanted)
	if s.opts.Locks {
		f |= initPosixLocks | initFlockLocks
	}
	if s.opts.Submounts {
		f |= initSubmounts
	}
	return f
}

func (s *Server) initReply(c *call, readahead uint32, flags uint64) {
	o := &c.out
	o.u32(protoMajor)
	o.u32(protoMinor)
	o.u32(readahead)
	o.u32(uint32(flags))
	o.u16(maxBackground)
	o.u16(maxBackground * 3 / 4) // congestion_threshold
	o.u32(maxIO)                 // max_write
	o.u32(1)                     // time_gran, in nanoseconds
	o.u16(maxPages)
	o.u16(0) // map_alignment
	o.u32(uint32(flags >> 32))
	o.zero(28)
}

// destroy serves DESTROY, the end of a mount in the guest. A new INIT may
// follow.
func (s *Server) destroy(*call) error {
	s.endSession()
	return nil
}

// forget serves FORGET (struct fuse_forget_in).
func (s *Server) forget(c *call) error {
	in := c.args()
	s.forgetNode(c.nodeID, in.u64())
	return nil
}

// batchForget serves BATCH_FORGET (struct fuse_batch_forget_in).
func (s *Server) batchForget(c *call) error {
	in := c.args()
	count := uint64(in.u32())
	in.skip(4)
	if count > uint64(len(in.b))/16 {
		s.refuse("BATCH_FORGET is shorter than it says")
		return errMalformed
	}
	for range count {
		id, lookups := in.u64(), in.u64()
		s.forgetNode(id, lookups)
	}
	return nil
}

func (s *Server) forgetNode(id, lookups uint64) {
	if n := s.nodes.forget(id, lookups); n != nil {
		n.drop(s.host)
	}
}
