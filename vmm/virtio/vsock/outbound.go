package vsock

import (
	"fmt"
	"net"
	"os"
)

// Outbound makes a Config.Dial of connected unix stream sockets by host port.
// Each may be dialled once; every other port is refused. The files become the
// returned function's, and those that are never dialled stay open.
func Outbound(files map[uint32]*os.File) func(port uint32) (*net.UnixConn, error) {
	return func(port uint32) (*net.UnixConn, error) {
		f := files[port]
		if f == nil {
			return nil, fmt.Errorf("dial host port %d: not served, or dialled before", port)
		}
		files[port] = nil
		defer f.Close()
		c, err := net.FileConn(f)
		if err != nil {
			return nil, fmt.Errorf("dial host port %d: %w", port, err)
		}
		u, ok := c.(*net.UnixConn)
		if !ok {
			c.Close()
			return nil, fmt.Errorf("dial host port %d: %T is not a unix socket", port, c)
		}
		return u, nil
	}
}
