package api

import (
	"errors"
	"io"
	"net"
	"sync"

	"golang.org/x/sys/unix"
)

// Stream is a connection that can be closed in one direction.
type Stream interface {
	net.Conn
	CloseWrite() error
}

// Join copies both ways until both ends have ended, or one has failed.
func Join(a, b Stream) {
	var both sync.WaitGroup
	for _, way := range [][2]Stream{{a, b}, {b, a}} {
		both.Go(func() {
			from, to := way[0], way[1]
			_, err := io.Copy(to, from)
			if err == nil {
				err = to.CloseWrite()
			}
			if err != nil && !errors.Is(err, unix.ENOTCONN) {
				a.Close()
				b.Close()
			}
		})
	}
	both.Wait()
}
