package sandbox

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"

	"github.com/microvm/microvm/agent/api"
)

// OpenStream opens a connection for one of a process's standard streams in the
// guest whose machine made socket. The agent knows it by its id.
func OpenStream(ctx context.Context, socket string) (c *net.UnixConn, id string, err error) {
	var unique [16]byte
	// crypto/rand never fails.
	_, _ = rand.Read(unique[:])
	id = hex.EncodeToString(unique[:])
	if c, err = Dial(ctx, socket, api.PortStream); err != nil {
		return nil, "", fmt.Errorf("open stream: %w", err)
	}
	if err := api.OpenStream(c, id); err != nil {
		c.Close()
		return nil, "", err
	}
	return c, id, nil
}
