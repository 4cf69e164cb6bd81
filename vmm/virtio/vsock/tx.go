package vsock

import "github.com/microvm/microvm/vmm/virtio/queue"

// serveTx handles packets from the guest and says whether there may be more.
func (s *session) serveTx() (more bool, err error) {
	defer s.tx.Notify()
	s.txPaused = false
	for range budget {
		// Any packet can call for an answer. While none can be queued, the
		// guest's packets wait in its own memory.
		if s.control.len() >= maxControl {
			s.txPaused = true
			return false, nil
		}
		ok, err := s.tx.Pop(&s.txChain)
		if err != nil {
			return false, err
		}
		if ok {
			s.packet(&s.txChain)
			s.tx.Push(s.txChain.Head, 0)
		} else if !s.tx.EnableKick() {
			return false, nil
		}
	}
	return true, nil
}

// packet handles one packet from the guest (section 5.10.6).
func (s *session) packet(c *queue.Chain) {
	var b [headerSize]byte
	if c.Read(b[:], 0) < headerSize {
		s.fault(faultShort)
		return
	}
	h := decodeHeader(&b)
	if h.srcCID != s.device.config.GuestCID || h.dstCID != hostCID {
		s.fault(faultAddress) // dropped: an answer would go to somebody else
		return
	}
	st := s.streams[ports{guest: h.srcPort, host: h.dstPort}]
	switch {
	case h.typ != typeStream:
		s.fault(faultType)
		s.reject(&h)
	case st != nil:
		s.streamPacket(st, &h, c)
	case h.op == opRequest:
		s.accept(&h)
	default:
		s.reject(&h)
	}
}

// reject answers a packet that belongs to no stream (section 5.10.6.6).
func (s *session) reject(h *header) {
	if h.op != opRst {
		s.control.push(control{
			ports: ports{guest: h.srcPort, host: h.dstPort}, typ: h.typ, op: opRst,
		})
	}
}

// streamPacket handles a packet of st, which the guest knows.
func (s *session) streamPacket(st *stream, h *header, c *queue.Chain) {
	if h.op == opRst {
		s.guestReset(st)
		return
	}
	if f := st.check(h, c.ReadableLen-headerSize); f != faultNone {
		s.fault(f)
		s.reset(st)
		return
	}
	st.acknowledge(h)
	switch h.op {
	case opResponse:
		s.guestAccepted(st)
	case opRW:
		s.deliver(st, c.Readable, int(h.len))
	case opShutdown:
		s.guestShutdown(st, h.flags)
	case opCreditRequest:
		s.sendCredit(st)
	}
	s.settle(st)
}

// check says which rule a packet for st breaks. There are payload bytes behind
// the header.
func (st *stream) check(h *header, payload int) fault {
	want := phaseOpen
	switch h.op {
	case opRW, opShutdown, opCreditUpdate, opCreditRequest:
	case opResponse:
		want = phaseConnecting
	case opRequest:
		return faultState
	default:
		return faultOperation
	}
	switch {
	case st.phase != want:
		return faultState
	case st.ahead(h.fwdCnt):
		return faultForward
	case h.op == opRW:
		return st.checkData(h, payload)
	}
	return faultNone
}

func (st *stream) checkData(h *header, payload int) fault {
	switch {
	case int64(h.len) > int64(payload):
		return faultLength
	case st.guestShut&shutdownSend != 0:
		return faultState
	case uint64(st.received-st.forwarded)+uint64(h.len) > bufAlloc:
		return faultCredit
	}
	return faultNone
}
