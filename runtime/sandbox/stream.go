package sandbox

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"

	"github.com/microvm/microvm/agent/api"
)

// OpenStream opens a connection for one of a process's standard streams. The
// agent knows it by url.
func (vm *VM) OpenStream(ctx context.Context) (c *net.UnixConn, url string, err error) {
	var unique [16]byte
	// crypto/rand never fails.
	_, _ = rand.Read(unique[:])
	id := hex.EncodeToString(unique[:])
	if c, err = vm.Dial(ctx, api.PortStream); err != nil {
		return nil, "", fmt.Errorf("open stream: %w", err)
	}
	if err := api.OpenStream(c, id); err != nil {
		c.Close()
		return nil, "", err
	}
	return c, api.StreamURL(id), nil
}
