package guest

import (
	"net"
	"sync"
)

// oneConn is a listener that accepts one connection, which is there already.
type oneConn struct {
	conn   net.Conn
	once   sync.Once
	closed chan struct{}
	taken  chan struct{}
}

// OneConn makes a listener whose only connection is conn. After it, Accept
// blocks until Close.
func OneConn(conn net.Conn) net.Listener {
	l := &oneConn{conn: conn, closed: make(chan struct{}), taken: make(chan struct{}, 1)}
	l.taken <- struct{}{}
	return l
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case <-l.taken:
		return l.conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *oneConn) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *oneConn) Addr() net.Addr { return l.conn.LocalAddr() }
