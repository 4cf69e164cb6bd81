package api

// What the agent understands in the types and options of the mounts that a root
// file system is made of, CreateTaskRequest.Rootfs. Like in containerd's mount
// manager, whose words these are, each mount up to the last that has a template in
// it is made in a place of its own.
const (
	// TransformFormat, before the type and a slash, has templates filled in:
	// {{ source N }}, {{ target N }} and {{ mount N }} are source, target and
	// place of mount N, {{ overlay N M }} the places from N to M, as lowerdir
	// wants them.
	TransformFormat = "format"
	// TransformMkdir makes the directories of the options OptionMkdir, each of
	// which is PATH[:MODE[:UID:GID]].
	TransformMkdir = "mkdir"
	OptionMkdir    = "X-containerd.mkdir.path"
	// LoopType is no file system, but makes the source a device, which is its
	// place.
	LoopType = "loop"
	// OptionUserXattr is an overlay's whose upper layer is on the share, where it
	// can keep its marks as attributes of users only. Those of lower layers, on
	// disks, are the usual ones.
	OptionUserXattr = "userxattr"
)
