package container

// cleanup is a stack of things to undo, last first, unless released.
type cleanup []func()

func (c *cleanup) add(undo func()) { *c = append(*c, undo) }

func (c *cleanup) run() {
	for i := len(*c) - 1; i >= 0; i-- {
		(*c)[i]()
	}
	*c = nil
}
