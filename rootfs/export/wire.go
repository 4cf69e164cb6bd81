package export

// Version of the protocol that the server speaks, and the oldest minor version
// it accepts: the one that virtiofs appeared with.
const (
	protoMajor    = 7
	protoMinor    = 38
	protoMinMinor = 31
)

// rootID is the node id of the share's root (FUSE_ROOT_ID).
const rootID = 1

// Opcodes (enum fuse_opcode).
const (
	opLookup        = 1  // FUSE_LOOKUP
	opForget        = 2  // FUSE_FORGET
	opGetattr       = 3  // FUSE_GETATTR
	opSetattr       = 4  // FUSE_SETATTR
	opReadlink      = 5  // FUSE_READLINK
	opSymlink       = 6  // FUSE_SYMLINK
	opMknod         = 8  // FUSE_MKNOD
	opMkdir         = 9  // FUSE_MKDIR
	opUnlink        = 10 // FUSE_UNLINK
	opRmdir         = 11 // FUSE_RMDIR
	opRename        = 12 // FUSE_RENAME
	opLink          = 13 // FUSE_LINK
	opOpen          = 14 // FUSE_OPEN
	opRead          = 15 // FUSE_READ
	opWrite         = 16 // FUSE_WRITE
	opStatfs        = 17 // FUSE_STATFS
	opRelease       = 18 // FUSE_RELEASE
	opFsync         = 20 // FUSE_FSYNC
	opSetxattr      = 21 // FUSE_SETXATTR
	opGetxattr      = 22 // FUSE_GETXATTR
	opListxattr     = 23 // FUSE_LISTXATTR
	opRemovexattr   = 24 // FUSE_REMOVEXATTR
	opFlush         = 25 // FUSE_FLUSH
	opInit          = 26 // FUSE_INIT
	opOpendir       = 27 // FUSE_OPENDIR
	opReaddir       = 28 // FUSE_READDIR
	opReleasedir    = 29 // FUSE_RELEASEDIR
	opFsyncdir      = 30 // FUSE_FSYNCDIR
	opGetlk         = 31 // FUSE_GETLK
	opSetlk         = 32 // FUSE_SETLK
	opSetlkw        = 33 // FUSE_SETLKW
	opAccess        = 34 // FUSE_ACCESS
	opCreate        = 35 // FUSE_CREATE
	opInterrupt     = 36 // FUSE_INTERRUPT
	opDestroy       = 38 // FUSE_DESTROY
	opIoctl         = 39 // FUSE_IOCTL
	opBatchForget   = 42 // FUSE_BATCH_FORGET
	opFallocate     = 43 // FUSE_FALLOCATE
	opReaddirplus   = 44 // FUSE_READDIRPLUS
	opRename2       = 45 // FUSE_RENAME2
	opLseek         = 46 // FUSE_LSEEK
	opCopyFileRange = 47 // FUSE_COPY_FILE_RANGE
	opSyncfs        = 50 // FUSE_SYNCFS
	opTmpfile       = 51 // FUSE_TMPFILE
	opStatx         = 52 // FUSE_STATX
	opEnd           = 53
)

// Flags of INIT; bits from 32 up travel in flags2.
const (
	initAsyncRead       = 1 << 0  // FUSE_ASYNC_READ
	initPosixLocks      = 1 << 1  // FUSE_POSIX_LOCKS
	initAtomicOTrunc    = 1 << 3  // FUSE_ATOMIC_O_TRUNC
	initBigWrites       = 1 << 5  // FUSE_BIG_WRITES
	initFlockLocks      = 1 << 10 // FUSE_FLOCK_LOCKS
	initAutoInvalData   = 1 << 12 // FUSE_AUTO_INVAL_DATA
	initDoReaddirplus   = 1 << 13 // FUSE_DO_READDIRPLUS
	initReaddirplusAuto = 1 << 14 // FUSE_READDIRPLUS_AUTO
	initAsyncDIO        = 1 << 15 // FUSE_ASYNC_DIO
	initParallelDirops  = 1 << 18 // FUSE_PARALLEL_DIROPS
	initMaxPages        = 1 << 22 // FUSE_MAX_PAGES
	initCacheSymlinks   = 1 << 23 // FUSE_CACHE_SYMLINKS
	initDontMask        = 1 << 6  // FUSE_DONT_MASK
	initPosixACL        = 1 << 20 // FUSE_POSIX_ACL
	initSubmounts       = 1 << 27 // FUSE_SUBMOUNTS
	initKillprivV2      = 1 << 28 // FUSE_HANDLE_KILLPRIV_V2
	initExt             = 1 << 30 // FUSE_INIT_EXT
	initDirectIOMaps    = 1 << 36 // FUSE_DIRECT_IO_ALLOW_MMAP
	initAllowIDMap      = 1 << 40 // FUSE_ALLOW_IDMAP
)

