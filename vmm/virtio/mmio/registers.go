package mmio

// register is one 32-bit register of section 4.2.2, table 4.1.
type register struct {
	name   string
	offset uint64
	// read and write are nil where the register has no such direction. They
	// run under mu.
	read  func(t *Transport) uint32
	write func(t *Transport, v uint32) bool
}

// Values of the identifying registers.
const (
	magic   = 0x74726976 // "virt"
	version = 2
	vendor  = 0x4d56_4d4d // "MMVM"
)

// Offsets that are used by name. Configuration space runs from offsetConfig to
// the end of the page.
const (
	offsetNotify = 0x050
	offsetConfig = 0x100

	// Size is the length of the register page in bytes.
	Size = 0x1000
)

// noRegion is what length and base of a shared memory region that does not
// exist read as (section 4.2.2.1).
const noRegion = 0xffff_ffff

var registers = []register{
	{"MagicValue", 0x000, constant(magic), nil},
	{"Version", 0x004, constant(version), nil},
	{"DeviceID", 0x008, func(t *Transport) uint32 { return uint32(t.dev.ID()) }, nil},
	{"VendorID", 0x00c, constant(vendor), nil},
	{"DeviceFeatures", 0x010, (*Transport).deviceFeatures, nil},
	{"DeviceFeaturesSel", 0x014, nil, func(t *Transport, v uint32) bool { t.deviceSel = v; return true }},
	{"DriverFeatures", 0x020, nil, (*Transport).setDriverFeatures},
	{"DriverFeaturesSel", 0x024, nil, func(t *Transport, v uint32) bool { t.driverSel = v; return true }},
	{"QueueSel", 0x030, nil, func(t *Transport, v uint32) bool { t.queueSel = v; return true }},
	{"QueueNumMax", 0x034, (*Transport).queueMax, nil},
	{"QueueNum", 0x038, nil, (*Transport).setQueueNum},
	{"QueueReady", 0x044, (*Transport).queueReady, (*Transport).setQueueReady},
	{"QueueNotify", offsetNotify, nil, (*Transport).notify},
	{"InterruptStatus", 0x060, (*Transport).interruptStatus, nil},
	{"InterruptACK", AckOffset, nil, (*Transport).acknowledge},
	{"Status", 0x070, (*Transport).readStatus, (*Transport).setStatus},
	{"QueueDescLow", 0x080, nil, low(func(q *setup) *uint64 { return &q.desc })},
	{"QueueDescHigh", 0x084, nil, high(func(q *setup) *uint64 { return &q.desc })},
	{"QueueDriverLow", 0x090, nil, low(func(q *setup) *uint64 { return &q.driver })},
	{"QueueDriverHigh", 0x094, nil, high(func(q *setup) *uint64 { return &q.driver })},
	{"QueueDeviceLow", 0x0a0, nil, low(func(q *setup) *uint64 { return &q.device })},
	{"QueueDeviceHigh", 0x0a4, nil, high(func(q *setup) *uint64 { return &q.device })},
	{"SHMSel", 0x0ac, nil, func(*Transport, uint32) bool { return true }},
	{"SHMLenLow", 0x0b0, constant(noRegion), nil},
	{"SHMLenHigh", 0x0b4, constant(noRegion), nil},
	{"SHMBaseLow", 0x0b8, constant(noRegion), nil},
	{"SHMBaseHigh", 0x0bc, constant(noRegion), nil},
	{"ConfigGeneration", 0x0fc, func(t *Transport) uint32 { return t.generation.Load() }, nil},
}

// registerAt is registers by offset in words.
var registerAt = func() (index [offsetConfig / 4]*register) {
	for i := range registers {
		index[registers[i].offset/4] = &registers[i]
	}
	return index
}()

func constant(v uint32) func(*Transport) uint32 {
	return func(*Transport) uint32 { return v }
}

// low and high make the write of one half of a ring address.
func low(field func(*setup) *uint64) func(*Transport, uint32) bool {
	return func(t *Transport, v uint32) bool {
		return t.configureQueue(func(q *setup) { p := field(q); *p = *p&^0xffff_ffff | uint64(v) })
	}
}

func high(field func(*setup) *uint64) func(*Transport, uint32) bool {
	return func(t *Transport, v uint32) bool {
		return t.configureQueue(func(q *setup) { p := field(q); *p = *p&0xffff_ffff | uint64(v)<<32 })
	}
}
