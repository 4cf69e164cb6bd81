package vhostuser

import (
	"encoding/binary"
	"fmt"
	"os"

	"github.com/microvm/microvm/vmm/virtio"
)

// anySize marks requests that check the size of their payload themselves.
const anySize = -1

// handler serves one type of request.
type handler struct {
	name string
	size int // of the payload in bytes
	fds  int // the most descriptors that may come along
	run  func(*Server, *message) ([]byte, error)
}

var handlers = map[request]handler{
	getFeatures:         {"get features", 0, 0, (*Server).getFeatures},
	setFeatures:         {"set features", u64Size, 0, (*Server).setFeatures},
	setOwner:            {"set owner", 0, 0, ignore},
	resetOwner:          {"reset owner", 0, 0, (*Server).resetOwner},
	setMemTable:         {"set memory table", anySize, maxRegions, (*Server).setMemTable},
	setVringNum:         {"set ring size", vringStateSize, 0, (*Server).setVringNum},
	setVringAddr:        {"set ring address", vringAddrSize, 0, (*Server).setVringAddr},
	setVringBase:        {"set ring base", vringStateSize, 0, (*Server).setVringBase},
	getVringBase:        {"get ring base", vringStateSize, 0, (*Server).getVringBase},
	setVringKick:        {"set ring kick", u64Size, 1, (*Server).setVringKick},
	setVringCall:        {"set ring call", u64Size, 1, (*Server).setVringCall},
	setVringErr:         {"set ring error", u64Size, 1, (*Server).setVringErr},
	getProtocolFeatures: {"get protocol features", 0, 0, (*Server).getProtocolFeatures},
	setProtocolFeatures: {"set protocol features", u64Size, 0, (*Server).setProtocolFeatures},
	getQueueNum:         {"get number of queues", 0, 0, (*Server).getQueueNum},
	setVringEnable:      {"enable ring", vringStateSize, 0, (*Server).setVringEnable},
	getConfig:           {"get configuration", anySize, 0, (*Server).getConfig},
	setConfig:           {"set configuration", anySize, 0, (*Server).setConfig},
}

func ignore(*Server, *message) ([]byte, error) { return nil, nil }

func (s *Server) offered() uint64 {
	return s.dev.Features() | virtio.TransportFeatures | featureProtocol
}

func (s *Server) offeredProtocol() uint64 {
	p := protocolMQ | protocolReplyAck
	if !s.opts.NoConfig {
		p |= protocolConfig
	}
	return p
}

func (s *Server) getFeatures(*message) ([]byte, error) {
	return encodeU64(s.offered()), nil
}

func (s *Server) setFeatures(m *message) ([]byte, error) {
	f := binary.NativeEndian.Uint64(m.payload)
	if f&^s.offered() != 0 {
		return nil, fmt.Errorf("%w: features %#x were not offered", ErrProtocol, f&^s.offered())
	}
	if f != s.features {
		s.pause()
		s.features = f
	}
	return nil, nil
}

func (s *Server) getProtocolFeatures(*message) ([]byte, error) {
	return encodeU64(s.offeredProtocol()), nil
}

func (s *Server) setProtocolFeatures(m *message) ([]byte, error) {
	f := binary.NativeEndian.Uint64(m.payload)
	if f&^s.offeredProtocol() != 0 {
		return nil, fmt.Errorf("%w: protocol features %#x were not offered", ErrProtocol, f&^s.offeredProtocol())
	}
	s.protocol = f
	return nil, nil
}

func (s *Server) getQueueNum(*message) ([]byte, error) {
	return encodeU64(uint64(len(s.rings))), nil
}

// resetOwner disables all rings and keeps the rest, as the protocol recommends
// for this obsolete request.
func (s *Server) resetOwner(*message) ([]byte, error) {
	for _, r := range s.rings {
		r.enabled = false
	}
	return nil, nil
}

// setMemTable maps the new table. A device that runs on regions which the new
// table keeps goes on with the old mapping; otherwise it is reset first.
func (s *Server) setMemTable(m *message) ([]byte, error) {
	regions, err := parseMemTable(m.payload)
	if err != nil {
		return nil, err
	}
	if len(regions) != len(m.fds) {
		return nil, fmt.Errorf("%w: %d regions with %d descriptors", ErrProtocol, len(regions), len(m.fds))
	}
	files := make([]*os.File, len(m.fds))
	for i := range files {
		files[i] = os.NewFile(uintptr(m.takeFD(i)), "guest memory")
	}
	t, err := mapTable(regions, files)
	if err != nil {
		return nil, err
	}
	if s.active == nil || !t.covers(s.active) {
		s.pause()
	}
	if s.table != nil && s.table != s.active {
		_ = s.table.close()
	}
	s.table = t
	return nil, nil
}

func (s *Server) getConfig(m *message) ([]byte, error) {
	c, err := parseConfigSpace(m.payload)
	if err != nil {
		return nil, err
	}
	s.dev.ReadConfig(c.offset, c.data)
	return c.encode(), nil
}

func (s *Server) setConfig(m *message) ([]byte, error) {
	c, err := parseConfigSpace(m.payload)
	if err != nil {
		return nil, err
	}
	s.dev.WriteConfig(c.offset, c.data)
	return nil, nil
}
