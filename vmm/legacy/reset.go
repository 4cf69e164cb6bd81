package legacy

// i8042Reset is the command that pulses the processor's reset line.
const i8042Reset = 0xfe

// I8042 is a keyboard controller with nothing connected, for the five ports
// from 0x60 to 0x64.
type I8042 struct {
	reset func()
}

// NewI8042 makes a controller that calls reset when the guest reboots, maybe
// more than once and from any vCPU.
func NewI8042(reset func()) *I8042 { return &I8042{reset: reset} }

// Read implements bus.Device: status zero says that there is nothing to read
// and room for a command.
func (k *I8042) Read(_ uint64, p []byte) { clear(p) }

// Write implements bus.Device.
func (k *I8042) Write(offset uint64, p []byte) {
	const command = 0x64 - 0x60
	if offset == command && len(p) == 1 && p[0] == i8042Reset {
		k.reset()
	}
}

// ExitPort switches the machine off when a byte is written to it.
type ExitPort struct {
	exit func(code byte)
}

// NewExitPort makes a port that calls exit with what was written, maybe more
// than once and from any vCPU.
func NewExitPort(exit func(code byte)) *ExitPort { return &ExitPort{exit: exit} }

// Read implements bus.Device.
func (e *ExitPort) Read(_ uint64, p []byte) { clear(p) }

// Write implements bus.Device.
func (e *ExitPort) Write(_ uint64, p []byte) {
	if len(p) == 1 {
		e.exit(p[0])
	}
}