// Bits of fuse_setattr_in.valid.
const (
	setMode     = 1 << 0  // FATTR_MODE
	setUID      = 1 << 1  // FATTR_UID
	setGID      = 1 << 2  // FATTR_GID
	setSize     = 1 << 3  // FATTR_SIZE
	setAtime    = 1 << 4  // FATTR_ATIME
	setMtime    = 1 << 5  // FATTR_MTIME
	setFH       = 1 << 6  // FATTR_FH
	setAtimeNow = 1 << 7  // FATTR_ATIME_NOW
	setMtimeNow = 1 << 8  // FATTR_MTIME_NOW
	setKillPriv = 1 << 11 // FATTR_KILL_SUIDGID
)

// Smaller sets of flags.
const (
	attrSubmount    = 1 << 0 // FUSE_ATTR_SUBMOUNT
	openKillPriv    = 1 << 0 // FUSE_OPEN_KILL_SUIDGID
	fopenDirectIO   = 1 << 0 // FOPEN_DIRECT_IO
	fopenKeepCache  = 1 << 1 // FOPEN_KEEP_CACHE
	fopenCacheDir   = 1 << 3 // FOPEN_CACHE_DIR
	fopenNoFlush    = 1 << 5 // FOPEN_NOFLUSH
	fopenParallel   = 1 << 6 // FOPEN_PARALLEL_DIRECT_WRITES
	writeCache      = 1 << 0 // FUSE_WRITE_CACHE
	writeKillPriv   = 1 << 2 // FUSE_WRITE_KILL_SUIDGID
	fsyncDataOnly   = 1 << 0 // FUSE_FSYNC_FDATASYNC
	lockFlock       = 1 << 0 // FUSE_LK_FLOCK
	releaseFlush    = 1 << 0 // FUSE_RELEASE_FLUSH
	renameNoReplace = 1 << 0 // RENAME_NOREPLACE
	renameExchange  = 1 << 1 // RENAME_EXCHANGE
	renameWhiteout  = 1 << 2 // RENAME_WHITEOUT
)

// Sizes in bytes of structures on the wire.
const (
	inHeaderSize  = 40  // struct fuse_in_header
	outHeaderSize = 16  // struct fuse_out_header
	writeInSize   = 40  // struct fuse_write_in
	attrSize      = 88  // struct fuse_attr
	attrOutSize   = 104 // struct fuse_attr_out
	entryOutSize  = 128 // struct fuse_entry_out
	openOutSize   = 16  // struct fuse_open_out
	direntSize    = 24  // struct fuse_dirent without its name
	initOutSize   = 64  // struct fuse_init_out
	statfsOutSize = 80  // struct fuse_statfs_out
	statxOutSize  = 288 // struct fuse_statx_out
	ioctlOutSize  = 16  // struct fuse_ioctl_out
)

// Limits.
const (
	// maxIO is the largest READ or WRITE in bytes.
	maxIO = 1 << 20
	// maxPages is maxIO in pages of 4 KiB.
	maxPages = maxIO / 4096
	// maxBody is the longest request, the data of WRITE apart, in bytes.
	maxBody = maxIO
	// maxName is NAME_MAX.
	maxName = 255
	// maxXattr is XATTR_SIZE_MAX and XATTR_LIST_MAX.
	maxXattr = 64 << 10
)
