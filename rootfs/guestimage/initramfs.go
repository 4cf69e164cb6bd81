package guestimage

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cavaliergopher/cpio"
)

// ErrNoAgent says that the agent has no bytes: a guest with such an init panics
// before it can say why.
var ErrNoAgent = errors.New("agent is empty")

// agentMode is a regular file that everybody may run and its owner may write.
const agentMode = cpio.TypeReg | 0o755

// WriteInitramfs writes an initramfs to w whose only file, /init, is the agent:
// size bytes read from agent.
//
// /dev/console is not in it, as the archive built into every kernel
// (usr/default_cpio_list) already makes that node. The result is a newc cpio,
// not compressed: unpacking costs a guest more time than a VMM needs to load
// the larger file. Equal agents give equal bytes.
func WriteInitramfs(w io.Writer, agent io.Reader, size int64) error {
	if size <= 0 {
		return ErrNoAgent
	}
	archive := cpio.NewWriter(w)
	init := &cpio.Header{Name: "init", Mode: agentMode, Links: 1, ModTime: time.Unix(0, 0), Size: size}
	if err := archive.WriteHeader(init); err != nil {
		return fmt.Errorf("write header of init: %w", err)
	}
	if _, err := io.CopyN(archive, agent, size); err != nil {
		return fmt.Errorf("copy agent: %w", err)
	}
	if err := archive.Close(); err != nil {
		return fmt.Errorf("finish initramfs: %w", err)
	}
	return nil
}
